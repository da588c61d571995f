"""Downloads of signed documents: to a file that appears only when it is complete, or as a stream."""

import asyncio
import errno
import gc
import os
import resource
import signal
import stat
import threading
import tracemalloc
from functools import partial
from pathlib import Path

import anyio
import pytest
from client_calls import URL, consumed
from doubles import Answer, Hang, client_of, opened_files

from posten_signering import Retries
from posten_signering._client import downloads
from posten_signering.errors import ApiError, TransportError

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
CUT = TransportError("The response was cut off.", request_may_have_left=True)


def document(size: int) -> bytes:
    """A document of that many bytes that the client accepts both as a PAdES and as a XAdES."""
    start, end = b"<x a='%PDF-1.7'>", b"</x><!-- %%EOF -->"
    return start + b"x" * (size - len(start) - len(end)) + end


SIGNED = document(60)


def chunks(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def with_length(content: bytes, **headers: str) -> Answer:
    return Answer(200, chunks(content, 65536), {"content-length": str(len(content)), **headers})


@pytest.fixture(params=["download_pades", "download_xades"])
def download(request):
    return lambda client, *arguments, **options: getattr(client, request.param)(
        *arguments, **options
    )


@pytest.fixture(params=["open_pades", "open_xades"])
def open_stream(request):
    return lambda client, url=URL: getattr(client, request.param)(url)


@pytest.fixture
def path(tmp_path) -> Path:
    """The path to write to. Its directory is empty."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "signed.pdf"


def assert_only_file(path: Path, content: bytes | None) -> None:
    """Its directory contains only this file, or nothing if `content` is None. There is no partial file."""
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == (
        {} if content is None else {path.name: content}
    )


# --- To a file


@pytest.mark.parametrize("kind", [str, Path])
async def test_a_download_writes_the_whole_file_and_returns_its_size(download, path, kind):
    content = document(100_000)
    async with client_of(with_length(content)) as (client, _):
        assert await download(client, URL, kind(path)) == len(content)
    assert_only_file(path, content)


async def test_an_existing_file_is_replaced(download, path):
    path.write_bytes(b"older, and longer than the download" * 1000)
    async with client_of(with_length(SIGNED)) as (client, _):
        await download(client, URL, path)
    assert_only_file(path, SIGNED)


async def test_downloads_leave_no_descriptor_open(download, path):
    async with client_of(*[with_length(SIGNED)] * 20) as (client, _):
        await download(client, URL, path)
        before = len(opened_files())
        for _ in range(19):
            await download(client, URL, path)
        assert len(opened_files()) == before


async def test_a_very_long_file_name_works(download, path):
    long = path.with_name("ø" * 120 + ".pdf")
    async with client_of(with_length(SIGNED)) as (client, _):
        await download(client, URL, long)
    assert_only_file(long, SIGNED)


@pytest.mark.parametrize("size", [1000, 16 * 1024, 5 * MIB], ids=["odd", "usual", "huge"])
async def test_chunks_of_any_size_are_written_in_their_order(download, path, size):
    content = document(5 * MIB)[:64] + os.urandom(5 * MIB - 128) + document(64)
    async with client_of(Answer(200, chunks(content, size))) as (client, _):
        assert await download(client, URL, path) == len(content)
    assert_only_file(path, content)


async def test_a_download_to_a_file_needs_little_memory(download, path):
    answer = with_length(document(8 * MIB))
    async with client_of(answer) as (client, _):
        tracemalloc.start()
        try:
            await download(client, URL, path)
            assert tracemalloc.get_traced_memory()[1] < 1.5 * MIB
        finally:
            tracemalloc.stop()


async def test_progress_is_reported_after_each_mib_and_at_the_end(download, path):
    content = document(2 * MIB + MIB // 2)
    reports = []

    def progress(written: int, expected: int | None) -> None:
        [file] = list(path.parent.iterdir())
        reports.append((written, expected, file == path))

    async with client_of(with_length(content)) as (client, _):
        await download(client, URL, path, progress=progress)
    assert reports == [
        (MIB, len(content), False),
        (2 * MIB, len(content), False),
        (len(content), len(content), True),
    ]


async def test_progress_is_reported_without_a_known_length(download, path):
    reports = []
    answer = Answer(200, SIGNED, {"transfer-encoding": "chunked"})
    async with client_of(answer) as (client, _):
        await download(client, URL, path, progress=lambda *report: reports.append(report))
    assert reports == [(len(SIGNED), None)]


@pytest.mark.parametrize("before", [None, b"older"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(200, chunks(document(3 * MIB), 65536), broken_by=CUT), TransportError),
        (Answer(200, [], broken_by=CUT), TransportError),
        (Answer(404, b"gone"), ApiError),
        (CUT, TransportError),
        (Answer(200, document(MIB)[:-7]), TransportError),
    ],
)
async def test_a_failed_download_leaves_the_existing_file_unchanged(
    download, path, before, answer, error
):
    if before is not None:
        path.write_bytes(before)
    async with client_of(answer) as (client, transport):
        with pytest.raises(error):
            await download(client, URL, path)
        assert transport.open == 0
    assert_only_file(path, before)


@pytest.mark.parametrize("kind", ["native", "scope"])
@pytest.mark.parametrize("before", [None, b"older"])
async def test_a_cancelled_download_leaves_the_existing_file_unchanged(
    download, path, before, kind
):
    if before is not None:
        path.write_bytes(before)
    content = document(2 * MIB)
    hang = Hang()
    waiting = Answer(200, chunks(content, 65536), broken_by=hang)
    async with client_of(waiting) as (client, transport):
        if kind == "native":
            task = asyncio.get_running_loop().create_task(download(client, URL, path))
            await hang.reached.wait()
            assert len(list(path.parent.iterdir())) == (1 if before is None else 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(download, client, URL, path)
                await hang.reached.wait()
                tasks.cancel_scope.cancel()
        assert transport.open == 0
    assert_only_file(path, before)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("absent/signed.pdf", FileNotFoundError),
        ("file/signed.pdf", NotADirectoryError),
        ("", IsADirectoryError),
        ("x" * 300, OSError),
    ],
)
async def test_for_a_path_that_can_not_be_written_nothing_is_requested(
    download, path, target, error
):
    (path.parent / "file").touch()
    target = path.parent / target
    async with client_of(with_length(SIGNED)) as (client, transport):
        with pytest.raises(error) as raised:
            await download(client, URL, target)
        assert transport.sent == []
        assert raised.value.filename in {target, str(target)}
        assert [file.name for file in path.parent.iterdir()] == ["file"]
        await download(client, URL, path)
        assert len(transport.sent) == 1


async def test_for_a_directory_that_refuses_files_nothing_is_requested(download, path, monkeypatch):
    """Root may write to every local directory, so the refusal is simulated."""
    original_open = Path.open

    def refuse(self, *arguments, **options):
        if self.parent == path.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return original_open(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    async with client_of(with_length(SIGNED)) as (client, transport):
        with pytest.raises(PermissionError) as raised:
            await download(client, URL, path)
        assert raised.value.filename == str(path)
        assert transport.sent == []


@pytest.mark.parametrize("failing", ["open", "fsync"])
@pytest.mark.parametrize(
    "number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES], ids=errno.errorcode.get
)
async def test_a_directory_that_can_not_be_flushed_causes_one_warning(
    download, path, monkeypatch, caplog, failing, number
):
    failing_directory(monkeypatch, failing, number)
    other = path.parent.parent / "other.pdf"
    async with client_of(*[with_length(SIGNED)] * 3) as (client, _):
        for target in (path, path, other):
            assert await download(client, URL, target) == len(SIGNED)
    assert_only_file(path, SIGNED)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"The directory {path.parent} can't be flushed to the disk: ")
    assert "the name of a new file might be lost" in first
    assert str(other.parent) in second


@pytest.mark.parametrize("failing", ["open", "fsync"])
async def test_a_disk_that_fails_for_the_directory_is_an_error(
    download, path, monkeypatch, caplog, failing
):
    failing_directory(monkeypatch, failing, errno.EIO)
    async with client_of(with_length(SIGNED)) as (client, _):
        with pytest.raises(OSError, match="Input/output"):
            await download(client, URL, path)
    assert caplog.records == []


async def test_a_file_that_can_not_be_flushed_is_an_error(download, path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    async with client_of(with_length(SIGNED)) as (client, _):
        with pytest.raises(OSError, match="Invalid argument"):
            await download(client, URL, path)
    assert_only_file(path, None)


async def test_warnings_about_directories_are_limited(download, path, monkeypatch, caplog):
    """A program may use a new directory for each job, and must not fill its log and its memory."""
    monkeypatch.setattr(downloads, "_MOST_WARNINGS", len(downloads._warned_directories) + 1)
    failing_directory(monkeypatch, "fsync", errno.EINVAL)
    async with client_of(*[with_length(SIGNED)] * 2) as (client, _):
        await download(client, URL, path)
        await download(client, URL, path.parent.parent / "other.pdf")
    assert len(caplog.records) == 1


def failing_directory(monkeypatch, failing: str, number: int) -> None:
    """From now on, opening a directory or flushing it fails with this error. Files are not affected."""
    original, opened_stat = getattr(os, failing), os.stat

    def fail(path_or_descriptor, *arguments, **options):
        if stat.S_ISDIR(opened_stat(path_or_descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        return original(path_or_descriptor, *arguments, **options)

    monkeypatch.setattr(downloads.os, failing, fail)


@pytest.fixture
def small_disk():
    """Limits files of this process to 1.5 MiB, so that a longer write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + MIB // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB + MIB // 2])
async def test_a_full_disk_leaves_no_partial_file(download, path, small_disk, size):
    """The smaller document fits, and the larger one does not."""
    async with client_of(with_length(document(size))) as (client, transport):
        if size < MIB + MIB // 2:
            await download(client, URL, path)
            assert_only_file(path, document(size))
            return
        with pytest.raises(OSError) as caught:
            await download(client, URL, path)
        assert caught.value.errno == errno.EFBIG
        assert transport.open == 0
    assert_only_file(path, None)


async def test_an_exception_in_progress_leaves_no_partial_file(download, path):
    def stop(written: int, expected: int | None) -> None:
        raise ZeroDivisionError

    async with client_of(with_length(document(2 * MIB))) as (client, transport):
        with pytest.raises(ZeroDivisionError):
            await download(client, URL, path, progress=stop)
        assert transport.open == 0
    assert_only_file(path, None)


async def test_a_download_writes_in_worker_threads(download, path, monkeypatch):
    """The thread of the event loop does not open, write or rename the file."""
    threads = []

    class Watched(downloads.PartialFile):
        def _opened(self):
            threads.append(threading.get_ident())
            return super()._opened()

        def write(self, content: bytes) -> int:
            threads.append(threading.get_ident())
            return super().write(content)

        def complete(self) -> None:
            threads.append(threading.get_ident())
            super().complete()

    monkeypatch.setattr(downloads, "PartialFile", Watched)
    async with client_of(with_length(document(2 * MIB))) as (client, _):
        await download(client, URL, path)
    # The check, three writes and `complete`, and each of them calls `_opened`.
    assert len(threads) == 10
    assert threading.get_ident() not in threads


async def test_a_download_cancelled_twice_leaves_no_partial_file(download, path):
    """The second cancellation comes while every worker thread of the client is busy."""
    hang, may_continue = Hang(), threading.Event()
    waiting = Answer(200, chunks(document(2 * MIB), 65536), broken_by=hang)
    async with client_of(waiting) as (client, _), anyio.create_task_group() as tasks:
        task = asyncio.create_task(download(client, URL, path))
        await hang.reached.wait()
        assert len(list(path.parent.iterdir())) == 1
        limiter = client._open().limiter
        for _ in range(int(limiter.total_tokens)):
            tasks.start_soon(partial(anyio.to_thread.run_sync, may_continue.wait, limiter=limiter))
        await anyio.lowlevel.checkpoint()
        for _ in range(2):
            task.cancel()
            await anyio.lowlevel.checkpoint()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_continue.set()
    for thread in threading.enumerate():
        if thread.name.startswith("discard"):
            thread.join()
    assert_only_file(path, None)


@pytest.mark.parametrize("slow", ["the check", "the download"])
async def test_a_task_cancelled_while_its_file_is_opened_leaves_no_partial_file(
    download, path, monkeypatch, slow
):
    """A thread can't be cancelled, so the file that it still opens has to be removed."""
    reached, may_continue, removed = (threading.Event() for _ in range(3))
    original_open, original_unlink = Path.open, Path.unlink
    fast = ["the check"] if slow == "the download" else []

    def open_slowly(self, *arguments, **options):
        file = original_open(self, *arguments, **options)
        if self.parent == path.parent and not fast:
            reached.set()
            assert may_continue.wait(10)
        return file

    def unlink(self, **options):
        original_unlink(self, **options)
        (removed.set if not fast else fast.clear)()

    monkeypatch.setattr(Path, "open", open_slowly)
    monkeypatch.setattr(Path, "unlink", unlink)
    async with client_of(with_length(SIGNED)) as (client, _):
        task = asyncio.get_running_loop().create_task(download(client, URL, path))
        await anyio.to_thread.run_sync(reached.wait, 10)
        task.cancel()
        await anyio.lowlevel.checkpoint()
        may_continue.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await anyio.to_thread.run_sync(removed.wait, 10)
    gc.collect()  # An unclosed file causes a ResourceWarning, which fails the test.
    assert_only_file(path, None)


# --- As a stream


async def test_chunks_are_fetched_only_when_they_are_read(open_stream):
    """They are not fetched ahead and not joined."""
    content = document(100_009)
    pieces = [content[:20], content[20:100_000], content[100_000:]]
    answer = Answer(200, pieces, {"content-length": "100009"})
    async with client_of(answer) as (client, transport), open_stream(client) as stream:
        assert stream.content_length == 100_009
        iterator = aiter(stream)
        for number, piece in enumerate(pieces, start=1):
            assert await anext(iterator) == piece
            assert len(transport.chunk_sizes) == number
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-length": "0"}, 0),
        ({"content-length": "12345678901"}, 12_345_678_901),
        ({}, None),
        ({"content-length": ""}, None),
        ({"content-length": "-1"}, None),
        ({"content-length": "7, 7"}, None),
        ({"content-length": "²"}, None),
        ({"transfer-encoding": "chunked"}, None),
    ],
)
async def test_the_content_length_is_that_of_the_header_or_none(open_stream, headers, expected):
    async with client_of(Answer(200, b"", headers)) as (client, _), open_stream(client) as stream:
        assert stream.content_length == expected


