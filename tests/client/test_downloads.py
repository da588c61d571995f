"""Signed documents on their way to a file or a caller: whole or absent, a chunk at a time."""

import asyncio
import errno
import gc
import resource
import signal
import threading
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
CUT = TransportError("The answer was cut off.", request_may_have_left=True)


def document(size: int) -> bytes:
    """A signed document of that many bytes, of either kind as far as anybody looks here."""
    begins, ends = b"<x a='%PDF-1.7'>", b"</x><!-- %%EOF -->"
    return begins + b"x" * (size - len(begins) - len(ends)) + ends


SIGNED = document(60)


def chunks(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def sized(content: bytes, **headers: str) -> Answer:
    return Answer(200, chunks(content, 65536), {"content-length": str(len(content)), **headers})


@pytest.fixture(params=["download_pades", "download_xades"])
def download(request):
    return lambda client, *arguments, **options: getattr(client, request.param)(
        *arguments, **options
    )


@pytest.fixture(params=["open_pades", "open_xades"])
def opening(request):
    return lambda client, url=URL: getattr(client, request.param)(url)


@pytest.fixture
def path(tmp_path) -> Path:
    """Where to write, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "signed.pdf"


def nothing_but(path: Path, content: bytes | None) -> None:
    """The folder holds the file with this content, or nothing; not a part of one."""
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == (
        {} if content is None else {path.name: content}
    )


# --- To a file


@pytest.mark.parametrize("kind", [str, Path])
async def test_a_file_appears_whole_and_its_size_is_told(download, path, kind):
    content = document(100_000)
    async with client_of(sized(content)) as (client, _):
        assert await download(client, URL, kind(path)) == len(content)
    nothing_but(path, content)


async def test_a_file_that_is_there_is_replaced(download, path):
    path.write_bytes(b"older, and longer than what comes" * 1000)
    async with client_of(sized(SIGNED)) as (client, _):
        await download(client, URL, path)
    nothing_but(path, SIGNED)


async def test_downloads_leave_no_descriptor_open(download, path):
    async with client_of(*[sized(SIGNED)] * 20) as (client, _):
        await download(client, URL, path)
        before = len(opened_files())
        for _ in range(19):
            await download(client, URL, path)
        assert len(opened_files()) == before


async def test_a_name_as_long_as_a_system_takes(download, path):
    long = path.with_name("ø" * 120 + ".pdf")
    async with client_of(sized(SIGNED)) as (client, _):
        await download(client, URL, long)
    nothing_but(long, SIGNED)


async def test_progress_is_told_as_bytes_are_on_the_disk(download, path):
    """After each MiB, and at the end."""
    content = document(2 * MIB + MIB // 2)
    told = []

    def progress(written: int, expected: int | None) -> None:
        [partial] = list(path.parent.iterdir())
        told.append((written, expected, partial == path))

    async with client_of(sized(content)) as (client, _):
        await download(client, URL, path, progress=progress)
    assert told == [
        (MIB, len(content), False),
        (2 * MIB, len(content), False),
        (len(content), len(content), True),
    ]


async def test_progress_without_a_known_length(download, path):
    told = []
    answer = Answer(200, SIGNED, {"transfer-encoding": "chunked"})
    async with client_of(answer) as (client, _):
        await download(client, URL, path, progress=lambda *each: told.append(each))
    assert told == [(len(SIGNED), None)]


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
async def test_a_download_that_fails_leaves_what_was_there(download, path, before, answer, error):
    if before is not None:
        path.write_bytes(before)
    async with client_of(answer) as (client, transport):
        with pytest.raises(error):
            await download(client, URL, path)
        assert transport.open == 0
    nothing_but(path, before)


@pytest.mark.parametrize("kind", ["native", "scope"])
@pytest.mark.parametrize("before", [None, b"older"])
async def test_a_cancelled_download_leaves_what_was_there(download, path, before, kind):
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
    nothing_but(path, before)


@pytest.mark.parametrize("kind", ["no folder", "a folder of that name", "no such name"])
async def test_a_file_that_can_not_be_written_is_told_by_the_system(download, path, kind):
    if kind == "no folder":
        target, error = path.parent / "absent" / "signed.pdf", FileNotFoundError
    elif kind == "a folder of that name":
        target, error = path.parent, OSError
        path = path.parent.parent / "x"
    else:
        target, error = path.with_name("x" * 300), OSError
    async with client_of(sized(SIGNED), retries=Retries(max_retries=2)) as (client, transport):
        with pytest.raises(error):
            await download(client, URL, target)
        assert len(transport.sent) == 1
        assert transport.open == 0
    assert not list(target.parent.rglob("*.part"))


@pytest.fixture
def small_disk():
    """No file of this process may grow over 1.5 MiB: a write fails as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + MIB // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB + MIB // 2])
async def test_a_disk_that_is_full_leaves_nothing(download, path, small_disk, size):
    """The smaller one fits: the twin of the larger."""
    async with client_of(sized(document(size))) as (client, transport):
        if size < MIB + MIB // 2:
            await download(client, URL, path)
            nothing_but(path, document(size))
            return
        with pytest.raises(OSError) as caught:
            await download(client, URL, path)
        assert caught.value.errno == errno.EFBIG
        assert transport.open == 0
    nothing_but(path, None)


async def test_what_the_progress_raises_leaves_nothing(download, path):
    def stop(written: int, expected: int | None) -> None:
        raise ZeroDivisionError

    async with client_of(sized(document(2 * MIB))) as (client, transport):
        with pytest.raises(ZeroDivisionError):
            await download(client, URL, path, progress=stop)
        assert transport.open == 0
    nothing_but(path, None)


async def test_a_download_works_in_threads(download, path, monkeypatch):
    """The event loop's thread opens, writes and renames nothing."""
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
    async with client_of(sized(document(2 * MIB))) as (client, _):
        await download(client, URL, path)
    assert len(threads) == 8  # three writes and the end, each of which opens
    assert threading.get_ident() not in threads


async def test_a_task_cancelled_while_its_file_is_opened_leaves_nothing(
    download, path, monkeypatch
):
    """A thread can't be cancelled: what it opened after all has to go."""
    reached, go_on = threading.Event(), threading.Event()
    open_anyway = Path.open

    def slowly(self, *arguments, **options):
        file = open_anyway(self, *arguments, **options)
        if self.parent == path.parent:
            reached.set()
            assert go_on.wait(10)
        return file

    monkeypatch.setattr(Path, "open", slowly)
    async with client_of(sized(SIGNED)) as (client, _):
        task = asyncio.get_running_loop().create_task(download(client, URL, path))
        await anyio.to_thread.run_sync(reached.wait, 10)
        task.cancel()
        await anyio.lowlevel.checkpoint()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    gc.collect()  # A file that nobody closed is a ResourceWarning, and fails the test.
    nothing_but(path, None)


# --- As a stream


async def test_chunks_come_as_they_are_taken(opening):
    """Nothing is fetched ahead, nothing gathered."""
    content = document(100_009)
    pieces = [content[:20], content[20:100_000], content[100_000:]]
    answer = Answer(200, pieces, {"content-length": "100009"})
    async with client_of(answer) as (client, transport), opening(client) as stream:
        assert stream.content_length == 100_009
        iterator = aiter(stream)
        for number, piece in enumerate(pieces, start=1):
            assert await anext(iterator) == piece
            assert len(transport.given) == number
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
async def test_the_length_is_told_where_the_service_says_it(opening, headers, expected):
    async with client_of(Answer(200, b"", headers)) as (client, _), opening(client) as stream:
        assert stream.content_length == expected


async def test_a_stream_left_early_gives_its_connection_back(opening):
    async with client_of(sized(document(MIB)), Answer(204)) as (client, transport):
        async with opening(client) as stream:
            async for _ in stream:
                break
            assert transport.open == 1
        assert transport.open == 0
        assert len(transport.given) == 1
        await client.confirm(URL)


async def test_a_stream_left_by_an_exception_gives_its_connection_back(opening):
    async with client_of(sized(document(MIB))) as (client, transport):

        async def fail() -> None:
            async with opening(client) as stream:
                await anext(aiter(stream))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert transport.open == 0


async def test_a_stream_is_begun_anew_only_before_the_caller_has_it(opening):
    patient = Retries(max_retries=2)
    cut = Answer(200, [b"%PDF"], {"content-length": "9"}, broken_by=CUT)
    async with client_of(CUT, cut, retries=patient) as (client, transport):
        with pytest.raises(TransportError):
            await consumed(opening(client))
        assert len(transport.sent) == 2
        assert transport.open == 0


async def test_several_streams_at_once_up_to_the_number_of_connections(opening):
    """A fifth waits, and API calls have connections of their own."""
    script = [sized(SIGNED) for _ in range(4)]
    async with client_of(*script, Answer(204), sized(SIGNED), max_connections=4) as (
        client,
        transport,
    ):
        async with anyio.create_task_group() as tasks:
            streams = [opening(client) for _ in range(4)]
            for each in streams:
                await each.__aenter__()
            assert transport.open == 4
            tasks.start_soon(client.get_pades, URL)
            await anyio.wait_all_tasks_blocked()
            assert len(transport.sent) == 4
            await client.confirm(URL)
            for each in streams:
                await each.__aexit__(None, None, None)
        assert len(transport.sent) == 6
        assert transport.open == 0


async def test_an_opened_stream_may_be_closed_by_another_task(opening):
    """As a web server does that streams an answer."""
    async with client_of(sized(SIGNED)) as (client, transport):
        stream = opening(client)
        await stream.__aenter__()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.__aexit__, None, None, None)
        assert transport.open == 0


async def test_a_cancelled_request_leaves_no_stream_open(opening):
    hang = Hang()
    async with client_of(hang, sized(SIGNED)) as (client, transport):

        async def read() -> None:
            async with opening(client):
                raise AssertionError

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await hang.reached.wait()
            tasks.cancel_scope.cancel()
        async with opening(client) as stream:
            assert await anext(aiter(stream)) == SIGNED
        assert transport.open == 0
