"""The standalone service: `gunicorn -k repo_notify.gunicorn.Worker wsgi:app`.

`python wsgi.py` runs it on our own server, on the address in HOST and PORT (127.0.0.1:3000).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # gunicorn's gevent workers patch by themselves, before they load this file.
    from gevent import monkey

    monkey.patch_all()

from repo_notify.app import address_of, create_app
from repo_notify.errors import SettingsError
from repo_notify.serving import end_with_process, serve

try:
    app = create_app(folder=Path(__file__).parent / "config")
except SettingsError as error:
    sys.exit(f"repo_notify does not start:\n{error}")

if __name__ == "__main__":
    try:
        host, port = address_of(os.environ)
        serve(app, host=host, port=port, on_ready=print)
    except SettingsError as error:
        sys.exit(f"repo_notify does not start:\n{error}")
else:
    end_with_process(app)
