"""The engine's servers, for what attacks them."""

from __future__ import annotations

from tests.engine.conftest import engine, hasty, start

__all__ = ["engine", "hasty", "start"]
