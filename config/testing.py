"""For the tests."""

TESTING = True
SECRET_KEY = "testing only"  # noqa: S105 - says so itself
REPO_NOTIFY_SHUTDOWN_TIMEOUT = 2
