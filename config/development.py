"""For a developer's machine."""

SECRET_KEY = "development only"  # noqa: S105 - says so itself; production reads the environment
