"""The standalone service in a clone: `repo_notify.wsgi` with the configuration files of `config/`.

`gunicorn -k repo_notify.gunicorn.Worker wsgi:app`; or `python wsgi.py`, on our own server and the address in HOST and
PORT (127.0.0.1:3000).
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

FOLDER = Path(__file__).parent / "config"

if __name__ == "__main__":
    try:
        app = create_app(folder=FOLDER)
        host, port = address_of(os.environ)
    except SettingsError as error:
        sys.exit(f"repo_notify does not start:\n{error}")
    serve(app, host=host, port=port, on_ready=print)
else:
    app = create_app(folder=FOLDER)
    end_with_process(app)
