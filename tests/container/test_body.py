"""Request bodies: complete, in small chunks, and never with content that differs from the signed one."""

import io
import os
import tracemalloc
import zipfile
import zlib
from contextlib import aclosing
from functools import partial

import anyio
import pytest
from anyio import to_thread
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
from doubles import frames_with_locals, opened_files
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._container.compression import Compression, deflater
from posten_signering._values.job import Document
from posten_signering._wire.exchange import Body
from posten_signering.errors import DocumentChangedError

pytestmark = pytest.mark.anyio

KEPT = 64 * 1024
"""The size, in bytes, up to which files stay in memory after they were inspected."""


async def collect(body, chunks, after_first=lambda: None) -> None:
    """Appends the chunks of a body to a list, which keeps them if an error follows."""
    async for chunk in body.chunks():
        chunks.append(chunk)
        if len(chunks) == 1:
            after_first()


@pytest.fixture(params=["bytes", "path"])
def make(request, tmp_path):
    """A function that makes a body from documents that are bytes or paths."""
    return from_bytes if request.param == "bytes" else partial(from_paths, tmp_path)


SIZES = [1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK - 1, 16 * CHUNK, 16 * CHUNK + 1, 3 * MIB + 5]


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", SIZES)
async def test_the_body_is_complete_in_as_few_chunks_as_possible(make, size, compression):
    job = make(pdf_of(size), pdf_of(10), compression=compression)
    chunks = await produce(job.body)
    content = b"".join(chunks)
    assert len(content) == job.body.length == job.body.layout.length
    assert all(type(chunk) is bytes for chunk in chunks)
    *full, last = map(len, chunks)
    assert set(full) <= {CHUNK}
    assert 0 < last <= CHUNK
    start = content.index(b"PK\x03\x04")
    with zipfile.ZipFile(io.BytesIO(content[start : start + job.container.length])) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [archive.read(name) for name in names[:2]] == job.contents
        assert archive.read("manifest.xml") == MANIFEST


@pytest.mark.parametrize("chunks", [1, 2, 16, 32])
async def test_a_body_may_end_with_a_full_chunk(make, chunks):
    around = make(pdf_of(CHUNK)).body.length - CHUNK
    job = make(pdf_of(chunks * CHUNK - around))
    assert [len(chunk) for chunk in await produce(job.body)] == [CHUNK] * chunks


@pytest.mark.parametrize("compression", Compression)
async def test_the_body_can_be_produced_more_than_once(make, compression):
    job = make(pdf_of(2 * MIB), pdf_of(100), compression=compression)
    first = await produce(job.body)
    assert await produce(job.body) == first
    # It can also be produced after an earlier production stopped half way.
    async with aclosing(job.body.chunks()) as chunks:
        await anext(chunks)
    assert await produce(job.body) == first


async def test_a_streamed_body_implements_the_protocol_body(make):
    body: Body = make(pdf_of(100)).body
    assert sum(map(len, await produce(body))) == body.length


@pytest.mark.parametrize("compression", Compression)
def test_the_container_alone_equals_the_container_in_the_body(make, compression):
    job = make(pdf_of(2 * MIB), pdf_of(5), compression=compression)
    content = job.open().read()
    assert len(content) == job.container.length
    assert content in b"".join(anyio.run(produce, job.body))


# A document that changes between the signature and the sending.


def reverse_the_content(path):
    path.write_bytes(bytes(reversed(path.read_bytes())))


def change_the_first_byte(path):
    path.write_bytes(b"#" + path.read_bytes()[1:])


def change_the_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1] + b"#")


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"x")


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def replace_by_a_directory(path):
    path.unlink()
    path.mkdir()


