"""The service within a Flask app: its routes, its place in the WSGI app, the origins it lets in."""
