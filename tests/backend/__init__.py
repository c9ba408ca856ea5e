"""Tests of the place beside an unmodified 3D Repo backend."""
