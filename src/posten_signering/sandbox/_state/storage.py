"""The storage of a sandbox: its tables and its documents, in SQLite.

The tables are read once and then live in memory. A commit writes each changed entry as JSON, in the
same transaction as the documents.
"""

import asyncio
import json
import sqlite3
from base64 import b64decode, b64encode
from collections import UserDict
from collections.abc import Callable, Generator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from posten_signering.sandbox._state.access import Broker, Calls
from posten_signering.sandbox._state.job import Job, SignerOf
from posten_signering.sandbox._state.queues import Change, ChangeId, Queue, QueueName
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.refusal import SandboxError

FORMAT = 2
"""The version of the file format. It grows when files of earlier formats can no longer be read."""

FILE = "sandbox.sqlite3"

LAST_JOB = "last job"

_SCHEMA = f"""
CREATE TABLE entries (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE documents (job INTEGER, kind TEXT, position INTEGER, name TEXT NOT NULL,
                        content BLOB NOT NULL, PRIMARY KEY (job, kind, position));
PRAGMA user_version = {FORMAT};
"""

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_Statement = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One browser at the pages of one signer of one job.

    Attributes:
        redirect_token: The token that opened the pages.
        key: The browser's cookie.
    """

    redirect_token: Hidden = field(repr=False)
    key: Hidden = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredKey:
    """A certificate of the sandbox with its key, both in PEM form."""

    key: Hidden = field(repr=False)
    certificate: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pkcs12:
    """A PKCS#12 file with a key, its certificate and the CA certificates of its chain."""

    content: Octets = field(repr=False)
    password: Hidden = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The tables of a sandbox. Entries are assigned and deleted, but keys and values never change.

    Attributes:
        jobs: By job id.
        redirects: By redirect token, the signer whose pages it opens, or opened until it was replaced.
        queues: The queues that were polled or received a change.
        changes: The status changes that are not confirmed.
        calls: By organisation number, the calls that still count towards the rate limit.
        brokers: The permissions of brokers; the value is always True.
        sessions: By signer, the browser that opened the signer's pages.
        clock: Under one name, how many seconds the sandbox's time is ahead of its clock.
        ids: Under `LAST_JOB`, the id of the newest job before the latest reset.
        keys: By name, the keys of the CAs and of the service.
        enterprises: By organisation number, the issued enterprise certificates.
    """

    jobs: MutableMapping[int, Job] = field(default_factory=dict[int, Job])
    redirects: MutableMapping[Hidden, SignerOf] = field(default_factory=dict[Hidden, SignerOf])
    queues: MutableMapping[QueueName, Queue] = field(default_factory=dict[QueueName, Queue])
    changes: MutableMapping[ChangeId, Change] = field(default_factory=dict[ChangeId, Change])
    calls: MutableMapping[str, Calls] = field(default_factory=dict[str, Calls])
    brokers: MutableMapping[Broker, bool] = field(default_factory=dict[Broker, bool])
    sessions: MutableMapping[SignerOf, Session] = field(default_factory=dict[SignerOf, Session])
    clock: MutableMapping[str, float] = field(default_factory=dict[str, float])
    ids: MutableMapping[str, int] = field(default_factory=dict[str, int])
    keys: MutableMapping[str, StoredKey] = field(default_factory=dict[str, StoredKey])
    enterprises: MutableMapping[str, Pkcs12] = field(default_factory=dict[str, Pkcs12])


KEPT_BY_RESET = frozenset({"keys", "enterprises", "ids"})
"""The tables that a reset does not clear."""


class DocumentKind(StrEnum):
    """The kinds of documents in the storage."""

    ORIGINAL = "original"
    PADES = "pades"
    XADES = "xades"


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentKey:
    """The key of a stored document.

    Attributes:
        job_id: The job.
        kind: The kind of document.
        position: From 0: which original document, or the XAdES of which signer. 0 for the PAdES.
    """

    job_id: int
    kind: DocumentKind
    position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDocument:
    """A stored document.

    Attributes:
        name: The name of its file in the container; empty for a signed document.
        content: Its bytes.
    """

    name: str = ""
    content: Octets = field(repr=False)


class Storage:
    """The tables and documents of a sandbox; see `open`. `commit` writes the changes.

    Any thread may change the tables. Only the thread of the event loop may call the methods.
    """

    def __init__(self, directory: Path | None, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._statements: list[_Statement] = []
        self._failed = False
        self._path = path = ":memory:" if directory is None else _create_file(directory)
        with _as_sandbox_errors(path):
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                _prepare(self._connection, path)
                self.tables = Tables(
                    **{table.name: self._table(table.name) for table in fields(Tables)}
                )
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    async def open(cls, directory: Path | None) -> "Storage":
        """Opens the storage in a directory, or creates it. Without a directory it is in memory.

        Raises:
            SandboxError: Another sandbox uses the file, or this version of the sandbox can't read it.
            OSError: The directory can't be written to.
        """
        # Only one thread may use an SQLite connection. One thread also keeps the commits in order.
        executor = ThreadPoolExecutor(1, thread_name_prefix="posten-signering-sandbox-storage")
        opening = executor.submit(cls, directory, executor)

        def close() -> None:
            opening.result().close()

        try:
            return await asyncio.wrap_future(opening)
        except BaseException:
            # The caller may have been cancelled: close the file all the same.
            executor.submit(close)
            executor.shutdown()
            raise

    def put(self, key: DocumentKey, document: StoredDocument) -> None:
        """Adds or replaces a document.

        A signed document is skipped when its originals are no longer stored: they may have been deleted
        while it was being signed.
        """
        statement = (
            "REPLACE INTO documents SELECT ?, ?, ?, ?, ? WHERE ?"
            " OR EXISTS (SELECT 1 FROM documents WHERE job = ? AND kind = ?)"
        )
        values = (key.job_id, key.kind.value, key.position, document.name, document.content)
        original = DocumentKind.ORIGINAL
        self._statements.append(
            (statement, (*values, key.kind is original, key.job_id, original.value))
        )

    async def get(self, key: DocumentKey) -> StoredDocument | None:
        """The document, or None when it is not stored."""
        self._submit()
        return await asyncio.wrap_future(self._executor.submit(self._read, key))

    def delete(self, job_id: int) -> None:
        """Deletes every document of a job."""
        self._statements.append(("DELETE FROM documents WHERE job = ?", (job_id,)))

    def clear(self) -> None:
        """Deletes all documents."""
        self._statements.append(("DELETE FROM documents", ()))

    async def commit(self) -> None:
        """Writes every change so far, and returns when this is done.

        Raises:
            SandboxError: This commit or an earlier one could not write to the file.
        """
        # Cancelling a caller does not cancel the write.
        await asyncio.shield(asyncio.wrap_future(self._submit()))

    def commit_now(self) -> None:
        """Does the same as `commit`, but blocks the calling thread."""
        self._submit().result()

    async def aclose(self) -> None:
        """Commits and closes the storage, even when the caller is cancelled meanwhile."""
        written = self._submit()
        closed = self._executor.submit(self.close)
        try:
            await asyncio.shield(asyncio.wrap_future(closed))
        finally:
            self._executor.shutdown()
        written.result()

    def _submit(self) -> Future[None]:
        # The next commit writes the statements that another thread adds meanwhile.
        statements = self._statements[:]
        del self._statements[: len(statements)]
        return self._executor.submit(self._write, statements)

    # The methods below run in the thread that owns the connection.

    def close(self) -> None:
        """Closes the file without a commit."""
        self._connection.close()

    def _table(self, name: str) -> "_Table[Any, Any]":
        key_type, value_type = get_args(_field_types(Tables)[name])
        rows = self._connection.execute("SELECT key, value FROM entries WHERE kind = ?", (name,))
        try:
            entries = {
                _typed(key_type, json.loads(key)): _typed(value_type, json.loads(value))
                for key, value in rows
            }
        except (KeyError, TypeError, ValueError):
            raise SandboxError(
                f"An entry of the table {name} in {self._path} can't be read:"
                " remove the file, and start the sandbox again."
            ) from None
        return _Table(name, entries, self._statements)

    def _read(self, key: DocumentKey) -> StoredDocument | None:
        row = self._connection.execute(
            "SELECT name, content FROM documents WHERE job = ? AND kind = ? AND position = ?",
            (key.job_id, key.kind.value, key.position),
        ).fetchone()
        return None if row is None else StoredDocument(name=row[0], content=Octets(row[1]))

    def _write(self, statements: list[_Statement]) -> None:
        if not self._failed:
            try:
                with self._connection:
                    self._connection.execute("BEGIN")
                    for statement, values in statements:
                        self._connection.execute(statement, values)
            except sqlite3.Error:
                # The file now lacks changes that the tables in memory have, so no later commit could be
                # complete.
                self._failed = True
        if self._failed:
            raise SandboxError(
                f"The sandbox can't write to {self._path} any more: check the disk, and restart the"
                " sandbox."
            )


class _Table(UserDict[K, V]):
    """A dictionary that records each of its changes as an SQL statement for the next commit."""

    def __init__(self, name: str, entries: dict[K, V], statements: list[_Statement]) -> None:
        super().__init__()
        self.data = entries
        self._name = name
        self._statements = statements

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        row = (self._name, to_json(key), to_json(value))
        self._statements.append(("REPLACE INTO entries VALUES (?, ?, ?)", row))

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        where = (self._name, to_json(key))
        self._statements.append(("DELETE FROM entries WHERE kind = ? AND key = ?", where))

    def clear(self) -> None:
        # `MutableMapping.clear` deletes the entries one by one, in quadratic time.
        self.data.clear()
        self._statements.append(("DELETE FROM entries WHERE kind = ?", (self._name,)))


def _create_file(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / FILE
    # The file holds private keys, so only this user may read it.
    path.touch(mode=0o600)
    return path


@contextmanager
def _as_sandbox_errors(path: Path | str) -> Generator[None, None, None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SandboxError(
            f"{path} is in use by another sandbox: stop it, or use a different directory."
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            else f"{path} is not a file of a sandbox: remove the file, or use a different directory."
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR
            else f"{path} can't be opened: {error}. Check that it is a file that you may write to."
        ) from None
    except sqlite3.DatabaseError:
        raise SandboxError(
            f"{path} is damaged, or it is not a file of a sandbox:"
            " remove the file, or use a different directory."
        ) from None


def _prepare(connection: sqlite3.Connection, path: Path | str) -> None:
    # The file stays locked until it is closed, so that a second sandbox can't use it.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    # No fsync for each commit: a commit survives the end of the process, but not a power failure.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")
    if version not in {0, FORMAT}:
        raise SandboxError(
            f"{path} has format {version}, but this version of the sandbox reads format {FORMAT}:"
            " remove the file, or use a different directory."
        )


# Values as JSON: a dataclass becomes an object, a time becomes ISO 8601 text, bytes become Base64 text.


def to_json(value: object) -> Hidden:
    """A value as JSON text, with a repr that hides it: it may hold identity numbers and tokens."""
    return Hidden(json.dumps(value, default=_plain))


def _plain(value: object) -> object:
    """Converts a value that `json.dumps` does not support to one that it does."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    names = [attribute.name for attribute in fields(cast("Any", value))]
    return {name: getattr(value, name) for name in names}


_FROM_TEXT: dict[Any, Callable[[str], object]] = {
    datetime: datetime.fromisoformat,
    Octets: lambda text: Octets(b64decode(text, validate=True)),
}


@cache
def _field_types(kind: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _typed(kind: type[Any], plain: object) -> object:
    """Converts parsed JSON to a value of a type. A field that has a default may be missing.

    Raises:
        KeyError: The JSON has a field that the type does not have.
        TypeError: The JSON lacks a field, or has a different type.
        ValueError: The text is not valid for the type.
    """
    if get_origin(kind) is UnionType:
        if plain is None:
            return None
        kind = get_args(kind)[0]
    if type(plain) is kind:
        return plain
    match plain:
        case dict() if hasattr(kind, "__dataclass_fields__"):
            types, entries = _field_types(cast("Any", kind)), cast("dict[str, object]", plain)
            return kind(**{name: _typed(types[name], entry) for name, entry in entries.items()})
        case list() if get_origin(kind) is tuple:
            item_kind = get_args(kind)[0]
            return tuple(_typed(item_kind, item) for item in cast("list[object]", plain))
        case str() if kind in _FROM_TEXT or issubclass(kind, str):
            return _FROM_TEXT.get(kind, kind)(plain)
        case _:
            raise TypeError
