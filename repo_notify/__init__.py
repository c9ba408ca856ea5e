"""Real-time notifications for a Flask REST API in 3D Repo's shape."""
