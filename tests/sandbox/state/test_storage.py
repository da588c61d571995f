"""The storage reads what it wrote, and reports what it can't read."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import bundles
import pytest
from bundles import NOW, PERSON, SENDER
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox import SandboxError
from posten_signering.sandbox._intake.messages import read_job_request, read_manifest
from posten_signering.sandbox._state.access import Access, Broker
from posten_signering.sandbox._state.job import Act, Job, SignerOf
from posten_signering.sandbox._state.queues import ChangeId, QueueName
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import (
    FILE,
    FORMAT,
    DocumentKey,
    DocumentKind,
    Pkcs12,
    Session,
    Storage,
    StoredDocument,
    StoredKey,
    _typed,
    to_json,
)
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.settings import Settings

pytestmark = pytest.mark.anyio

PADES = DocumentKey(job_id=7, kind=DocumentKind.PADES)


@pytest.fixture
async def storage(tmp_path):
    opened = await Storage.open(tmp_path)
    yield opened
    await opened.aclose()


def fill(tables):
    """Puts entries into every table, mostly through the state."""
    settings = Settings(clock=lambda: NOW)
    state = State(settings, tables)
    state.clear()
    extra = "<status-retrieval-method>POLLING</status-retrieval-method>"
    manifest = read_manifest(Octets(bundles.manifest_xml(bundles.two_files())))
    for xml in (bundles.request_xml(extra=extra), bundles.request_xml()):
        state.create(SENDER, read_job_request(Octets(xml)), manifest, now=NOW)
    state.act(tables.jobs[1].signers[0].redirect_token, Act.SIGN, now=NOW)
    state.poll(SENDER, None, now=NOW)
    access = Access(settings, tables.calls, tables.brokers)
    access.admit(SENDER, now=NOW)
    access.block("111222333", until=NOW)
    access.authorize_broker("111222333", SENDER)
    tables.sessions[SignerOf(job_id=1, position=0)] = Session(
        redirect_token=Hidden("token"), key=Hidden("key")
    )
    tables.clock["advanced by"] = 30.5
    tables.keys["root"] = StoredKey(key=Hidden("pem"), certificate="pem")
    tables.enterprises[SENDER] = Pkcs12(content=Octets(b"\x00\xff"), password=Hidden("p"))


def contents(tables):
    return {name: dict(getattr(tables, name)) for name in tables.__slots__}


async def test_every_table_is_the_same_after_reopening(tmp_path):
    storage = await Storage.open(tmp_path)
    fill(storage.tables)
    before = contents(storage.tables)
    assert all(before.values())
    await storage.aclose()
    reopened = await Storage.open(tmp_path)
    assert contents(reopened.tables) == before
    # Secrets still have a repr that hides them.
    assert type(reopened.tables.jobs[1].signers[0].redirect_token) is Hidden
    assert type(reopened.tables.enterprises[SENDER].content) is Octets
    assert PERSON not in repr(reopened.tables)
    await reopened.aclose()


async def test_deleted_entries_stay_deleted_after_reopening(tmp_path):
    storage = await Storage.open(tmp_path)
    fill(storage.tables)
    await storage.commit()
    del storage.tables.jobs[2]
    storage.tables.brokers.clear()
    await storage.aclose()
    reopened = await Storage.open(tmp_path)
    assert list(reopened.tables.jobs) == [1]
    assert dict(reopened.tables.brokers) == {}
    await reopened.aclose()


async def test_the_size_of_a_commit_does_not_grow_with_the_stored_jobs(storage):
    state = State(Settings(clock=lambda: NOW), storage.tables)
    xml = bundles.request_xml(extra="<status-retrieval-method>POLLING</status-retrieval-method>")
    request = read_job_request(Octets(xml))
    manifest = read_manifest(Octets(bundles.manifest_xml(bundles.two_files())))
    written = []
    storage._executor.submit(storage._connection.set_trace_callback, written.append).result()

    async def size_of_the_commit_of_a_signed_job():
        written.clear()
        job = state.create(SENDER, request, manifest, now=NOW)
        state.act(job.signers[0].redirect_token, Act.SIGN, now=NOW)
        await storage.commit()
        return len(written), sum(len(statement) for statement in written)

    first = await size_of_the_commit_of_a_signed_job()
    for _ in range(50):
        last = await size_of_the_commit_of_a_signed_job()
    assert last[0] == first[0]
    # A job id of two digits is longer than one of one digit.
    assert last[1] < first[1] + 20


@pytest.mark.parametrize("on_disk", [False, True])
async def test_documents_are_stored_replaced_and_deleted(tmp_path, on_disk):
    storage = await Storage.open(tmp_path if on_disk else None)
    first, other = PADES, DocumentKey(job_id=8, kind=DocumentKind.ORIGINAL, position=1)
    document = StoredDocument(name="a", content=Octets(b"%PDF-"))
    storage.put(first, document)
    assert await storage.get(first) is None  # skipped: its originals are not stored
    storage.put(DocumentKey(job_id=7, kind=DocumentKind.ORIGINAL), document)
    for key in (first, other):
        storage.put(key, document)
    assert await storage.get(first) == document  # before the commit
    await storage.commit()
    assert await storage.get(first) == document  # after the commit
    storage.put(first, StoredDocument(content=Octets(b"new")))
    storage.commit_now()
    assert (await storage.get(first)).content == b"new"
    storage.put(first, document)
    storage.delete(7)
    assert await storage.get(first) is None
    assert await storage.get(other) == document
    storage.clear()
    assert await storage.get(other) is None
    await storage.aclose()


async def test_closing_writes_changes_that_were_not_committed(tmp_path):
    storage = await Storage.open(tmp_path)
    storage.tables.clock["x"] = 1.0
    await storage.aclose()
    reopened = await Storage.open(tmp_path)
    assert reopened.tables.clock == {"x": 1.0}
    await reopened.aclose()


async def test_a_second_sandbox_in_the_same_directory_is_an_error(storage, tmp_path):
    storage.tables.clock["x"] = 1.0
    await storage.commit()
    with pytest.raises(SandboxError, match="in use by another sandbox"):
        await Storage.open(tmp_path)


async def test_a_file_of_a_later_format_is_an_error(tmp_path):
    storage = await Storage.open(tmp_path)
    await storage.aclose()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(SandboxError, match=f"format {FORMAT + 1}.*reads format {FORMAT}"):
        await Storage.open(tmp_path)


async def test_a_file_of_an_earlier_format_is_an_error_and_stays_unchanged(tmp_path):
    """Format 1 stored the changes of a queue in the queue's entry."""
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE entries (kind TEXT, key TEXT, value TEXT)")
        connection.execute("INSERT INTO entries VALUES ('clock', '\"advanced by\"', '1.0')")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(SandboxError, match=f"^{tmp_path / FILE} has format 1.* {FORMAT}: remove"):
        await Storage.open(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert list(connection.execute("SELECT value FROM entries")) == [("1.0",)]
    connection.close()


async def test_a_damaged_file_and_a_file_of_something_else_are_errors(tmp_path):
    (await file_with_entries_in(tmp_path)).write_bytes(b"no database" * 1000)
    with pytest.raises(SandboxError, match="damaged, or it is not a file of a sandbox"):
        await Storage.open(tmp_path)
    file = await file_with_entries_in(tmp_path / "one page")
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    with pytest.raises(SandboxError, match="damaged, or it is not a file of a sandbox"):
        await Storage.open(file.parent)
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    with pytest.raises(SandboxError, match="unable to open database file"):
        await Storage.open(tmp_path / "folder")
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / FILE)) as connection:
        connection.execute("CREATE TABLE entries (something_else)")
    with pytest.raises(SandboxError, match=f"other/{FILE} is not a file of a sandbox: remove"):
        await Storage.open(tmp_path / "other")


