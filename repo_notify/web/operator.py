"""The operator's view of one process: who is in which room, and why somebody did not hear of a change."""

from __future__ import annotations

import heapq
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from flask import Response, jsonify, request

from repo_notify.logs import connection_label
from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.ids import fold_uuid
from repo_notify.protocol.rooms import Room
from repo_notify.sessions.bindings import Identities
from repo_notify.settings import Settings
from repo_notify.sockets import Peer, Sockets

from .blueprint import Answer, Route, error, without_key
from .explain import Asked, Explainer, summary

PAGE, MAX_PAGE, MAX_MEMBERS = 100, 1_000, 1_000
_PLAIN = "text/plain"


class Operator:
    """Answers `rooms` and `explain` from what this process knows."""

    def __init__(
        self, sockets: Sockets, identities: Identities, dialects: Dialects, explainer: Explainer, *, build: str
    ) -> None:
        self._sockets = sockets
        self._identities = identities
        self._dialects = dialects
        self._explainer = explainer
        self._build = build

    def ended(self, connection_id: str, reason: str) -> None:
        """Remember why a user's connection ended."""
        identity = self._identities.known(connection_id)
        if identity is not None:
            self._explainer.ends.note(identity.username, reason)

    def routes(self, settings: Settings) -> tuple[Route, ...]:
        """Return the routes, which need the API key."""

        def keyed(view: Callable[[], Answer]) -> Callable[[], Answer]:
            return lambda: without_key(settings.api_key, "the operator's view") or view()

        prefix = settings.http_prefix
        return (
            (f"{prefix}/rooms", "rooms", keyed(self._rooms), "GET"),
            (f"{prefix}/explain", "explain", keyed(self._explain), "GET"),
        )

    def _rooms(self) -> Answer:
        limit = request.args.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_PAGE):
            return error(400, f"limit should be a whole number from 1 to {MAX_PAGE}")
        after = request.args.get("after", "")
        wanted = {name: request.args[name] for name in ("teamspace", "model") if name in request.args}
        keys = (key for key in self._sockets.room_keys() if key > after and self._is_wanted(key, wanted))
        # One more, which tells whether there is a next page.
        found = heapq.nsmallest(int(limit) + 1, keys)
        page = [self._shown(Room.parse(key)) for key in found[: int(limit)]]
        rest = {"next": found[-2]} if len(found) > int(limit) else {}
        body = {"process": self._process(), "rooms": page, **rest}
        return _answer(body, (line for room in page for line in _room_lines(room)))

    def _is_wanted(self, key: str, wanted: Mapping[str, str]) -> bool:
        # Few of many keys hold what is looked for; only these are taken apart.
        if not all(json.dumps(fold_uuid(value)) in key for value in wanted.values()):
            return False
        room = Room.parse(key)
        kind, _ = self._dialects.kinds[room.kind]
        where = dict(zip(("teamspace", "project", "model"), kind.request(room).where, strict=False))
        return all(fold_uuid(where.get(name) or "") == fold_uuid(value) for name, value in wanted.items())

    def _shown(self, room: Room) -> dict[str, Any]:
        members = sorted({member.connection_id for member in self._sockets.in_room(room)})
        kind, _ = self._dialects.kinds[room.kind]
        peers = ((found, self._sockets.peer(found)) for found in members[:MAX_MEMBERS])
        return {
            "kind": room.kind,
            "join": kind.join_object(room),
            "member_count": len(members),
            "members": [self._member(found, peer) for found, peer in peers if peer is not None],
        }

    def _member(self, connection_id: str, peer: Peer) -> dict[str, Any]:
        identity = self._identities.known(connection_id)
        return {
            "user": identity.username if identity is not None else None,
            "connection": connection_label(connection_id),
            "generation": peer.generation,
            "transport": peer.transport,
            "since": datetime.fromtimestamp(int(peer.since), timezone.utc).isoformat().replace("+00:00", "Z"),
            "waiting_bytes": peer.waiting_bytes,
            "waiting_seconds": None if peer.waiting_seconds is None else round(peer.waiting_seconds, 3),
        }

    def _explain(self) -> Answer:
        given = {name: request.args.get(name, "") for name in ("username", "teamspace", "model")}
        if missing := [name for name, value in given.items() if not value]:
            return error(400, f"{', '.join(missing)} should be given: ?username=…&teamspace=…&model=… (&project=…)")
        asked = Asked(**given, project=request.args.get("project") or None)
        checks = self._explainer.explain(asked)
        said = summary(asked, checks)
        shown = [check._asdict() for check in checks]
        lines = [said["answer"], *(f"{'ok' if ok else 'NO':<3} {check}: {why}" for check, ok, why in checks)]
        return _answer({"process": self._process(), **asked._asdict(), **said, "checks": shown}, lines)

    def _process(self) -> dict[str, Any]:
        """Return who answers: with several processes each knows its own clients alone."""
        return {"pid": os.getpid(), "host": socket.gethostname(), "build": self._build, "answers_for": "this process"}


def _answer(body: Mapping[str, Any], lines: Iterable[str]) -> Answer:
    """Return JSON, or lines for a terminal where the client asks for `text/plain`."""
    if request.accept_mimetypes.best_match(["application/json", _PLAIN]) != _PLAIN:
        answer = jsonify(body)
    else:
        process = body["process"]
        first = f"process {process['pid']} on {process['host']}, repo_notify {process['build']}, for itself alone"
        rest = [f"more: ?after={body['next']}"] if "next" in body else []
        text = "".join(f"{_printable(line)}\n" for line in (first, *lines, *rest))
        answer = Response(text, content_type=f"{_PLAIN}; charset=utf-8")
    answer.headers["Cache-Control"] = "no-store"
    return answer, 200


def _room_lines(room: Mapping[str, Any]) -> Iterable[str]:
    where = " ".join(f"{name}={value}" for name, value in room["join"].items())
    yield f"{room['kind']} {where}: {room['member_count']}"
    for member in room["members"]:
        waiting = member["waiting_bytes"]
        waits = "" if waiting is None else f", {waiting:,} bytes wait"
        yield (
            f"  {member['user'] or 'nobody'}  {member['transport']}, Engine.IO {member['generation']}, since "
            f"{member['since']}, connection {member['connection']}{waits}"
        )


def _printable(text: str) -> str:
    """Return a line without what would move a terminal's cursor: names come from clients."""
    return "".join(character if character.isprintable() else "?" for character in text)
