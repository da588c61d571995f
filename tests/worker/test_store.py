"""Signed documents into safe keeping: on the disk before the confirmation, whole or not at all."""

import asyncio
import errno
import os
import stat
from contextlib import asynccontextmanager
from datetime import timedelta
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
KEPT = {"pades.pdf": PADES, "xades-1.xml": XADES[0], "xades-2.xml": XADES[1]}


def poll_answer(body: bytes | None) -> Answer:
    wait = timedelta(0) if body else timedelta(minutes=10)
    headers = doubles.poll_headers(pki.NOW, wait)
    return Answer(204, headers=headers) if body is None else Answer(200, body, headers)


def whole(content: bytes) -> Answer:
    return Answer(200, content, {"content-length": str(len(content))})


def files(directory: Path) -> dict[str, bytes]:
    """Everything below a directory, what is hidden too."""
    return {
        str(each.relative_to(directory)): each.read_bytes()
        for each in directory.rglob("*")
        if each.is_file()
    }


def unsigned_xml() -> bytes:
    """A change that offers nothing to keep."""
    xml = status_xml("IN_PROGRESS").decode()
    for element in ("xades-url", "pades-url"):
        while f"<{element}" in xml:
            head, _, rest = xml.partition(f"<{element}")
            xml = head + rest.partition(f"</{element}>")[2]
    return xml.encode()


async def never(_: float) -> None:
    await anyio.sleep_forever()


