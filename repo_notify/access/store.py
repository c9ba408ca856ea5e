"""The MongoDB client and 3D Repo's collections (spec section 6).

Nothing that a client sent becomes the name of a database before `protocol.ids.is_teamspace` has passed it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import bson
import pymongo
from bson import Binary
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from repo_notify.bounded import TooSlow

Document = dict[str, Any]

# A server that waits for changes answers each second; one that says nothing for so long is gone.
STREAM_SILENCE_MILLISECONDS = 5_000

# UUIDs stay binary, so that one older document cannot make a whole query fail to decode.
_AS_STORED: CodecOptions[Document] = CodecOptions()
_READABLE: CodecOptions[Document] = CodecOptions(unicode_decode_error_handler="replace")
# As many documents as one look-up finds come with the first answer.
_BATCH = 1_000
_LENGTH = struct.Struct("<i")

# What the server answers to a user without the right, and to a wrong name or password.
UNAUTHORISED, AUTHENTICATION_FAILED = 13, 18


class Unreachable(Exception):
    """The database did not answer in time, or with what cannot be read; the text is the driver's reason."""

    @property
    def is_refusal(self) -> bool:
        """Whether the database answered that this user may not read that."""
        return self._code == UNAUTHORISED

    @property
    def is_failed_login(self) -> bool:
        """Whether the database answered that name or password are wrong."""
        return self._code == AUTHENTICATION_FAILED

    @property
    def _code(self) -> int | None:
        return self.__cause__.code if isinstance(self.__cause__, OperationFailure) else None


def project_ids(project: UUID) -> list[Binary]:
    """Return the forms in which a project's UUID is stored: BSON binary subtypes 4 and 3."""
    return [Binary(project.bytes, 4), Binary(project.bytes, 3)]


def uuid_of(value: object) -> UUID | None:
    """Return the UUID that a stored `_id` is, whichever subtype it has, or None for any other value."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, Binary) and value.subtype in (3, 4) and len(value) == 16:
        return UUID(bytes=bytes(value))
    return None


def connect(uri: str, *, timeout: float, **options: Any) -> MongoClient[Document]:
    """Return a client that connects on first use and gives up after `timeout` seconds; `options` are pymongo's."""
    milliseconds = max(1, round(timeout * 1000))
    given = {"appname": "repo_notify", **options}
    return MongoClient(
        uri, connect=False, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds, **given
    )


def connect_stream(uri: str, *, timeout: float) -> MongoClient[Document]:
    """Return a client for one change stream, as `connect` does; a server that is frozen is left after some seconds."""
    return connect(
        uri,
        timeout=timeout,
        maxPoolSize=1,
        socketTimeoutMS=STREAM_SILENCE_MILLISECONDS,
        appname="repo_notify changes",
    )


class Read(NamedTuple):
    """A document that was read; with an `error` its texts are not all what is stored."""

    document: Document
    error: UnicodeError | BSONError | None = None


def _decoded(data: bytes) -> Read:
    try:
        return Read(bson.decode(data, _AS_STORED))
    # A stored string that is no UTF-8.
    except (BSONError, UnicodeError) as error:
        return Read(bson.decode(data, _READABLE), error)


def documents(reads: Iterable[Read]) -> list[Document]:
    """Return every document; raises what kept one of them from being read."""
    found = list(reads)
    for read in found:
        if read.error is not None:
            raise read.error
    return [read.document for read in found]


class Store:
    """3D Repo's documents, read with as few queries as possible.

    `users_collection` is the collection of accounts in the database `admin`. Every method raises `Unreachable` when
    the database does not answer within the time that `within` allows, or cannot be understood.
    """

    def __init__(self, client: MongoClient[Document], *, users_collection: str) -> None:
        self.client = client
        self.users = users_collection

    def _collection(self, database: str, name: str) -> Collection[Document]:
        return self.client.get_database(database, codec_options=_AS_STORED)[name]

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Bound the queries in the block to `seconds` in total."""
        with self.understood(), pymongo.timeout(max(seconds, 0.001)):
            yield

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raise `Unreachable` for whatever goes wrong with the queries in the block."""
        try:
            yield
        except TooSlow as error:
            raise Unreachable(f"{error}{self._servers()}") from error
        # A stored string that is no UTF-8 makes a whole answer unreadable.
        except (PyMongoError, BSONError, UnicodeError) as error:
            raise Unreachable(str(error)) from error

    def _servers(self) -> str:
        """Return what the driver knows of why its servers do not answer."""
        servers = self.client.topology_description.server_descriptions().values()
        return "".join(f"; {server.error}" for server in servers if server.error)

    def settings_of(self, teamspace: str, models: list[str]) -> Iterator[Read]:
        """Yield `_id` and `permissions` of every model that has one of these ids, as they are decoded."""
        return self._read(teamspace, "settings", {"_id": {"$in": models}}, "permissions")

    def projects_of_any(self, teamspace: str, models: list[str], *, name_them: bool) -> Iterator[Read]:
        """Yield `_id` and `permissions` of the projects that hold one of these models, and all `models` of each."""
        fields = ("permissions", "models") if name_them else ("permissions",)
        return self._read(teamspace, "projects", {"models": {"$in": models}}, *fields)

    def projects(self, teamspace: str, projects: list[UUID]) -> Iterator[Read]:
        """Yield `_id` and `permissions` of the projects with these ids."""
        wanted = [stored for project in projects for stored in project_ids(project)]
        return self._read(teamspace, "projects", {"_id": {"$in": wanted}}, "permissions")

    def _read(self, database: str, collection: str, wanted: Document, *fields: str) -> Iterator[Read]:
        """Yield documents one by one: lists may be long, and one that cannot be read is not the others' trouble."""
        found = self._collection(database, collection)
        batches: Any = found.find_raw_batches(wanted, dict.fromkeys(fields, 1), batch_size=_BATCH)
        batch: bytes
        for batch in batches:
            at = 0
            while at < len(batch):
                # BSON begins with its length.
                (length,) = _LENGTH.unpack_from(batch, at)
                yield _decoded(batch[at : at + length])
                at += length

    def teamspace(self, teamspace: str) -> Document | None:
        """Return the teamspace's own document."""
        return self._collection(teamspace, "teamspace").find_one({"_id": teamspace}, {"permissions": 1})

    def account(self, username: str) -> Document | None:
        """Return the older data that an account's own user document holds on its teamspace."""
        fields = {"customData.permissions": 1, "customData.permissionTemplates": 1}
        return self._collection("admin", self.users).find_one({"user": username}, fields)

    def any_account(self) -> str | None:
        """Return the name of some account, or None where there is none."""
        found = self._collection("admin", self.users).find_one({"user": {"$type": "string"}}, {"user": 1})
        return found["user"] if found else None

    def is_replicated(self) -> bool:
        """Return whether the database is a replica set, or a cluster of some."""
        answer = self.client.admin.command("hello")
        return "setName" in answer or answer.get("msg") == "isdbgrid"

    def try_reads(self, teamspace: str) -> None:
        """Read all that a permission look-up in the teamspace reads, for a model that nobody has."""
        self.teamspace(teamspace)
        documents(self.settings_of(teamspace, [""]))
        documents(self.projects_of_any(teamspace, [""], name_them=True))

    def close(self) -> None:
        """Close the client."""
        self.client.close()
