"""What sits on gevent's WSGI server: requests read strictly, WebSockets, the gunicorn worker."""
