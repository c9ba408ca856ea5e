"""May this user enter this room? MongoDB, or a host's own loader, is asked; answers are cached and coalesced.

An access list is read once for everybody who asks at the same time, and believed for a few seconds. A refusal is
believed for half a second at most: then the list is read again before anybody is turned away (spec section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from time import monotonic
from typing import Any, cast
from uuid import UUID

from repo_notify.bounded import Bounded, Start, by_the_driver, in_a_thread, unbounded
from repo_notify.metrics import Metrics
from repo_notify.protocol.ids import ModelPlace, fold_uuid, is_teamspace, is_uuid, model_place

from .announced import Key
from .lists import MODEL_READERS
from .look_ups import LookUps
from .store import Store

REFUSAL_SECONDS = 0.5
ALWAYS = float("-inf")

# Username, teamspace, project, model; None where the room is not of one project, or not of one model.
Question = tuple[str, str, "str | None", "str | None"]
PermissionLoader = Callable[[str, str, "str | None", "str | None"], bool]
AccessChecker = Callable[[str, str, "str | None", "str | None"], bool]

# Many ask for the same few.
_uuid = lru_cache(1024)(UUID)


class NoAnswer(TypeError):
    """A host's permission loader returned neither True nor False; `kind` is the type of what it returned."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __str__(self) -> str:
        return f"the permission loader should return True or False, not {self.kind}"


