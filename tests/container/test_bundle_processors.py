"""Bundle processors, and the one that writes each container to a directory."""

import errno
import re
import stat
import threading
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import doubles
import pytest
from bodies import MANIFEST, MIB, from_bytes, from_paths, pdf_of
from doubles import PADES, ROOT, Answer, client_of, created_xml
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._container.processors import DocumentBundleToDisk
from posten_signering._values.job import DirectJob, DirectSigner, ExitUrls
from posten_signering.errors import ConfigurationError, DocumentChangedError, InvalidJobError

MOMENT = datetime(2026, 1, 31, 13, 45, 1, 123999, UTC)
STAMP = "20260131T134501123"


def job_of(documents=(), reference="order-77") -> DirectJob:
    return DirectJob(
        title="A title",
        documents=documents,
        signers=[DirectSigner(custom_identifier="customer-42")],
        exit_urls=ExitUrls(completion="https://a", rejection="https://b", error="https://c"),
        reference=reference,
    )


def to_disk(directory, moment=MOMENT) -> DocumentBundleToDisk:
    return DocumentBundleToDisk(directory, clock=lambda: moment)


def write(directory, *, reference="order-77", moment=MOMENT, made=None) -> Path:
    """Writes one container, and returns the path of the new file."""
    before = set(directory.iterdir())
    made = made or from_bytes(pdf_of(100))
    to_disk(directory, moment)(job_of(made.body.inspection.documents, reference), made.open)
    [file] = set(directory.iterdir()) - before
    return file


# Processors of a client.


