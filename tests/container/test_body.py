"""Bodies as they are produced: whole, in small chunks, and never with another content than signed."""

import io
import os
import tracemalloc
import zipfile
import zlib
from contextlib import aclosing
from functools import partial

import anyio
import pytest
from bodies import (
    CANARY,
    CHUNK,
    MANIFEST,
    MIB,
    from_bytes,
    from_paths,
    pdf_of,
    produce,
    sent,
    write,
)
from doubles import opened_files
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._container.layout import Compression
from posten_signering._values.job import Document
from posten_signering._wire.exchange import Body
from posten_signering.errors import DocumentChangedError

pytestmark = pytest.mark.anyio


async def collect(body, chunks, after_first=lambda: None) -> None:
    """Produces a body into a list, which keeps what came before an error."""
    async for chunk in body.chunks():
        chunks.append(chunk)
        if len(chunks) == 1:
            after_first()


@pytest.fixture(params=["bytes", "path"])
def make(request, tmp_path):
    """Makes a body of documents given as bytes or as paths."""
    return from_bytes if request.param == "bytes" else partial(from_paths, tmp_path)


SIZES = [1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK - 1, 16 * CHUNK, 16 * CHUNK + 1, 3 * MIB + 5]


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", SIZES)
async def test_the_body_is_whole_and_comes_in_small_chunks(make, size, compression):
    job = make(pdf_of(size), pdf_of(10), compression=compression)
    chunks = await produce(job.body)
    content = b"".join(chunks)
    assert len(content) == job.body.length == job.body.layout.length
    assert all(type(chunk) is bytes and 0 < len(chunk) <= CHUNK for chunk in chunks)
    start = content.index(b"PK\x03\x04")
    with zipfile.ZipFile(io.BytesIO(content[start : start + job.container.length])) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [archive.read(name) for name in names[:2]] == job.contents
        assert archive.read("manifest.xml") == MANIFEST


@pytest.mark.parametrize("compression", Compression)
async def test_the_body_can_be_produced_again(make, compression):
    job = make(pdf_of(2 * MIB), pdf_of(100), compression=compression)
    first = await produce(job.body)
    assert await produce(job.body) == first
    # And once more after it was given up half way.
    async with aclosing(job.body.chunks()) as chunks:
        await anext(chunks)
    assert await produce(job.body) == first


async def test_a_body_has_what_the_transport_asks_of_one(make):
    body: Body = make(pdf_of(100)).body
    assert sum(map(len, await produce(body))) == body.length


@pytest.mark.parametrize("compression", Compression)
def test_the_container_alone_is_the_one_in_the_body(make, compression):
    job = make(pdf_of(2 * MIB), pdf_of(5), compression=compression)
    content = job.open().read()
    assert len(content) == job.container.length
    assert content in b"".join(anyio.run(produce, job.body))


# A document that is another when it is sent.


def other_content(path):
    path.write_bytes(bytes(reversed(path.read_bytes())))


def other_first_byte(path):
    path.write_bytes(b"#" + path.read_bytes()[1:])


def other_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1] + b"#")


def shorter(path):
    path.write_bytes(path.read_bytes()[:-1])


def longer(path):
    path.write_bytes(path.read_bytes() + b"x")


