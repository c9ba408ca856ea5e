"""What a reply repeats of its question: never more than was asked, so that nobody can make us answer at length."""

from __future__ import annotations

from typing import Any

from repo_notify.engine.wire import jsoncodec
from repo_notify.engine.wire.packets import Spelling

__all__ = ["MARGIN", "USUAL_NAME", "Spelling", "echo"]

# By how many bytes what is repeated may be longer than the whole question: for a few numbers such as 1e9, which are
# written out, and for a few characters beyond ASCII towards clients that get ASCII.
MARGIN = 256
# So many characters of an event's name are repeated in any case.
USUAL_NAME = 32


def echo(action: Any, data: Any, spelling: Spelling | None) -> dict[str, Any]:
    """Return `{action, data}`, the object as it came, binary values as null.

    What would be longer than the question by more than MARGIN is null altogether, and so is what has no form in JSON.
    Without a spelling, as a stock server has none, the question counts as the same JSON in UTF-8.
    """
    has_binary = False

    def null(_: object) -> None:
        nonlocal has_binary
        has_binary = True

    asked = [action, data]
    try:
        text = jsoncodec.dumps(asked, null, ascii_only=spelling is None or spelling.ascii_only)
        size = spelling.size if spelling else len(jsoncodec.dumps(asked, null, ascii_only=False).encode())
    except (TypeError, ValueError):
        return _nothing_of(action)
    if len(text.encode()) > size + MARGIN:
        return _nothing_of(action)
    if has_binary:
        action, data = jsoncodec.loads(text)
    return {"action": action, "data": data}


def _nothing_of(action: Any) -> dict[str, Any]:
    return {"action": action if isinstance(action, str) and len(action) <= USUAL_NAME else None, "data": None}

