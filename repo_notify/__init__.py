"""Real-time notifications for a Flask REST API in 3D Repo's shape."""

from __future__ import annotations

__version__ = "0.1.0"
