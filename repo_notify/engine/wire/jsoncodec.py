"""JSON of up to `MAX_DEPTH` levels on every interpreter: the standard library's codec, else an explicit stack.

CPython 3.10 and 3.11 count the levels of JSON among the frames of who asks: their codec gives up before, now and then.

Both directions refuse NaN and infinities (RFC 8259 section 6). The output is ASCII, or as it leaves in UTF-8, no longer
than the same strings came in; lone surrogates, which UTF-8 has no form for, stay escaped in either.
"""

from __future__ import annotations

import json
import math
import re
from _json import encode_basestring, encode_basestring_ascii, make_encoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any, NoReturn

from .errors import ProtocolError

# MongoDB stores 100 levels. What arrives deeper is no JSON of ours: somebody tries how much work it makes.
MAX_DEPTH = 1000

Default = Callable[[object], object]
_BLANK = frozenset(" \t\n\r")
_END = object()
_JSON_TYPES = (str, int, float, list, tuple, dict, type(None))
# The last one may have no end.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_SPACE = re.compile(r"[ \t\n\r]*")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("number out of range")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_COMPACT = (",", ":")


def _encode_by(ascii_only: bool) -> make_encoder:
    """What the library's encoder makes anew for each value, which takes as long as a short value does.

    It does not look for circles, which are found where the value is too deep.
    """
    of = json.JSONEncoder(allow_nan=False, separators=_COMPACT)
    encode = encode_basestring_ascii if ascii_only else encode_basestring
    return make_encoder(None, of.default, encode, None, of.key_separator, of.item_separator, False, False, False)


# By whether the output is ASCII.
_ENCODE = {ascii_only: _encode_by(ascii_only) for ascii_only in (True, False)}
_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(text: str) -> Any:
    """The value that `text` holds; ProtocolError where it is not JSON (RFC 8259), as NaN is not, or too deep."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ProtocolError("JSON nested too deeply")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        pass  # deeper than the interpreter's stack: below, outside of the handler, without it
    except ValueError:
        raise ProtocolError("invalid JSON") from None
    try:
        return _loads_deep(text)
    except (ValueError, IndexError):
        raise ProtocolError("invalid JSON") from None


def _depth(text: str) -> int:
    """How deep the brackets of a text go that stand outside of its strings, be it JSON or not."""
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text))
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANK:
        return at
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _key(text: str, at: int) -> tuple[str, int]:
    """An object's key and the place after its colon."""
    if text[at] != '"':
        raise ValueError("a key is a string")
    key, at = _DECODER.raw_decode(text, at)
    at = _skip(text, at)
    if text[at] != ":":
        raise ValueError("a colon is due")
    return key, _skip(text, at + 1)


def _loads_deep(text: str) -> Any:
    """Parse without recursion: `stack` holds the open containers, `key` the key that waits for its value."""
    stack: list[tuple[Any, str | None]] = []
    at = _skip(text, 0)
    key: str | None = None
    while True:
        opener = text[at]
        if opener in "[{":
            container: Any = [] if opener == "[" else {}
            closer = "]" if opener == "[" else "}"
            at = _skip(text, at + 1)
            if text[at] != closer:
                stack.append((container, key))
                key = None
                if opener == "{":
                    key, at = _key(text, at)
                continue
            value: Any = container
            at += 1
        else:
            value, at = _DECODER.raw_decode(text, at)
        value, at, key = _close(text, at, value, key, stack)
        if not stack:
            return value


def _close(
    text: str, at: int, value: Any, key: str | None, stack: list[tuple[Any, str | None]],
) -> tuple[Any, int, str | None]:
    """Put `value` into its container, and that into its own as long as one ends; the next value's place and key."""
    while stack:
        container, outer_key = stack[-1]
        is_list = isinstance(container, list)
        if is_list:
            container.append(value)
        else:
            container[key] = value
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
            if is_list:
                return None, at, None
            key, at = _key(text, at)
            return None, at, key
        if text[at] != ("]" if is_list else "}"):
            raise ValueError("a comma or the container's end is due")
        stack.pop()
        value, key, at = container, outer_key, at + 1
    if _skip(text, at) != len(text):
        raise ValueError("extra data")
    return value, at, None


def dumps(value: object, default: Default | None = None, *, ascii_only: bool = True) -> str:
    """`value` as compact JSON; `default` turns what JSON has no form for into what it has.

    Raises TypeError or ValueError (NaN, infinities, circular references) as json.dumps does.
    """
    try:
        text = "".join(_ENCODE[ascii_only](value, 0))
    except (RecursionError, TypeError):
        text = _dumps(value, default, ascii_only)
    # Such characters stand within strings only.
    return text if ascii_only or text.isascii() else _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _dumps(value: object, default: Default | None, ascii_only: bool) -> str:
    """Few values need `default`, which needs an encoder of its own, or the stack."""
    encoder = json.JSONEncoder(allow_nan=False, separators=_COMPACT, default=default, ensure_ascii=ascii_only)
    with suppress(RecursionError):
        return encoder.encode(value)
    return "".join(_dumps_deep(value, encoder, default))


def _dumps_deep(value: Any, encoder: json.JSONEncoder, default: Default | None) -> list[str]:
    """Encode without recursion: `stack` holds the open containers' iterators, `open_ids` finds circles.

    The iterators give (key, item) for a dict and the item for a list.
    """
    pieces: list[str] = []
    stack: list[tuple[Iterator[Any], bool, int]] = []
    open_ids: set[int] = set()
    entry: Any = None
    is_dict = False
    while True:
        if default is not None and not isinstance(value, _JSON_TYPES):
            value = default(value)
        if isinstance(value, (list, tuple, dict)):
            if id(value) in open_ids:
                raise ValueError("Circular reference detected")
            open_ids.add(id(value))
            entries: Iterator[Any] = iter(value.items()) if isinstance(value, dict) else iter(value)
            stack.append((entries, isinstance(value, dict), id(value)))
            pieces.append("{" if isinstance(value, dict) else "[")
            first = True
        else:
            pieces.append(encoder.encode(value))
            first = False
        while stack:
            entries, is_dict, identity = stack[-1]
            entry = next(entries, _END)
            if entry is not _END:
                break
            stack.pop()
            pieces.append("}" if is_dict else "]")
            open_ids.discard(identity)
            first = False
        else:
            return pieces
        if not first:
            pieces.append(",")
        if is_dict:
            # One entry through the library's own encoder spells the key as it would: true, null, 1 …
            pieces.append(encoder.encode({entry[0]: 0})[1:-2])
            value = entry[1]
        else:
            value = entry
