"""The processes that open documents: limits of time and memory, crashes, and when the processes start and end."""

import asyncio
import io
import os
import select
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import bundles
import pytest
from bundles import PERSON
from pdf_samples import bomb, chain
from pypdf import PdfReader

from posten_signering.sandbox._documents import processes as module
from posten_signering.sandbox._documents.processes import (
    DocumentProcesses,
    Original,
    TooMuchWork,
    UnusableDocument,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import SandboxError

pytestmark = pytest.mark.anyio


def original(content=None, *, is_text=False):
    return Original(title="Vilkår", is_text=is_text, content=Octets(content or bundles.pdf()))


def endless():
    """A text of so many pages that they take minutes."""
    return original(b"\f" * 1_000_000, is_text=True)


@pytest.fixture
def started(monkeypatch):
    """The processes that were started, each as `Popen`."""
    popens = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            popens.append(self)

    monkeypatch.setattr(module.subprocess, "Popen", Popen)
    return popens


@pytest.fixture
async def processes(started):
    running = DocumentProcesses(timedelta(seconds=60))
    yield running
    await running.aclose()
    assert all(popen.returncode is not None for popen in started)


async def joined(processes, *documents, front_page=lambda _: b"", **options):
    return await processes.joined(documents, front_page, title="Leie", **options)


async def test_a_front_page_and_all_documents_become_one_pdf(processes, started):
    counts = []

    def front_page(page_counts):
        counts.extend(page_counts)
        return bundles.pdf("Forside")

    content = await joined(
        processes,
        original(bundles.pdf("Kontrakt", pages=2)),
        original(b"Vilk\xc3\xa5r\fmer", is_text=True),
        front_page=front_page,
    )
    reader = PdfReader(io.BytesIO(content))
    texts = [page.extract_text() for page in reader.pages]
    assert counts == [2, 2]
    assert [texts[0], *texts[1:3]] == ["Forside p1", "Kontrakt p1", "Kontrakt p2"]
    assert "mer" in texts[4]
    assert [entry.title for entry in reader.outline] == ["Signatures", "Vilkår", "Vilkår"]
    assert reader.metadata.title == "Leie"
    await joined(processes, original())
    assert len(started) == 1


async def test_no_process_starts_without_documents(started):
    await DocumentProcesses(timedelta(seconds=60)).aclose()
    assert started == []


async def test_a_document_that_cannot_be_signed_is_named_by_its_position(processes, started):
    with pytest.raises(UnusableDocument, match="is not a readable PDF") as caught:
        await joined(processes, original(), original(b"hello"))
    assert caught.value.position == 1
    await joined(processes, original())
    assert len(started) == 1


async def test_documents_that_take_too_long_end_their_process(started):
    processes = DocumentProcesses(timedelta(seconds=0.05))
    for factor, limit in ((1, "0.05"), (3, "0.15")):
        with pytest.raises(TooMuchWork, match=f"^take more than {limit} seconds$"):
            await joined(processes, endless(), factor=factor)
    assert len(started) == 2
    await processes.aclose()
    assert all(popen.returncode for popen in started)


async def test_a_document_that_crashes_its_process_is_refused_and_the_next_one_is_not(processes):
    with pytest.raises(TooMuchWork, match="crash the library that reads PDFs"):
        await joined(processes, original(chain(200_000)))
    await joined(processes, original(chain(100)))


async def test_a_document_that_needs_too_much_memory_is_refused(processes, monkeypatch):
    document = original(bomb(256))
    await joined(processes, document)
    monkeypatch.setattr(module, "_MEMORY", 256 * 1024**2)
    reason = "need more than 256 MiB of memory|is not a readable PDF|is a PDF without pages"
    with pytest.raises((TooMuchWork, UnusableDocument), match=reason):
        await joined(processes, document)


async def test_a_result_that_is_too_large_is_refused(processes, monkeypatch):
    pages = original(bundles.pdf(pages=20))
    monkeypatch.setattr(module, "_MOST_RESULT_BYTES", len(await joined(processes, pages)) - 1)
    with pytest.raises(TooMuchWork, match="become more than 0 MiB"):
        await joined(processes, pages)
    await joined(processes, pages, factor=3)


async def test_other_documents_do_not_wait_and_a_cancelled_caller_ends_the_process(
    processes, started
):
    task = asyncio.create_task(joined(processes, endless()))
    await joined(processes, original())
    await joined(processes, original())
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await joined(processes, original())
    # The fixture checks that no process is left.


async def test_closing_ends_the_work(started, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PROCESSES", 2)
    processes = DocumentProcesses(timedelta(seconds=60))
    tasks = [asyncio.create_task(joined(processes, endless())) for _ in range(3)]
    await asyncio.sleep(0)
    await processes.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    ended = {TooMuchWork, SandboxError, asyncio.CancelledError}
    assert {type(result) for result in results} <= ended
    assert all(popen.returncode is not None for popen in started)


async def test_an_idle_process_that_was_killed_is_replaced(processes, started):
    await joined(processes, original())
    started[0].kill()
    started[0].wait()
    await joined(processes, original())
    assert len(started) == 2


@pytest.mark.parametrize("error", [LookupError, EOFError, OSError, OverflowError])
async def test_an_error_of_the_front_page_reaches_the_caller(processes, error):
    def front_page(page_counts):
        raise error(page_counts)

    with pytest.raises(error):
        await joined(processes, original(), front_page=front_page)
    await joined(processes, original())


@pytest.mark.parametrize(
    ("executable", "named"), [("/missing", "/missing"), ("", "no program"), (None, "no program")]
)
async def test_an_interpreter_that_is_missing_is_named(monkeypatch, processes, executable, named):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(SandboxError, match=f"The sandbox runs {named} for it"):
        await joined(processes, original())


@pytest.mark.parametrize("program", ["exit 1", "exec yes", "exec sleep 600"])
async def test_an_interpreter_that_cannot_run_the_program_is_named(
    program, processes, started, monkeypatch, tmp_path
):
    executable = tmp_path / "python"
    executable.write_text(f"#!/bin/sh\n{program}\n")
    executable.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(executable))
    if "exec" in program:
        monkeypatch.setattr(module, "_START_SECONDS", 0.05)
    with pytest.raises(SandboxError, match=f"The sandbox runs {executable} for it"):
        await joined(processes, original())
    assert started[0].returncode is not None


async def test_a_process_that_is_killed_after_its_result_is_not_used_again(processes, monkeypatch):
    """Its result has arrived when the caller is cancelled, or the time is over."""
    receive = module._Process.receive

    def receive_and_end(process, most_bytes):
        content = receive(process, most_bytes)
        if content.startswith(b"%PDF-"):
            [call] = processes._calls
            call.end("were not needed any more")
        return content

    monkeypatch.setattr(module._Process, "receive", receive_and_end)
    await joined(processes, original())
    assert not processes._idle


async def test_a_frozen_program_does_not_start_itself(monkeypatch, processes, started):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(SandboxError, match="did not start"):
        await joined(processes, original())
    assert started == []


async def test_a_stop_ends_a_launcher_that_never_runs_the_program(monkeypatch, tmp_path, started):
    launcher = tmp_path / "python"
    launcher.write_text("#!/bin/sh\necho started\nexec sleep 600\n")
    launcher.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(launcher))
    processes = DocumentProcesses(timedelta(seconds=60))
    task = asyncio.create_task(joined(processes, original()))
    await asyncio.sleep(0)
    await processes.aclose()
    await asyncio.gather(task, return_exceptions=True)
    assert all(popen.returncode for popen in started)