class Blocking:
    """A processor that blocks until `release` is set."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.jobs: list[object] = []
        self.release = threading.Event()

    def __call__(self, job, open_container) -> None:
        self.jobs.append(job)
        self.entered.release()
        self.release.wait()

    async def wait_for(self, count: int) -> None:
        """Waits until the processor has been called `count` times."""
        for _ in range(count):
            await anyio.to_thread.run_sync(self.entered.acquire)


@pytest.mark.anyio
async def test_a_processor_that_blocks_delays_no_other_call(tmp_path):
    """This includes calls of the same client that need a worker thread: a download and a check."""
    blocking, path = Blocking(), tmp_path / "signed.pdf"
    answers = [Answer(200, PADES), *[Answer(200, created_xml())] * 6]
    async with (
        client_of(*answers, bundle_processors=[blocking]) as (client, transport),
        anyio.create_task_group() as tasks,
    ):
        for _ in range(6):
            tasks.start_soon(client.create, doubles.job())
        await blocking.wait_for(4)
        try:
            await client.download_pades(f"{ROOT}/stored", path)
            with pytest.raises(InvalidJobError):
                await client.create(doubles.job(title=""))
            assert (len(blocking.jobs), len(transport.sent)) == (4, 1), "at most four at a time"
        finally:
            blocking.release.set()
    assert path.read_bytes() == PADES
    assert (len(blocking.jobs), len(transport.sent)) == (6, 7)


async def coroutine(job, open_container):
    """A processor that must be refused, because nothing would await it."""


class Asynchronous:
    async def __call__(self, job, open_container):
        """A processor that must be refused, because nothing would await it."""


class Plain:
    def __call__(self, job, open_container):
        """A processor that must be accepted."""


@pytest.mark.parametrize("processor", [coroutine, partial(coroutine), Asynchronous()])
def test_an_async_processor_is_refused(processor):
    plain = [lambda job, open_container: None, Plain()]
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        doubles.configuration(None, bundle_processors=[*plain, processor])


def test_every_plain_callable_is_accepted(tmp_path):
    """The counterpart of the test above."""
    plain = [lambda job, open_container: None, Plain(), partial(Plain()), to_disk(tmp_path), print]
    transport = doubles.ScriptedTransport()
    made = doubles.configuration(transport, bundle_processors=plain)
    assert made.bundle_processors == tuple(plain)


# The processor that writes to a directory.


def test_the_file_contains_the_whole_container(tmp_path):
    directory = tmp_path / "bundles"
    directory.mkdir()
    made = from_paths(tmp_path, pdf_of(2 * MIB), pdf_of(50))
    file = write(directory, made=made)
    with made.open() as container:
        assert file.read_bytes() == container.read()
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("0000_document.pdf") == made.contents[0]
        assert archive.read("manifest.xml") == MANIFEST


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("order-77", f"{STAMP}-order-77.asice"),
        (None, f"{STAMP}.asice"),
        ("", f"{STAMP}.asice"),
        ("two words", f"{STAMP}-two_words.asice"),
        ("../../etc/passwd", f"{STAMP}-.._.._etc_passwd.asice"),
        ("C:\\temp\\x", f"{STAMP}-C__temp_x.asice"),
        ("CON", f"{STAMP}-CON.asice"),
        ("æøå", f"{STAMP}-___.asice"),
        ("a\0b\nc", f"{STAMP}-a_b_c.asice"),
        ("x" * 5000, f"{STAMP}-{'x' * 64}.asice"),
    ],
)
def test_the_name_of_the_file_is_the_time_and_the_reference(tmp_path, reference, name):
    assert write(tmp_path, reference=reference) == tmp_path / name


@given(st.text(max_size=100))
def test_no_reference_makes_an_unsafe_name(tmp_path_factory, reference):
    directory = tmp_path_factory.mktemp("bundles")
    file = write(directory, reference=reference)
    assert file.parent == directory
    assert re.fullmatch(rf"{STAMP}(-[A-Za-z0-9._-]{{1,64}})?\.asice", file.name)
    assert len(file.name.encode()) < 200


def test_the_time_in_the_name_is_in_utc(tmp_path):
    moment = datetime(2026, 7, 1, 0, 30, 0, 5000, timezone(timedelta(hours=2)))
    assert write(tmp_path, moment=moment).name == "20260630T223000005-order-77.asice"


def test_without_a_clock_the_time_is_the_system_time(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    made = from_bytes(pdf_of(10))
    DocumentBundleToDisk(str(tmp_path))(job_of(made.body.inspection.documents), made.open)
    [file] = tmp_path.iterdir()
    written = datetime.strptime(file.name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before <= written <= datetime.now(UTC)


def test_no_file_is_overwritten(tmp_path):
    names = [write(tmp_path, made=from_bytes(pdf_of(size))).name for size in (10, 20, 30)]
    assert names == [
        f"{STAMP}-order-77.asice",
        f"{STAMP}-order-77-2.asice",
        f"{STAMP}-order-77-3.asice",
    ]
    sizes = [(tmp_path / name).stat().st_size for name in names]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_symbolic_link_with_the_name_of_the_file_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    directory = tmp_path / "bundles"
    directory.mkdir()
    (directory / f"{STAMP}-order-77.asice").symlink_to(elsewhere)
    assert write(directory).name == f"{STAMP}-order-77-2.asice"
    assert not elsewhere.exists()


def test_only_the_owner_may_read_the_file(tmp_path):
    assert stat.S_IMODE(write(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("make", [lambda path: path, lambda path: path.write_bytes(b"") and path])
def test_a_missing_directory_is_an_error(tmp_path, make):
    path = tmp_path / "bundles"
    make(path)
    with pytest.raises(ConfigurationError, match=r"bundles' is not an existing directory"):
        to_disk(path)(job_of(), from_bytes(pdf_of(10)).open)


def test_a_full_disk_is_an_error(tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        ConfigurationError, match=r"can't be written to .* \(No space left on device\): check"
    ):
        to_disk(tmp_path)(job_of(), full)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_container_is_removed(tmp_path):
    directory = tmp_path / "bundles"
    directory.mkdir()
    made = from_paths(tmp_path, pdf_of(3 * MIB))
    document = made.body.inspection.documents[0].content
    document.write_bytes(document.read_bytes()[:-1] + b"#")
    with pytest.raises(DocumentChangedError):
        to_disk(directory)(job_of(made.body.inspection.documents), made.open)
    assert list(directory.iterdir()) == []


def test_the_repr_names_the_directory():
    assert repr(DocumentBundleToDisk(Path("bundles"))) == "DocumentBundleToDisk('bundles')"