def replace_by_a_fifo(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = [
    *(reverse_the_content, change_the_first_byte, change_the_last_byte),
    *(shorten, lengthen, empty, remove, replace_by_a_directory, replace_by_a_fifo),
]


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", [KEPT + 1, 16 * CHUNK, 17 * CHUNK + 5])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_file_stops_the_body(tmp_path, size, change, compression):
    job = from_paths(tmp_path, pdf_of(100), pdf_of(size), compression=compression)
    change(job.body.inspection.documents[1].content)
    chunks = []
    with pytest.raises(DocumentChangedError) as caught:
        await collect(job.body, chunks)
    assert [str(violation) for violation in caught.value.violations] == [
        "documents[1].content: must not change while the job is created"
    ]
    assert CANARY not in str(caught.value)
    assert CANARY not in frames_with_locals(caught.value)
    # Neither the last byte of the document nor anything after it was sent.
    whole = await produce(from_bytes(*job.contents, compression=compression).body)
    assert b"<signatures/>" not in b"".join(chunks)
    assert sum(map(len, chunks)) < sum(map(len, whole)) - len(MANIFEST)
    with pytest.raises(DocumentChangedError):
        job.open()


@pytest.mark.parametrize("sizes", [[KEPT], [KEPT // 2, KEPT // 2], [KEPT + 1, KEPT]])
@pytest.mark.parametrize("change", CHANGES)
async def test_small_files_are_sent_as_they_were_signed(tmp_path, sizes, change):
    """They stay in memory, up to 64 KiB in total."""
    job = from_paths(tmp_path, *map(pdf_of, sizes))
    whole = await produce(job.body)
    change(max(tmp_path.iterdir()))
    assert await produce(job.body) == whole


async def test_more_small_files_than_64_kib_are_read_again(tmp_path):
    job = from_paths(tmp_path, *[pdf_of(KEPT // 2)] * 3)
    change_the_last_byte(job.body.inspection.documents[2].content)
    with pytest.raises(DocumentChangedError, match=r"documents\[2\]"):
        await produce(job.body)


async def test_a_file_that_changes_while_it_is_sent_stops_the_body(tmp_path):
    job = from_paths(tmp_path, pdf_of(5 * MIB))
    path = job.body.inspection.documents[0].content
    chunks = []
    with pytest.raises(DocumentChangedError):
        await collect(job.body, chunks, after_first=lambda: change_the_last_byte(path))
    assert 3 * MIB < sum(map(len, chunks)) < 5 * MIB


async def test_a_file_that_is_replaced_with_the_same_content_is_sent(tmp_path):
    job = from_paths(tmp_path, pdf_of(3 * MIB))
    path = job.body.inspection.documents[0].content
    path.unlink()
    path.write_bytes(job.contents[0])
    assert sum(map(len, await produce(job.body))) == job.body.length


# Open files and worker threads.


async def test_no_file_is_open_between_two_chunks(tmp_path):
    before = opened_files()
    job = from_paths(tmp_path, pdf_of(3 * MIB))
    async for _ in job.body.chunks():
        assert len(opened_files()) <= len(before) + 1
    half = job.body.chunks()
    for _ in range(5):
        await anext(half)
    between_chunks = opened_files()
    await half.aclose()
    assert opened_files() == between_chunks


async def test_a_cancelled_body_leaves_no_file_open(tmp_path):
    job = from_paths(tmp_path, pdf_of(9 * MIB))
    await produce(job.body)
    before = opened_files()

    async def produce_until(cancel_after: int) -> None:
        with anyio.CancelScope() as scope:
            count = 0
            async for _ in job.body.chunks():
                count += 1
                if count == cancel_after:
                    scope.cancel()
        assert scope.cancelled_caught

    for cancel_after in (1, 2, 17, 40, 50):
        await produce_until(cancel_after)
    assert opened_files() == before
    assert job.body.limiter.borrowed_tokens == 0
    assert sum(map(len, await produce(job.body))) == job.body.length


async def test_files_are_read_within_the_limiter_and_bytes_without_a_thread(tmp_path):
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


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize(
    ("sizes", "calls"),
    [([100] * 20, 0), ([KEPT + 1] * 10, 1), ([100, MIB], 1), ([3 * MIB], 2), ([3 * MIB, 100], 2)],
)
async def test_one_call_of_a_worker_thread_reads_many_chunks(
    tmp_path, monkeypatch, sizes, calls, compression
):
    called = []
    run_sync = to_thread.run_sync

    async def counting(*arguments, **options):
        called.append(arguments)
        return await run_sync(*arguments, **options)

    job = from_paths(tmp_path, *map(pdf_of, sizes), compression=compression)
    monkeypatch.setattr(to_thread, "run_sync", counting)
    await produce(job.body)
    assert len(called) == calls


def peak_of(make_job) -> int:
    """The peak memory, in bytes, of inspecting documents and producing their body."""

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


def test_a_file_that_grows_while_it_is_inspected_takes_little_memory(tmp_path, monkeypatch):
    [document] = write(tmp_path, [pdf_of(KEPT)])
    small = document.content.stat()
    document.content.write_bytes(pdf_of(10 * MIB))
    monkeypatch.setattr(os, "fstat", lambda _: small)
    assert peak_of(lambda: sent([], [document])) < 3 * MIB


@pytest.mark.parametrize("compression", Compression)
def test_a_job_from_bytes_does_not_copy_them(compression):
    documents = [Document(title="x", content=pdf_of(10 * MIB))]
    assert peak_of(lambda: sent([], documents, compression=compression)) < 2 * MIB


@pytest.mark.parametrize(
    ("sizes", "again"),
    [([100, 200], 0), ([MIB // 2, MIB], 1), ([MIB, 100], 1), ([MIB // 2] * 3, 2)],
)
async def test_compressed_bytes_are_kept_up_to_a_limit(monkeypatch, sizes, again):
    """The others are compressed again each time that the body is produced."""
    compressors = []
    monkeypatch.setattr(
        "posten_signering._container.documents.deflater",
        lambda: compressors.append(deflater()) or compressors[-1],
    )
    contents = [b"%PDF-1.7\n" + os.urandom(size) for size in sizes]
    job = from_bytes(*contents, compression=Compression.DEFLATED)
    assert len(compressors) == len(sizes)
    first, second = [b"".join(await produce(job.body)) for _ in range(2)]
    assert first == second
    assert len(compressors) == len(sizes) + 2 * again


def test_the_repr_of_a_body_shows_no_content():
    job = from_bytes(pdf_of(100))
    assert CANARY not in repr(job.body)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.sampled_from(Compression))
async def test_every_content_is_sent_unchanged(contents, compression):
    job = from_bytes(*contents, compression=compression)
    body = b"".join(await produce(job.body))
    assert len(body) == job.body.length
    for content in contents:
        compressor = zlib.compressobj(wbits=-15)
        deflated = compressor.compress(content) + compressor.flush()
        assert (content if compression is Compression.STORED else deflated) in body