async def file_with_entries_in(directory):
    """The file of a storage with entries in every table."""
    storage = await Storage.open(directory)
    fill(storage.tables)
    await storage.aclose()
    return directory / FILE


@pytest.mark.parametrize("value", ["{}", "{", "[]", '{"job_id": true, "position": 0}'])
async def test_the_error_for_an_unreadable_entry_does_not_show_its_value(tmp_path, value):
    storage = await Storage.open(tmp_path)
    await storage.aclose()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("INSERT INTO entries VALUES ('redirects', '\"t\"', ?)", (value,))
    connection.close()
    with pytest.raises(SandboxError, match=r"An entry of the table redirects.*remove the file"):
        await Storage.open(tmp_path)


async def test_a_directory_that_can_not_be_created_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        await Storage.open(tmp_path / "file")


async def test_after_a_failed_write_every_later_commit_fails_too(tmp_path):
    storage = await Storage.open(tmp_path)
    await storage.commit()
    # Only the storage's thread may use the connection.
    storage._executor.submit(storage._connection.execute, "PRAGMA query_only = ON").result()
    storage.tables.clock["x"] = 1.0
    with pytest.raises(SandboxError, match="can't write"):
        await storage.commit()
    storage._executor.submit(storage._connection.execute, "PRAGMA query_only = OFF").result()
    storage.tables.clock["y"] = 1.0
    with pytest.raises(SandboxError, match="can't write"):
        await storage.commit()
    with pytest.raises(SandboxError, match="can't write"):
        await storage.aclose()
    reopened = await Storage.open(tmp_path)
    assert dict(reopened.tables.clock) == {}
    await reopened.aclose()


