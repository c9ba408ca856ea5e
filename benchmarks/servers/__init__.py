"""The peers, each a process of its own: ours, stock Flask-SocketIO, a Node service, and a C loop of `send()`."""
