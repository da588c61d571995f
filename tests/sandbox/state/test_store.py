"""The store on disk: what is written comes back, and what can't be read is told."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import bundles
import pytest
from bundles import NOW, PERSON, SENDER
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox import SandboxError
from posten_signering.sandbox._intake.messages import read_job_request, read_manifest
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.job import Act, Job
from posten_signering.sandbox._state.plain import NotPlainError, from_plain, to_plain
from posten_signering.sandbox._state.queues import QueueName
from posten_signering.sandbox._state.sqlite import FILE, FORMAT, SqliteStore
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.store import (
    DocumentKey,
    DocumentKind,
    MemoryStore,
    StoredDocument,
)
from posten_signering.sandbox._state.tables import Broker, Pkcs12, Session, SignerOf, StoredKey
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.settings import Settings

pytestmark = pytest.mark.anyio

PADES = DocumentKey(job_id=7, kind=DocumentKind.PADES)


@pytest.fixture
async def store(tmp_path):
    opened = await SqliteStore.open(tmp_path)
    yield opened
    await opened.aclose()


def fill(tables):
    """Puts something into every table, by way of the state."""
    settings = Settings(clock=lambda: NOW)
    state = State(settings, tables)
    extra = "<status-retrieval-method>POLLING</status-retrieval-method>"
    manifest = read_manifest(Octets(bundles.manifest_xml(bundles.two_files())))
    for xml in (bundles.request_xml(extra=extra), bundles.request_xml()):
        state.create(SENDER, read_job_request(Octets(xml)), manifest, now=NOW)
    state.act(tables.jobs[1].signers[0].redirect_token, Act.SIGN, now=NOW)
    state.poll(SENDER, None, now=NOW)
    access = Access(settings, tables)
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


async def test_every_table_comes_back_as_it_was(tmp_path):
    store = await SqliteStore.open(tmp_path)
    fill(store.tables)
    before = contents(store.tables)
    assert all(before.values())
    await store.aclose()
    again = await SqliteStore.open(tmp_path)
    assert contents(again.tables) == before
    # What is secret stays without a telling repr.
    assert type(again.tables.jobs[1].signers[0].redirect_token) is Hidden
    assert type(again.tables.enterprises[SENDER].content) is Octets
    assert PERSON not in repr(again.tables)
    await again.aclose()


async def test_what_is_deleted_stays_deleted(tmp_path):
    store = await SqliteStore.open(tmp_path)
    fill(store.tables)
    await store.commit()
    del store.tables.jobs[2]
    store.tables.brokers.clear()
    await store.aclose()
    again = await SqliteStore.open(tmp_path)
    assert list(again.tables.jobs) == [1]
    assert dict(again.tables.brokers) == {}
    await again.aclose()


@pytest.mark.parametrize("on_disk", [False, True])
async def test_documents_are_kept_replaced_and_deleted(tmp_path, on_disk):
    store = await SqliteStore.open(tmp_path) if on_disk else MemoryStore()
    first, other = PADES, DocumentKey(job_id=8, kind=DocumentKind.XADES, position=1)
    document = StoredDocument(name="a", content=Octets(b"%PDF-"))
    assert await store.get(first) is None
    for key in (first, other):
        store.put(key, document)
    assert await store.get(first) == document  # before it is written
    await store.commit()
    assert await store.get(first) == document  # and after
    store.put(first, StoredDocument(content=Octets(b"new")))
    store.commit_now()
    assert (await store.get(first)).content == b"new"
    store.put(first, document)
    store.delete(7)
    assert await store.get(first) is None
    assert await store.get(other) == document
    store.clear()
    assert await store.get(other) is None
    await store.aclose()


async def test_what_a_commit_was_not_waited_for_is_written_by_the_end(tmp_path):
    store = await SqliteStore.open(tmp_path)
    store.tables.clock["x"] = 1.0
    await store.aclose()
    again = await SqliteStore.open(tmp_path)
    assert again.tables.clock == {"x": 1.0}
    await again.aclose()


async def test_a_second_sandbox_in_the_directory_is_refused(store, tmp_path):
    store.tables.clock["x"] = 1.0
    await store.commit()
    with pytest.raises(SandboxError, match="in use by another sandbox"):
        await SqliteStore.open(tmp_path)


async def test_a_file_of_a_later_version_is_refused(tmp_path):
    store = await SqliteStore.open(tmp_path)
    await store.aclose()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(SandboxError, match=f"form {FORMAT + 1}.*reads form {FORMAT}"):
        await SqliteStore.open(tmp_path)


async def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(SandboxError, match="not a store"):
        await SqliteStore.open(tmp_path)


@pytest.mark.parametrize("value", ["{}", "{", "[]", '{"job_id": true, "position": 0}'])
async def test_an_entry_that_can_not_be_read_is_told_without_its_value(tmp_path, value):
    store = await SqliteStore.open(tmp_path)
    await store.aclose()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("INSERT INTO entries VALUES ('redirects', '\"t\"', ?)", (value,))
    connection.close()
    with pytest.raises(SandboxError, match=r"An entry of redirects.*remove the file"):
        await SqliteStore.open(tmp_path)


async def test_a_directory_that_can_not_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        await SqliteStore.open(tmp_path / "file")


async def test_a_disk_that_fails_is_told_and_nothing_after_it_is_believed(tmp_path):
    store = await SqliteStore.open(tmp_path)
    await store.commit()
    # The file is the thread's: so is the wish that it be read-only.
    store._executor.submit(store._connection.execute, "PRAGMA query_only = ON").result()
    store.tables.clock["x"] = 1.0
    with pytest.raises(SandboxError, match="can't write"):
        await store.commit()
    store._executor.submit(store._connection.execute, "PRAGMA query_only = OFF").result()
    store.tables.clock["y"] = 1.0
    with pytest.raises(SandboxError, match="can't write"):
        await store.commit()
    with pytest.raises(SandboxError, match="can't write"):
        await store.aclose()
    again = await SqliteStore.open(tmp_path)
    assert dict(again.tables.clock) == {}
    await again.aclose()


async def test_changes_from_other_threads_are_written_too(tmp_path):
    store = await SqliteStore.open(tmp_path)

    def change(number):
        store.tables.clock[str(number)] = float(number)

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(change, number) for number in range(200)]:
            future.result()
            await store.commit()
    await store.aclose()
    again = await SqliteStore.open(tmp_path)
    assert len(again.tables.clock) == 200
    await again.aclose()


# --- The written form


FORM_1 = {
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


def test_a_job_has_the_form_that_earlier_versions_wrote():
    """Whoever has to change this literal raises FORMAT, or reads the old form too."""
    job = from_plain(Job, FORM_1)
    assert job.created == NOW
    assert job.manifest.signers[0].identifier == "kunde-42"
    assert to_plain(job) == FORM_1
    assert json.loads(json.dumps(to_plain(job))) == FORM_1


def test_fields_that_came_later_may_be_missing():
    earlier = {key: value for key, value in FORM_1.items() if key != "deleted"}
    assert from_plain(Job, earlier).deleted is False


def without(key):
    return {each: value for each, value in FORM_1.items() if each != key}


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ([], "a job must be an object"),
        (without("sender"), "a job lacks sender"),
        (FORM_1 | {"new": 1}, "has no field 'new'; it has: id, sender"),
        (FORM_1 | {"id": "3"}, "id must be a whole number"),
        (FORM_1 | {"id": True}, "id must be a whole number"),
        (FORM_1 | {"sender": 1}, "sender must be text"),
        (FORM_1 | {"created": "today"}, "created must be a time in ISO 8601"),
        (FORM_1 | {"deleted": 1}, "deleted must be true or false"),
        (FORM_1 | {"signers": {}}, "signers must be an array"),
        (FORM_1 | {"signers": [None]}, r"signers\[0\] must be an object"),
    ],
)
def test_what_has_another_form_is_told(plain, said):
    with pytest.raises(NotPlainError, match=said):
        from_plain(Job, plain, "a job")


def test_bytes_and_enumerations_of_another_form_are_told():
    with pytest.raises(NotPlainError, match="content must be Base64 text"):
        from_plain(Pkcs12, {"content": "?", "password": "p"})
    with pytest.raises(NotPlainError, match="the value must be one of sign, reject, fail"):
        from_plain(Act, "dance")


@given(
    st.sampled_from([QueueName, Broker, SignerOf]).flatmap(st.from_type)
    | st.builds(Pkcs12, content=st.binary().map(Octets), password=st.text().map(Hidden))
)
def test_what_is_written_reads_as_the_same(value):
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_read_as_the_same(time):
    assert from_plain(datetime, to_plain(time)) == time
