"""Signed documents are stored on the disk, completely or not at all, before the confirmation."""

import asyncio
import errno
import os
import stat
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import doubles
import pki
import pytest
from doubles import Answer, ScriptedTransport, client_of, opened_files, status_xml

from posten_signering import DirectJobStatusResponse, Signature
from posten_signering._client import downloads
from posten_signering._values.secret import Secret
from posten_signering.errors import TransportError
from posten_signering.worker import (
    DirectoryStore,
    SignedDocumentStore,
    StatusChangeWorker,
    StoreSignedDocuments,
)

pytestmark = pytest.mark.anyio

PADES = b"%PDF-1.7\nsigned\n%%EOF\n"
XADES = [b"<XAdESSignatures>1</XAdESSignatures>", b"<XAdESSignatures>2</XAdESSignatures>"]
STORED = {"pades.pdf": PADES, "xades-1.xml": XADES[0], "xades-2.xml": XADES[1]}


def poll_response(body: bytes | None) -> Answer:
    wait = timedelta(0) if body else timedelta(minutes=10)
    headers = doubles.poll_headers(pki.NOW, wait)
    return Answer(204, headers=headers) if body is None else Answer(200, body, headers)


def whole(content: bytes) -> Answer:
    return Answer(200, content, {"content-length": str(len(content))})


def files(directory: Path) -> dict[str, bytes]:
    """The contents of all files below a directory, hidden files included."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def unsigned_xml() -> bytes:
    """A change without signed documents."""
    xml = status_xml("IN_PROGRESS").decode()
    for element in ("xades-url", "pades-url"):
        while f"<{element}" in xml:
            head, _, rest = xml.partition(f"<{element}")
            xml = head + rest.partition(f"</{element}>")[2]
    return xml.encode()


async def sleep_forever(_: float) -> None:
    await anyio.sleep_forever()


@asynccontextmanager
async def working(transport: ScriptedTransport, store: SignedDocumentStore):
    """A running worker that stores signed documents, with a concurrency of 1."""
    configuration = doubles.configuration(transport, sleep=sleep_forever)
    async with doubles.DirectClient(configuration) as client:
        worker = StatusChangeWorker(client, StoreSignedDocuments(client, store), concurrency=1)
        task = asyncio.ensure_future(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await task


async def test_signed_documents_are_on_the_disk_before_the_change_is_confirmed(tmp_path):
    files_at_confirmation = {}
    confirmed = anyio.Event()

    class RecordingTransport(ScriptedTransport):
        @asynccontextmanager
        async def exchange(self, request):
            if request.method == "POST":
                files_at_confirmation.update(files(tmp_path))
                confirmed.set()
            async with super().exchange(request) as stream:
                yield stream

    transport = RecordingTransport(
        poll_response(status_xml()),
        *map(whole, STORED.values()),
        Answer(204),
        poll_response(None),
    )
    async with working(transport, DirectoryStore(tmp_path)) as worker:
        with anyio.fail_after(20):
            await confirmed.wait()
    assert files_at_confirmation == {f"7/{name}": content for name, content in STORED.items()}
    assert worker.counts.confirmed == 1


async def test_a_change_whose_documents_could_not_be_stored_is_not_confirmed(tmp_path):
    """The store fails, so the worker sends only polls and downloads."""
    (tmp_path / "7").write_text("in the way")
    transport = ScriptedTransport(poll_response(status_xml()), whole(PADES))
    async with working(transport, DirectoryStore(tmp_path)) as worker:
        with anyio.fail_after(20):
            while not worker.health.waiting_for_retry:
                await anyio.lowlevel.checkpoint()
    assert worker.counts.failed == 1
    assert {request.method for request in transport.sent} == {"GET"}


async def test_a_change_without_signed_documents_stores_nothing(tmp_path):
    async with client_of(poll_response(unsigned_xml())) as (client, transport):
        poll = await client.get_status_change()
        await StoreSignedDocuments(client, DirectoryStore(tmp_path))(poll.change)
    assert len(transport.sent) == 1
    assert files(tmp_path) == {}


async def test_a_custom_store_gets_each_document_with_its_job_id_and_name():
    saved = []

    class Store:
        async def save(self, *, job_id: int, name: str, content: bytes) -> None:
            saved.append((job_id, name, content))

    script = [poll_response(status_xml(job_id=9)), *map(whole, STORED.values())]
    async with client_of(*script) as (client, _):
        poll = await client.get_status_change()
        await StoreSignedDocuments(client, Store())(poll.change)
    assert saved == [(9, name, content) for name, content in STORED.items()]


async def test_a_failed_download_raises_and_stores_nothing(tmp_path):
    cut = Answer(
        200,
        PADES,
        broken_by=TransportError("The response was cut off.", request_may_have_left=True),
    )
    async with client_of(poll_response(status_xml()), cut, cut, cut) as (client, _):
        poll = await client.get_status_change()
        with pytest.raises(TransportError):
            await StoreSignedDocuments(client, DirectoryStore(tmp_path))(poll.change)
    assert files(tmp_path) == {}


async def test_a_signers_number_does_not_depend_on_the_order_in_the_response(tmp_path):
    """Otherwise the files of an earlier change would be replaced by those of other signers."""
    original = status_xml()
    first, second = (
        original[start : original.index(b"</status>", start) + 9]
        for start in (original.index(b"<status "), original.rindex(b"<status "))
    )
    reordered = original.replace(first + second, second + first)
    assert reordered != original
    stored = []
    for number, xml in enumerate([original, reordered]):
        script = [Answer(200, xml, doubles.poll_headers(pki.NOW, timedelta(0))), whole(PADES)]
        transport = ScriptedTransport(*script, *map(whole, XADES))
        folder = tmp_path / str(number)
        async with doubles.DirectClient(doubles.configuration(transport)) as client:
            poll = await client.get_status_change()
            await StoreSignedDocuments(client, DirectoryStore(folder))(poll.change)
        numbers = [sent.url.rpartition("/")[2] for sent in transport.sent if "xades" in sent.url]
        assert numbers == ["1", "2"]
        stored.append(files(folder))
    assert stored == [{f"7/{name}": content for name, content in STORED.items()}] * 2


async def test_a_document_that_is_saved_again_replaces_the_first(tmp_path):
    store = DirectoryStore(str(tmp_path / "a" / "b"))
    for content in (b"first", b"second"):
        await store.save(job_id=7, name="pades.pdf", content=content)
    assert files(tmp_path) == {"a/b/7/pades.pdf": b"second"}


async def test_saving_leaves_no_file_descriptor_open(tmp_path):
    store = DirectoryStore(tmp_path)
    await store.save(job_id=0, name="pades.pdf", content=PADES)
    before = len(opened_files())
    for job_id in range(1, 20):
        await store.save(job_id=job_id, name="pades.pdf", content=PADES)
    assert len(opened_files()) == before


async def test_the_xades_of_a_signer_without_an_identifier_is_stored_too(tmp_path):
    first, second = (
        Signature(signer=signer, status="SIGNED", xades_url=f"{doubles.ROOT}/xades/{number}")
        for signer, number in (("b", 2), (None, 1))
    )
    change = DirectJobStatusResponse(
        job_id=7, status="COMPLETED_SUCCESSFULLY", signatures=[first, second]
    )
    async with client_of(*map(whole, XADES)) as (client, transport):
        await StoreSignedDocuments(client, DirectoryStore(tmp_path))(change)
    assert [sent.url.rpartition("/")[2] for sent in transport.sent] == ["1", "2"]
    assert files(tmp_path) == {"7/xades-1.xml": XADES[0], "7/xades-2.xml": XADES[1]}


@pytest.mark.parametrize("failing_step", ["write", "fsync", "rename"])
async def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path, monkeypatch, failing_step
):
    store = DirectoryStore(tmp_path)
    await store.save(job_id=7, name="pades.pdf", content=b"old")

    def disk_full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    match failing_step:
        case "write":
            monkeypatch.setattr(downloads.PartialFile, "write", disk_full)
        case "fsync":
            monkeypatch.setattr(os, "fsync", disk_full)
        case _:
            monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(OSError, match="No space") as failed:
        await store.save(job_id=7, name="pades.pdf", content=b"canary")
    assert files(tmp_path) == {"7/pades.pdf": b"old"}
    assert "canary" not in doubles.frames_with_locals(failed.value)


async def test_a_power_failure_after_saving_loses_nothing(tmp_path, monkeypatch):
    """The order of flushes: the entry of each new directory, the file, and then the file's name."""
    flushed = []
    fsync = os.fsync

    def record_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names = sorted(child.name for child in path.iterdir()) if is_directory else []
        flushed.append((str(path.relative_to(tmp_path)), names))

    monkeypatch.setattr(os, "fsync", record_fsync)
    await DirectoryStore(tmp_path / "new").save(job_id=7, name="pades.pdf", content=PADES)
    assert flushed[:2] == [(".", ["new"]), ("new", ["7"])]
    partial, _ = flushed[2]
    assert partial.startswith("new/7/.pades.pdf.")
    assert partial.endswith(".part")
    assert flushed[3:] == [("new/7", ["pades.pdf"])]