class Permissions:
    """Answers who may enter which room.

    `ttl` and `timeout` are in seconds, `size` counts access lists; `legacy` lets the older data grant too (spec section
    6); `bounded` runs a question to the database, `start` a part of one in a task of its own; `reserved` is a database
    of the service's own, and no teamspace.
    Every question raises `PermissionsUnavailable` when the database does not answer within the timeout; its `since` is
    the monotonic time before which no answer is believed.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        ttl: float,
        size: int,
        timeout: float,
        legacy: bool = True,
        give_way: Callable[[], None] = lambda: None,
        bounded: Bounded[Any] = by_the_driver,
        start: Start = in_a_thread,
        reserved: str | None = None,
    ) -> None:
        self._reserved = reserved.lower() if reserved is not None else None
        self.legacy = legacy
        self._ttl = ttl
        self._look_ups = LookUps(
            store,
            metrics,
            ttl=ttl,
            size=size,
            timeout=timeout,
            legacy=legacy,
            give_way=give_way,
            bounded=bounded,
            start=start,
        )
        # A host's own rights, in the place of the documents in MongoDB.
        self.loader: PermissionLoader | None = None
        # A host's say, after MongoDB or the loader has said yes.
        self.checker: AccessChecker | None = None

    @property
    def last_read(self) -> str | None:
        """The teamspace whose documents were read last; none that somebody merely asked for."""
        return self._look_ups.last_read

    def may_read_model(
        self, user: str, teamspace: str, project: str | None, model: str, *, since: float = ALWAYS
    ) -> bool:
        """Whether `user` may read the model; `project` None stands for whichever project holds it (section 4)."""
        place = model_place(teamspace, project, model)
        if place is None:
            return False
        return self._decide((user, teamspace, project, model), lambda fresh: self._reads(user, place, fresh), since)

    def may_watch_project(self, user: str, teamspace: str, project: str, *, since: float = ALWAYS) -> bool:
        """Whether `user` administers the project or its teamspace, and there is such a project."""
        if not is_teamspace(teamspace) or not is_uuid(project):
            return False
        return self._decide(
            (user, teamspace, project, None), lambda fresh: self._watches(user, teamspace, _uuid(project), fresh), since
        )

    def administers(self, user: str, teamspace: str, *, since: float = ALWAYS) -> bool:
        """Whether `user` is an admin of the teamspace."""
        if not is_teamspace(teamspace):
            return False
        return self._decide(
            (user, teamspace, None, None),
            lambda fresh: (
                (self.legacy and user == teamspace) or user in self._look_ups.teamspace(teamspace, fresh).admins
            ),
            since,
        )

    def is_there(self, where: tuple[str | None, ...], *, since: float = ALWAYS) -> bool:
        """Whether there is what a look-up's ids name: a model that a project holds, or a project."""
        teamspace, project, model = (*where, None, None)[:3]
        if self.loader is not None:
            return True
        fresh = max(since, monotonic() - self._ttl)
        if model is not None:
            place = model_place(str(teamspace), project, model)
            return place is not None and bool(self._look_ups.model(place, fresh).held_by(place.project))
        return project is None or bool(self._look_ups.projects(str(teamspace), _uuid(project), fresh))

    def announce(self, rooms: Iterable[tuple[str | None, ...]], *, since: float = ALWAYS) -> None:
        """Take note of the look-ups' ids of rooms that will be asked for soon, so that they are read together.

        `since` as in the questions; a refusal would be asked again, so no older answer counts.
        """
        if self.loader is not None:
            return
        models: list[ModelPlace] = []
        projects: list[tuple[str, UUID]] = []
        for where in rooms:
            teamspace, project, model = (*where, None, None, None)[:3]
            if model is not None and (place := model_place(str(teamspace), project, model)) is not None:
                models.append(place)
            elif model is None and project is not None and is_uuid(project) and is_teamspace(str(teamspace)):
                projects.append((str(teamspace), _uuid(project)))
        if models or projects:
            self._look_ups.announce(models, projects, max(since, monotonic() - min(self._ttl, REFUSAL_SECONDS)))

    def silent_for(self) -> float:
        """Return for how many seconds the database is not asked, because it did not answer in time."""
        return self._look_ups.silent_for()

    def invalidate(self, teamspace: str) -> None:
        """Drop what is cached of a teamspace; what is on its way is answered, but not kept."""
        self._look_ups.invalidate(teamspace)

    def invalidate_all(self) -> None:
        """Drop everything that is cached."""
        self._look_ups.invalidate_all()

    def _decide(self, question: Question, granted: Callable[[float], bool], since: float) -> bool:
        if (loader := self.loader) is not None:
            granted = partial(self._ask, loader, question)
        elif question[1].lower() == self._reserved:
            return False
        now = monotonic()
        if granted(max(since, now - self._ttl)):
            return True
        return self._ttl > REFUSAL_SECONDS and granted(max(since, now - REFUSAL_SECONDS))

    def _ask(self, loader: PermissionLoader, question: Question, since: float) -> bool:
        user, teamspace, *ids = question
        # UUIDs are compared without regard to case, and a host need not know.
        project, model = (fold_uuid(text) if text is not None else None for text in ids)

        def load(_: str, wanted: Mapping[Key, Any]) -> Mapping[Key, bool]:
            found: object = loader(user, teamspace, project, model)
            # A coroutine, for one, would be true for everybody.
            if not isinstance(found, bool):
                raise NoAnswer(type(found).__name__)
            return dict.fromkeys(wanted, found)

        # No id is empty, so that "" stands for None.
        key = ("loader", teamspace, user, project or "", model or "")
        return cast("bool", self._look_ups.ask(key, None, load, since, bounded=unbounded))

    def _reads(self, user: str, place: ModelPlace, since: float) -> bool:
        access = self._look_ups.model(place, since)
        holding = access.held_by(place.project)
        granted = access.permissions.get(user, frozenset())
        if holding and granted & MODEL_READERS:
            return True
        if any(user in held.admins or (self.legacy and user in held.readers) for held in holding):
            return True
        # Read for a model that is not there too: how long a refusal takes must not reveal whether it is.
        owners = self._look_ups.teamspace(place.teamspace, since)
        return bool(holding) and (user in owners.admins or bool(granted & owners.reading_templates))

    def _watches(self, user: str, teamspace: str, project: UUID, since: float) -> bool:
        found = self._look_ups.projects(teamspace, project, since)
        if any(user in held.admins for held in found):
            return True
        # As in `_reads`: a project that is not there costs the same look-ups.
        owners = self._look_ups.teamspace(teamspace, since)
        return bool(found) and user in owners.admins
