"""An unmodified 3D Repo backend."""
