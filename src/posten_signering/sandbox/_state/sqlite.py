"""Keeps what a sandbox knows in a directory, in one SQLite file, so that it survives a restart.

The tables are read once and then stand in memory; each notes which of its entries were changed.
`commit` writes those in one transaction, in the one thread that has the connection. Every answer waits
for its `commit`: after a crash nothing is missing that was answered. Values are written as JSON
(`_plain`); `FORMAT` is the version of their form.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import NoneType
from typing import Any, TypeVar

from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.plain import NotPlainError, from_plain, to_plain
from posten_signering.sandbox._state.queues import Queue, QueueName
from posten_signering.sandbox._state.state_rate import Calls
from posten_signering.sandbox._state.store import DocumentKey, StoredDocument
from posten_signering.sandbox._state.tables import (
    Broker,
    Pkcs12,
    Session,
    SignerOf,
    StoredKey,
    Tables,
)
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.refusal import SandboxError

FORMAT = 1
"""The version of the file's form. It grows when what an earlier version wrote can't be read."""

FILE = "sandbox.sqlite3"

_TYPES: dict[str, tuple[Any, Any]] = {
    "jobs": (int, Job),
    "redirects": (Hidden, SignerOf),
    "queues": (QueueName, Queue),
    "calls": (str, Calls),
    "brokers": (Broker, NoneType),
    "sessions": (SignerOf, Session),
    "clock": (str, float),
    "keys": (str, StoredKey),
    "enterprises": (str, Pkcs12),
}
"""The types of keys and values of each table."""

_SCHEMA = """
CREATE TABLE entries (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE documents (job INTEGER, kind TEXT, position INTEGER, name TEXT NOT NULL,
                        content BLOB NOT NULL, PRIMARY KEY (job, kind, position));
"""

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class _Table(MutableMapping[K, V]):
    """A dictionary that notes which entries are changed."""

    def __init__(self, entries: dict[K, V], note: Callable[[K], None]) -> None:
        self._entries = entries
        self._note = note

    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._note(key)

    def __delitem__(self, key: K) -> None:
        del self._entries[key]
        self._note(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(kw_only=True, slots=True)
class _Changes:
    """What is to be written, in this order.

    Attributes:
        documents: Statements over documents, with their values.
        entries: Entries of tables that were changed; the value is read when it is written.
    """

    documents: list[tuple[str, tuple[Any, ...]]] = field(
        default_factory=list[tuple[str, tuple[Any, ...]]], repr=False
    )
    entries: dict[tuple[str, Any], None] = field(
        default_factory=dict[tuple[str, Any], None], repr=False
    )


class SqliteStore:
    """Keeps everything in `sandbox.sqlite3` of a directory. See `open`, and `Store`."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._executor = executor
        self._lock = Lock()
        self._changes = _Changes()
        self._unwritten: dict[DocumentKey, StoredDocument] = {}
        self._last: Future[None] | None = None
        self._broken = False
        # A table has the name of its field.
        loaded = {name: self._table(name) for name in _TYPES}
        self.tables = Tables(**loaded)

    @classmethod
    async def open(cls, directory: Path) -> "SqliteStore":
        """Opens the store of a directory, or makes one; the directory too.

        Raises:
            SandboxError: Another sandbox uses it, it was made by a later version, or it is no store.
            OSError: The directory can't be written to.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="posten-signering-sandbox-store")
        try:
            return await _run(executor, lambda: cls(_connect(directory), executor))
        except BaseException:
            executor.shutdown()
            raise

    def put(self, key: DocumentKey, document: StoredDocument) -> None:
        """See `Store`."""
        with self._lock:
            self._unwritten[key] = document
            self._changes.documents.append(
                (
                    "REPLACE INTO documents VALUES (?, ?, ?, ?, ?)",
                    (key.job_id, key.kind.value, key.position, document.name, document.content),
                )
            )

    async def get(self, key: DocumentKey) -> StoredDocument | None:
        """See `Store`."""
        unwritten = self._unwritten.get(key)
        if unwritten is not None:
            return unwritten
        # What is submitted is written before this reads: there is but one thread.
        self._submit()
        return await _run(self._executor, lambda: self._read(key))

    def delete(self, job_id: int) -> None:
        """See `Store`."""
        self._forget("DELETE FROM documents WHERE job = ?", job_id)

    def clear(self) -> None:
        """See `Store`."""
        self._forget("DELETE FROM documents", None)

    async def commit(self) -> None:
        """See `Store`."""
        writing = self._submit()
        if writing is not None:
            # Whoever stops waiting does not stop the writing.
            await asyncio.shield(asyncio.wrap_future(writing))

    def commit_now(self) -> None:
        """See `Store`."""
        writing = self._submit()
        if writing is not None:
            writing.result()

    async def aclose(self) -> None:
        """See `Store`."""
        try:
            await self.commit()
        finally:
            await _run(self._executor, self._connection.close)
            self._executor.shutdown()

    def _forget(self, statement: str, job_id: int | None) -> None:
        with self._lock:
            for key in [key for key in self._unwritten if job_id in {None, key.job_id}]:
                del self._unwritten[key]
            values = () if job_id is None else (job_id,)
            self._changes.documents.append((statement, values))

    def _note(self, name: str, key: object) -> None:
        with self._lock:
            self._changes.entries[name, key] = None

    def _submit(self) -> Future[None] | None:
        with self._lock:
            if self._changes.documents or self._changes.entries:
                changes, self._changes = self._changes, _Changes()
                entries = [
                    (
                        name,
                        key,
                        getattr(self.tables, name).get(key),
                        key in getattr(self.tables, name),
                    )
                    for name, key in changes.entries
                ]
                self._unwritten.clear()
                self._last = self._executor.submit(self._write, changes.documents, entries)
        # Another's write that is not through may hold what this caller's answer tells of.
        return self._last

    # What follows runs in the thread that has the connection.

    def _table(self, name: str) -> "_Table[Any, Any]":
        key_type, value_type = _TYPES[name]
        rows = self._connection.execute("SELECT key, value FROM entries WHERE kind = ?", (name,))
        try:
            entries = {
                from_plain(key_type, json.loads(key), f"a key of {name}"): from_plain(
                    value_type, json.loads(value), f"an entry of {name}"
                )
                for key, value in rows
            }
        except (NotPlainError, ValueError):
            self._connection.close()
            raise SandboxError(
                f"An entry of {name} in {FILE} can't be read: remove the file to start anew."
            ) from None
        return _Table(entries, lambda key: self._note(name, key))

    def _read(self, key: DocumentKey) -> StoredDocument | None:
        row = self._connection.execute(
            "SELECT name, content FROM documents WHERE job = ? AND kind = ? AND position = ?",
            (key.job_id, key.kind.value, key.position),
        ).fetchone()
        return None if row is None else StoredDocument(name=row[0], content=Octets(row[1]))

    def _write(
        self,
        documents: list[tuple[str, tuple[Any, ...]]],
        entries: list[tuple[str, Any, Any, bool]],
    ) -> None:
        if self._broken:
            raise _unwritable()
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                for statement, values in documents:
                    self._connection.execute(statement, values)
                for name, key, value, present in entries:
                    where = (name, json.dumps(to_plain(key)))
                    if present:
                        self._connection.execute(
                            "REPLACE INTO entries VALUES (?, ?, ?)",
                            (*where, json.dumps(to_plain(value))),
                        )
                    else:
                        self._connection.execute(
                            "DELETE FROM entries WHERE kind = ? AND key = ?", where
                        )
        except sqlite3.Error:
            # What is in memory is ahead of the file now: nothing that follows can be relied upon.
            self._broken = True
            raise _unwritable() from None


async def _run(executor: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.wrap_future(executor.submit(function))


def _unwritable() -> SandboxError:
    return SandboxError(
        f"The sandbox can't write to {FILE} any more: see to its disk, and restart it."
    )


def _connect(directory: Path) -> sqlite3.Connection:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / FILE
    # It holds keys: for this user only.
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        _prepare(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        raise SandboxError(
            f"{path} is in use by another sandbox."
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            else f"{path} can't be opened: {error}."
        ) from None
    except sqlite3.DatabaseError:
        connection.close()
        raise SandboxError(f"{path} is not a store of a sandbox.") from None
    except SandboxError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    # The lock is held until the end, so that no second sandbox writes to the same file.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    # A write that was not through to the disk survives the end of a process, not that of a machine.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        connection.execute("ROLLBACK")
        raise SandboxError(
            f"{FILE} has form {version}, and this version of the sandbox reads form {FORMAT}: take"
            " another directory."
        )
    connection.execute("COMMIT")