@asynccontextmanager
async def working(transport: ScriptedTransport, store: SignedDocumentStore):
    """A worker that stores what is signed, with one hand."""
    configuration = doubles.configuration(transport, sleep=never)
    async with doubles.DirectClient(configuration) as client:
        worker = StatusChangeWorker(client, StoreSignedDocuments(client, store), concurrency=1)
        task = asyncio.ensure_future(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await task


async def test_what_is_signed_is_on_the_disk_before_its_change_is_confirmed(tmp_path):
    at_confirmation = {}
    confirmed = anyio.Event()

    class Looking(ScriptedTransport):
        @asynccontextmanager
        async def exchange(self, request):
            if request.method == "POST":
                at_confirmation.update(files(tmp_path))
                confirmed.set()
            async with super().exchange(request) as stream:
                yield stream

    transport = Looking(
        poll_answer(status_xml()),
        *map(whole, KEPT.values()),
        Answer(204),
        poll_answer(None),
    )
    async with working(transport, DirectoryStore(tmp_path)) as worker:
        with anyio.fail_after(20):
            await confirmed.wait()
    assert at_confirmation == {f"7/{name}": content for name, content in KEPT.items()}
    assert worker.counts.confirmed == 1


async def test_a_change_whose_documents_could_not_be_kept_is_not_confirmed(tmp_path):
    """The negative twin: the store fails, and nothing is sent but downloads and polls."""
    (tmp_path / "7").write_text("in the way")
    transport = ScriptedTransport(poll_answer(status_xml()), whole(PADES), poll_answer(None))
    async with working(transport, DirectoryStore(tmp_path)) as worker:
        with anyio.fail_after(20):
            while not worker.counts.polls.empty:
                await anyio.lowlevel.checkpoint()
    assert worker.counts.failed == 1
    assert {each.method for each in transport.sent} == {"GET"}


async def test_changes_that_offer_nothing_pass_by(tmp_path):
    async with client_of(poll_answer(unsigned_xml())) as (client, transport):
        poll = await client.get_status_change()
        await StoreSignedDocuments(client, DirectoryStore(tmp_path))(poll.change)
    assert len(transport.sent) == 1
    assert files(tmp_path) == {}


async def test_a_store_of_another_kind_is_given_each_document_with_its_job_and_name():
    kept = []

    class Store:
        async def save(self, *, job_id: int, name: str, content: bytes) -> None:
            kept.append((job_id, name, content))

    script = [poll_answer(status_xml(job_id=9)), *map(whole, KEPT.values())]
    async with client_of(*script) as (client, _):
        poll = await client.get_status_change()
        await StoreSignedDocuments(client, Store())(poll.change)
    assert kept == [(9, name, content) for name, content in KEPT.items()]


async def test_a_download_that_fails_is_told(tmp_path):
    cut = Answer(
        200, PADES, broken_by=TransportError("The answer was cut off.", request_may_have_left=True)
    )
    async with client_of(poll_answer(status_xml()), cut, cut, cut) as (client, _):
        poll = await client.get_status_change()
        with pytest.raises(TransportError):
            await StoreSignedDocuments(client, DirectoryStore(tmp_path))(poll.change)
    assert files(tmp_path) == {}


async def test_signers_have_their_numbers_whatever_order_the_service_lists_them_in(tmp_path):
    """Or the files of an earlier change would be replaced by those of other signers."""
    ours = status_xml()
    first, second = (
        ours[start : ours.index(b"</status>", start) + 9]
        for start in (ours.index(b"<status "), ours.rindex(b"<status "))
    )
    theirs = ours.replace(first + second, second + first)
    assert theirs != ours
    found = []
    for number, (xml, contents) in enumerate([(ours, XADES), (theirs, XADES)]):
        script = [Answer(200, xml, doubles.poll_headers(pki.NOW, timedelta(0))), whole(PADES)]
        transport = ScriptedTransport(*script, *map(whole, contents))
        folder = tmp_path / str(number)
        async with doubles.DirectClient(doubles.configuration(transport)) as client:
            poll = await client.get_status_change()
            await StoreSignedDocuments(client, DirectoryStore(folder))(poll.change)
        urls = [each.url.rpartition("/")[2] for each in transport.sent if "xades" in each.url]
        assert urls == ["1", "2"]
        found.append(files(folder))
    assert found == [{f"7/{name}": content for name, content in KEPT.items()}] * 2


async def test_a_document_that_comes_again_replaces_the_first(tmp_path):
    store = DirectoryStore(str(tmp_path / "a" / "b"))
    for content in (b"first", b"second"):
        await store.save(job_id=7, name="pades.pdf", content=content)
    assert files(tmp_path) == {"a/b/7/pades.pdf": b"second"}


async def test_saving_leaves_no_descriptor_open(tmp_path):
    store = DirectoryStore(tmp_path)
    await store.save(job_id=0, name="pades.pdf", content=PADES)
    before = len(opened_files())
    for job_id in range(1, 20):
        await store.save(job_id=job_id, name="pades.pdf", content=PADES)
    assert len(opened_files()) == before


async def test_a_signer_whom_the_service_does_not_name_is_kept_beside_one_that_it_names(tmp_path):
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


@pytest.mark.parametrize("write", ["write", "fsync", "rename"])
async def test_a_write_that_fails_leaves_nothing_and_the_old_file_as_it_was(
    tmp_path, monkeypatch, write
):
    store = DirectoryStore(tmp_path)
    await store.save(job_id=7, name="pades.pdf", content=b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    match write:
        case "write":
            monkeypatch.setattr(downloads.PartialFile, "write", full)
        case "fsync":
            monkeypatch.setattr(os, "fsync", full)
        case _:
            monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space") as failed:
        await store.save(job_id=7, name="pades.pdf", content=b"canary")
    assert files(tmp_path) == {"7/pades.pdf": b"old"}
    assert "canary" not in doubles.frames_with_locals(failed.value)


async def test_a_loss_of_power_after_saving_loses_nothing(tmp_path, monkeypatch):
    """What is flushed, in which order: each new directory's entry, the file, then its name."""
    flushed = []
    fsync = os.fsync

    def told(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names = sorted(each.name for each in path.iterdir()) if is_directory else []
        flushed.append((str(path.relative_to(tmp_path)), names))

    monkeypatch.setattr(os, "fsync", told)
    await DirectoryStore(tmp_path / "new").save(job_id=7, name="pades.pdf", content=PADES)
    assert flushed[:2] == [(".", ["new"]), ("new", ["7"])]
    partial, _ = flushed[2]
    assert partial.startswith("new/7/.pades.pdf.")
    assert partial.endswith(".part")
    assert flushed[3:] == [("new/7", ["pades.pdf"])]


async def test_where_directories_have_no_handle_files_are_still_written(tmp_path, monkeypatch):
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


async def test_after_a_file_is_discarded_nothing_of_it_comes_back(tmp_path):
    """A thread that a cancellation left behind may still be at work."""
    with downloads.PartialFile(tmp_path / "file") as file:
        file.write(Secret(b"content"))
    assert file.write(Secret(b"more")) == 0
    file.complete()
    assert files(tmp_path) == {}


async def test_saving_at_the_same_time_harms_nobody(tmp_path):
    store = DirectoryStore(tmp_path / "new")
    contents = [bytes([each]) * 50_000 for each in range(8)]
    async with anyio.create_task_group() as tasks:
        for content in contents:
            tasks.start_soon(lambda each: store.save(job_id=7, name="same", content=each), content)
    [(_, kept)] = files(tmp_path).items()
    assert kept in contents
