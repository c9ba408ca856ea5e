"""The teamspaces that host apps' tests write are ours, too."""

from repo_notify.testing.teamspaces import Teamspace, binary

__all__ = ["Teamspace", "binary"]