def emptied(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def a_directory(path):
    path.unlink()
    path.mkdir()


def a_fifo(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = [
    *(other_content, other_first_byte, other_last_byte),
    *(shorter, longer, emptied, gone, a_directory, a_fifo),
]


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", [200, 16 * CHUNK, 17 * CHUNK + 5])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_file_breaks_the_body_off(tmp_path, size, change, compression):
    job = from_paths(tmp_path, pdf_of(100), pdf_of(size), compression=compression)
    change(job.body.inspection.documents[1].content)
    chunks = []
    with pytest.raises(DocumentChangedError) as caught:
        await collect(job.body, chunks)
    assert [str(each) for each in caught.value.violations] == [
        "documents[1].content: must not change while the job is created"
    ]
    assert CANARY not in str(caught.value)
    # Nothing that follows the document was sent, nor its own last byte.
    whole = await produce(from_bytes(*job.contents, compression=compression).body)
    assert b"<signatures/>" not in b"".join(chunks)
    assert sum(map(len, chunks)) < sum(map(len, whole)) - len(MANIFEST)
    with pytest.raises(DocumentChangedError):
        job.open()


async def test_a_file_that_changes_while_it_is_sent_breaks_the_body_off(tmp_path):
    job = from_paths(tmp_path, pdf_of(5 * MIB))
    path = job.body.inspection.documents[0].content
    chunks = []
    with pytest.raises(DocumentChangedError):
        await collect(job.body, chunks, after_first=lambda: other_last_byte(path))
    assert 3 * MIB < sum(map(len, chunks)) < 5 * MIB


async def test_a_file_that_is_written_again_with_the_same_content_is_no_change(tmp_path):
    job = from_paths(tmp_path, pdf_of(3 * MIB))
    path = job.body.inspection.documents[0].content
    path.unlink()
    path.write_bytes(job.contents[0])
    assert sum(map(len, await produce(job.body))) == job.body.length


# What stays behind: nothing.


async def test_no_file_is_open_between_two_chunks(tmp_path):
    before = opened_files()
    job = from_paths(tmp_path, pdf_of(3 * MIB))
    async for _ in job.body.chunks():
        assert len(opened_files()) <= len(before) + 1
    half = job.body.chunks()
    for _ in range(5):
        await anext(half)
    among_chunks = opened_files()
    await half.aclose()
    assert opened_files() == among_chunks


async def test_a_cancelled_body_leaves_no_file_open(tmp_path):
    job = from_paths(tmp_path, pdf_of(9 * MIB))
    await produce(job.body)
    before = opened_files()

    async def slow(cancel_after: int) -> None:
        with anyio.CancelScope() as scope:
            count = 0
            async for _ in job.body.chunks():
                count += 1
                if count == cancel_after:
                    scope.cancel()
        assert scope.cancelled_caught

    for cancel_after in (1, 2, 17, 40, 50):
        await slow(cancel_after)
    assert opened_files() == before
    assert job.body.limiter.borrowed_tokens == 0
    assert sum(map(len, await produce(job.body))) == job.body.length


async def test_files_are_read_under_the_limiter_and_bytes_without_a_thread(tmp_path):
    limiter = anyio.CapacityLimiter(1)
    in_memory = from_bytes(pdf_of(2 * MIB), limiter=limiter)
    from_file = from_paths(tmp_path, pdf_of(2 * MIB), limiter=limiter)
    await limiter.acquire_on_behalf_of(limiter)
    assert sum(map(len, await produce(in_memory.body))) == in_memory.body.length
    done = anyio.Event()

    async def produce_from_file() -> None:
        await produce(from_file.body)
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(produce_from_file)
        await anyio.wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        assert not done.is_set()
        limiter.release_on_behalf_of(limiter)
        await done.wait()


def peak_of(make_job) -> int:
    """Bytes that looking at documents and producing their body take at most, at once."""

    async def count(body) -> int:
        total = 0
        async for chunk in body.chunks():
            total += len(chunk)
        return total

    anyio.run(count, make_job().body)
    tracemalloc.start()
    try:
        job = make_job()
        assert anyio.run(count, job.body) == job.body.length
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", Compression)
def test_a_job_from_a_file_takes_little_memory(tmp_path, compression):
    documents = write(tmp_path, [pdf_of(10 * MIB)])
    assert peak_of(lambda: sent([], documents, compression=compression)) < 3 * MIB


@pytest.mark.parametrize("compression", Compression)
def test_bytes_are_not_copied_as_a_whole(compression):
    documents = [Document(title="x", content=pdf_of(10 * MIB))]
    assert peak_of(lambda: sent([], documents, compression=compression)) < 2 * MIB


def test_no_repr_shows_content():
    job = from_bytes(pdf_of(100))
    assert CANARY not in repr(job.body)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.sampled_from(Compression))
async def test_any_content_is_sent_as_it_is(contents, compression):
    job = from_bytes(*contents, compression=compression)
    content = b"".join(await produce(job.body))
    assert len(content) == job.body.length
    for each in contents:
        compressor = zlib.compressobj(wbits=-15)
        deflated = compressor.compress(each) + compressor.flush()
        assert (each if compression is Compression.STORED else deflated) in content
