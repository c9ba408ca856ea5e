"""The standalone service as a WSGI application: `gunicorn -k repo_notify.gunicorn.Worker repo_notify.wsgi:app`.

Settings come from the environment.
"""

from __future__ import annotations

from .app import create_app
from .serving import end_with_process

app = create_app()
end_with_process(app)