async def test_a_stream_that_is_left_early_releases_its_connection(open_stream):
    async with client_of(with_length(document(MIB)), Answer(204)) as (client, transport):
        async with open_stream(client) as stream:
            async for _ in stream:
                break
            assert transport.open == 1
        assert transport.open == 0
        assert len(transport.chunk_sizes) == 1
        await client.confirm(URL)


async def test_a_stream_that_is_left_by_an_exception_releases_its_connection(open_stream):
    async with client_of(with_length(document(MIB))) as (client, transport):

        async def fail() -> None:
            async with open_stream(client) as stream:
                await anext(aiter(stream))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert transport.open == 0


async def test_a_stream_is_retried_only_until_the_caller_has_it(open_stream):
    cut = Answer(200, [b"%PDF"], {"content-length": "9"}, broken_by=CUT)
    async with client_of(CUT, cut, retries=Retries(max_retries=2)) as (client, transport):
        with pytest.raises(TransportError):
            await consumed(open_stream(client))
        assert len(transport.sent) == 2
        assert transport.open == 0


async def test_max_connections_limits_the_concurrent_streams(open_stream):
    """A fifth stream waits. API calls use other connections."""
    script = [with_length(SIGNED) for _ in range(4)]
    async with client_of(*script, Answer(204), with_length(SIGNED), max_connections=4) as (
        client,
        transport,
    ):
        async with anyio.create_task_group() as tasks:
            streams = [open_stream(client) for _ in range(4)]
            for stream in streams:
                await stream.__aenter__()
            assert transport.open == 4
            tasks.start_soon(client.get_pades, URL)
            await anyio.wait_all_tasks_blocked()
            assert len(transport.sent) == 4
            await client.confirm(URL)
            for stream in streams:
                await stream.__aexit__(None, None, None)
        assert len(transport.sent) == 6
        assert transport.open == 0


async def test_a_stream_may_be_closed_by_another_task(open_stream):
    """A web server that streams a response may do this."""
    async with client_of(with_length(SIGNED)) as (client, transport):
        stream = open_stream(client)
        await stream.__aenter__()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.__aexit__, None, None, None)
        assert transport.open == 0


async def test_a_cancelled_request_leaves_no_stream_open(open_stream):
    hang = Hang()
    async with client_of(hang, with_length(SIGNED)) as (client, transport):

        async def read() -> None:
            async with open_stream(client):
                raise AssertionError

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await hang.reached.wait()
            tasks.cancel_scope.cancel()
        async with open_stream(client) as stream:
            assert await anext(aiter(stream)) == SIGNED
        assert transport.open == 0
