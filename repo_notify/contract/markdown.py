"""The events table of the documentation, generated from the catalogue and from `legacy_v4`'s names."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from repo_notify.events import EVENT_TYPES, Event, SessionsEnded
from repo_notify.protocol.rows import LOGGED_OUT, V5_EVENTS, Delivery, v5_deliveries

NONE = "—"
_SPECIMENS: dict[str, Any] = {"data": {"status": ""}, "issues": [], "session_ids": [], "kind": None}


def events_markdown() -> str:
    """Return a row for each event: its class, what it carries, and its names on the wire in either protocol."""
    v4 = _v4_deliveries()
    columns = ["event", "fields", "v5 events (room)"] + ([f"v4 events, {names} names" for names in v4])
    lines = [_line(columns), _line(["---"] * len(columns), "")]
    for name, event in EVENT_TYPES.items():
        fields = ", ".join(f"`{field}`" for field in _fields(event))
        cells = [_v5_cell(event), *(_v4_cell(event, deliver) for deliver in v4.values())]
        lines.append(_line([f"`{name}`", fields, *cells]))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str], pad: str = " ") -> str:
    return "|" + "|".join(f"{pad}{cell}{pad}" for cell in cells) + "|"


def _fields(event: type[Event]) -> list[str]:
    return [field.name for field in dataclasses.fields(event) if field.name != "emitter"]


def _specimen(event: type[Event], kind: str | None = None) -> Event:
    """Return an event whose ids are placeholders, so that the tables' own templates write the documentation."""
    values = {name: _SPECIMENS.get(name, f"<{name}>") for name in _fields(event)}
    return event(**(values | {"kind": kind} if "kind" in values else values))


def _v5_cell(event: type[Event]) -> str:
    if event is SessionsEnded:
        return f"`{LOGGED_OUT}`"
    row = V5_EVENTS.get(event)
    if row is None:
        return NONE
    found = [delivery for kind in row.names for delivery in v5_deliveries(_specimen(event, kind))]
    return f"{_names(found)} ({found[0].rooms[0].kind})"


def _v4_cell(event: type[Event], deliver: Callable[[Event], list[Delivery]]) -> str:
    if event is SessionsEnded:
        return f"`{LOGGED_OUT}`"
    found = deliver(_specimen(event, "container"))
    return _names(found) if found else NONE


def _names(found: list[Delivery]) -> str:
    return " ".join(f"`{delivery.name}`" for delivery in found)


def _v4_deliveries() -> dict[str, Callable[[Event], list[Delivery]]]:
    """Return how events are delivered under each set of v4 names; nothing where `legacy_v4` was removed."""
    try:
        names = importlib.import_module("legacy_v4.names")
    except ModuleNotFoundError:
        return {}
    return {chosen: partial(names.v4_deliveries, chosen) for chosen in ("2018", "2019")}