async def test_what_a_startup_file_prints_and_a_path_in_sys_path_do_no_harm(
    monkeypatch, tmp_path, processes
):
    startup = "import os\nos.write(1, b'" + "x" * 2000 + "\\nno line break')\n"
    (tmp_path / "sitecustomize.py").write_text(startup)
    monkeypatch.setattr(sys, "path", [str(tmp_path), tmp_path, *sys.path])
    assert (await joined(processes, original())).startswith(b"%PDF-")


async def test_no_content_is_in_the_arguments_or_the_environment(processes, started):
    await joined(processes, Original(title=PERSON, is_text=True, content=Octets(b"hemmelig")))
    assert started[0].args[:3] == [sys.executable, "-P", "-c"]
    environment = await asyncio.to_thread(Path(f"/proc/{started[0].pid}/environ").read_bytes)
    shown = repr(started[0].args).encode() + environment
    assert PERSON.encode() not in shown
    assert b"hemmelig" not in shown


SCRIPT = """
import asyncio, subprocess, sys
import bundles
from posten_signering import DirectClient, DirectJob, DirectSigner, Document, ExitUrls
from posten_signering.sandbox import ThreadedSandbox

job = DirectJob(
    title="Lease",
    documents=[Document(title="Lease", content=bundles.pdf())],
    signers=[DirectSigner(custom_identifier="customer-42")],
    exit_urls=ExitUrls(
        completion="https://shop.example/a",
        rejection="https://shop.example/b",
        error="https://shop.example/c",
    ),
)

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        print(self.pid, flush=True)

subprocess.Popen = Popen

async def create(sandbox):
    async with DirectClient(sandbox.client_configuration()) as client:
        await client.create(job)

with ThreadedSandbox() as sandbox:
    asyncio.run(create(sandbox))
    print("created", flush=True)
    sys.stdin.read()
"""


def test_a_script_without_a_main_guard_starts_a_process_that_ends_when_the_script_is_killed():
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with script:
        descriptor = os.pidfd_open(int(script.stdout.readline()))
        assert script.stdout.readline() == b"created\n"
        script.kill()
    ended, _, _ = select.select([descriptor], [], [], 30)
    os.close(descriptor)
    assert ended
