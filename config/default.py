"""What every environment shares; read first, by path, before the one that REPO_NOTIFY_ENV names."""

SESSION_COOKIE_NAME = "connect.sid"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
REPO_NOTIFY_CHAT_PATH = "/chat"
