"""An unmodified 3D Repo backend: its exchange, its messages and its sessions (spec section 11)."""