async def test_directories_that_can_not_be_flushed_cause_one_warning_for_the_store(
    tmp_path, monkeypatch, caplog
):
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    for job_id in (7, 8):
        await DirectoryStore(tmp_path).save(job_id=job_id, name="pades.pdf", content=PADES)
    assert files(tmp_path) == {"7/pades.pdf": PADES, "8/pades.pdf": PADES}
    [warning] = caplog.records
    assert warning.levelname == "WARNING"
    assert f"The directory {tmp_path} can't be flushed" in warning.getMessage()


async def test_files_are_written_on_systems_without_directory_handles(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(downloads.os, "open", lambda *args: opened.append(args))
    monkeypatch.setattr(downloads, "_DIRECTORIES_HAVE_HANDLES", False)
    downloads.make_directory(tmp_path / "new")
    with downloads.PartialFile(tmp_path / "new" / "file") as file:
        file.write(Secret(b"content"))
        file.complete()
    monkeypatch.undo()
    assert files(tmp_path) == {"new/file": b"content"}
    assert opened == []


async def test_a_discarded_file_is_not_written_any_more(tmp_path):
    """A worker thread may still be running after its task was cancelled."""
    with downloads.PartialFile(tmp_path / "file") as file:
        file.write(Secret(b"content"))
    assert file.write(Secret(b"more")) == 0
    file.complete()
    assert files(tmp_path) == {}


async def test_concurrent_saves_leave_one_complete_file(tmp_path):
    store = DirectoryStore(tmp_path / "new")
    contents = [bytes([number]) * 50_000 for number in range(8)]
    async with anyio.create_task_group() as tasks:
        for content in contents:
            tasks.start_soon(partial(store.save, job_id=7, name="same", content=content))
    [(_, stored)] = files(tmp_path).items()
    assert stored in contents