async def test_changes_from_other_threads_are_written(tmp_path):
    storage = await Storage.open(tmp_path)

    def change(number):
        storage.tables.clock[str(number)] = float(number)

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(change, number) for number in range(200)]:
            future.result()
            await storage.commit()
    await storage.aclose()
    reopened = await Storage.open(tmp_path)
    assert len(reopened.tables.clock) == 200
    await reopened.aclose()


# --- The format of the entries


FORMAT_2 = {
    "id": 3,
    "sender": SENDER,
    "created": "2026-03-05T12:30:00+00:00",
    "request": {
        "reference": "ordre-77",
        "completion_url": "https://example.com/1",
        "rejection_url": "https://example.com/2",
        "error_url": "https://example.com/3",
        "status_retrieval_method": "POLLING",
        "polling_queue": None,
    },
    "manifest": {
        "signers": [
            {
                "personal_identification_number": None,
                "signer_identifier": "kunde-42",
                "signature_type": None,
                "on_behalf_of": "SELF",
            }
        ],
        "sender": SENDER,
        "title": "Lease",
        "description": None,
        "documents": [{"title": "Lease", "href": "0000_document.pdf", "mime": "application/pdf"}],
        "required_authentication": None,
        "identifier_in_signed_documents": None,
    },
    "signers": [
        {
            "state": {"status": "WAITING", "since": "2026-03-05T12:30:00+00:00"},
            "redirect_token": "a",
            "status_query_token": "b",
        }
    ],
    "confirmed": False,
    "deleted": False,
}


def typed(kind, plain):
    return _typed(kind, json.loads(json.dumps(plain)))


def test_a_job_has_the_format_that_earlier_versions_wrote():
    """If you must change `FORMAT_2`, increase FORMAT or keep reading the old format."""
    job = typed(Job, FORMAT_2)
    assert job.created == NOW
    assert job.manifest.signers[0].identifier == "kunde-42"
    assert json.loads(to_json(job)) == FORMAT_2


def test_fields_that_were_added_later_may_be_missing():
    earlier = {key: value for key, value in FORMAT_2.items() if key != "deleted"}
    assert typed(Job, earlier).deleted is False


def without(key):
    return {name: value for name, value in FORMAT_2.items() if name != key}


@pytest.mark.parametrize(
    "plain",
    [
        [],
        without("sender"),
        FORMAT_2 | {"new": 1},
        FORMAT_2 | {"id": "3"},
        FORMAT_2 | {"id": True},
        FORMAT_2 | {"id": 3.0},
        FORMAT_2 | {"sender": 1},
        FORMAT_2 | {"sender": None},
        FORMAT_2 | {"sender": {}},
        FORMAT_2 | {"created": "today"},
        FORMAT_2 | {"created": 1},
        FORMAT_2 | {"deleted": 1},
        FORMAT_2 | {"signers": {}},
        FORMAT_2 | {"signers": [None]},
        FORMAT_2 | {"request": []},
    ],
)
def test_an_entry_in_a_different_format_is_an_error(plain):
    with pytest.raises((KeyError, TypeError, ValueError)):
        typed(Job, plain)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [(Pkcs12, {"content": "?", "password": "p"}), (Act, "dance"), (float, 1), (bool, 0)],
)
def test_bytes_enumerations_and_numbers_in_a_different_format_are_errors(kind, plain):
    with pytest.raises((TypeError, ValueError)):
        typed(kind, plain)


@given(
    st.sampled_from([QueueName, ChangeId, Broker, SignerOf]).flatmap(st.from_type)
    | st.builds(Pkcs12, content=st.binary().map(Octets), password=st.text().map(Hidden))
)
def test_a_value_is_the_same_after_writing_and_reading(value):
    assert _typed(type(value), json.loads(to_json(value))) == value


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_the_same_after_writing_and_reading(time):
    assert _typed(datetime, json.loads(to_json(time))) == time


def test_the_repr_of_the_json_text_hides_it():
    assert "token" not in repr(to_json({"redirect_token": "token"}))
