"""For production: SECRET_KEY or SESSION_TYPE come from the environment, as the REST API has them."""

SESSION_COOKIE_SECURE = True
