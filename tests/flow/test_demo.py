"""The demo: its results are verified with the shell commands that it prints."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from pdf_samples import SAMPLES, drawn
from pypdf import PdfReader, PdfWriter

from posten_signering.sandbox import demo

TEXT = "Vilkår for leie: æ, ø og å."


class DemoRun:
    """A run of the demo: the lines that it printed, and its exit status."""

    def __init__(self, *arguments: str | Path) -> None:
        self.lines: list[str] = []
        self.status = demo.main(
            [str(argument) for argument in arguments], print_line=self.lines.append
        )

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def command(self, pattern: str) -> str:
        """The only printed line that matches the pattern, a shell command."""
        [line] = [line for line in self.text.splitlines() if re.match(pattern, line)]
        return line


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a printed command as a shell does."""
    return subprocess.run(
        command, shell=True, check=False, capture_output=True, text=True, cwd=folder
    )


def verify(demo_run: DemoRun, folder: Path, documents: int) -> str:
    """Verifies the signatures of the container and of the PDF with the printed commands. Returns the PDF's text."""
    verified = shell(demo_run.command("cd .*xmlsec1"), folder)
    assert verified.returncode == 0, verified.stderr
    references = documents + 2
    reference_count = f"SignedInfo References (ok/all): {references}/{references}"
    assert reference_count in verified.stdout + verified.stderr
    command = demo_run.command("pdfsig ")
    output = shell(command, folder).stdout
    assert output.count("Signature Validation: Signature is Valid.") == 1
    return shell(f"pdftotext -layout {command.removeprefix('pdfsig ')} -", folder).stdout


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[DemoRun, Path]:
    """A run without arguments, and its working directory."""
    folder = tmp_path_factory.mktemp("sample")
    with contextlib.chdir(folder):
        demo_run = DemoRun()
    assert demo_run.status == 0, demo_run.text
    return demo_run, folder


def test_the_demo_without_arguments_runs_every_step(sample, xmlsec1, pdfsig, pdftotext):
    demo_run, folder = sample
    assert sorted(file.name for file in (folder / "demo-output").iterdir()) == [
        "container",
        "sandbox-root.pem",
        "signature-1.xades.xml",
        "signature-2.xades.xml",
        "signed.pdf",
    ]
    text = verify(demo_run, folder, documents=2)
    assert "Storgata 1, 0001 Oslo" in text
    assert "Æ, ø and å are welcome here." in text
    for step in (
        "You are",
        "IN_PROGRESS; its signers: SIGNED, WAITING",
        "COMPLETED_SUCCESSFULLY; its signers: SIGNED, SIGNED",
        "status query token",
        "The polling queue holds a status change.",
        "PAdES, the signed PDF:",
        "XAdES of signer 2:",
        "Confirmed: the queue will not deliver this change again.",
        "docs/tutorial.md",
    ):
        assert step in demo_run.text
    for canary in (demo.IDENTITY_NUMBER, "status_query_token="):
        assert canary not in demo_run.text


def test_every_terminal_can_show_what_the_demo_prints(sample):
    demo_run, _ = sample
    assert demo_run.text.isascii()


def test_the_printed_commands_detect_a_change(sample, tmp_path, xmlsec1, pdfsig):
    demo_run, folder = sample
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    [document] = (tmp_path / "demo-output" / "container").glob("*.txt")
    change(document, b"Terms", b"terms")
    assert shell(demo_run.command("cd .*xmlsec1"), tmp_path).returncode != 0
    change(tmp_path / "demo-output" / "signed.pdf", b"endobj", b"endobi")
    assert "Signature is Valid." not in shell(demo_run.command("pdfsig "), tmp_path).stdout


def test_the_demo_signs_pdfs_of_every_version_a_pdf_a_and_a_text(
    tmp_path, xmlsec1, pdfsig, pdftotext
):
    """The input and output directories have names that a shell would split."""
    folder = tmp_path / "min mappe & dokumenter"
    folder.mkdir()
    paths = []
    for name, make in SAMPLES.items():
        paths.append(folder / f"avtale {name}.pdf")
        paths[-1].write_bytes(make())
    paths.append(folder / "Vilkår.TXT")
    paths[-1].write_text(TEXT, encoding="utf-8")
    demo_run = DemoRun(*paths, "--output", folder / "resultat (1)")
    assert demo_run.status == 0, demo_run.text
    assert f"container of {len(paths)} document(s)" in demo_run.text
    text = verify(demo_run, tmp_path, documents=len(paths))
    assert TEXT in text
    for name in SAMPLES:
        assert f"Sample {name} page 1" in text
    assert "Sample 1.3 page 3" in text
    pages = PdfReader(folder / "resultat (1)" / "signed.pdf").pages
    assert len(pages) >= 1 + len(paths) + 3
    for path, sent in zip(
        paths, sorted((folder / "resultat (1)" / "container").glob("0*")), strict=True
    ):
        assert sent.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_a_pdf_of_its_version(name):
    content = SAMPLES[name]()
    version = "1.4" if name == "archived" else name
    assert f"%PDF-{version}".encode() in content[:9]
    assert (b"/ObjStm" in content) == (name == "1.5")
    assert (content.count(b"startxref") > 1) == (name == "1.7")
    assert (b"/GTS_PDFA1" in content) == (name == "archived")
    reader = PdfReader(io.BytesIO(content.lstrip()), strict=True)
    assert f"Sample {name} page 1" in reader.pages[0].extract_text()


def encrypted() -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(drawn("Secret"))))
    writer.encrypt("password")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("lease.txt", "zipped")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.pdf", b"this is not a PDF", ": .*PDF"),
        ("packed.pdf", archive, ": .*PDF"),
        ("empty.pdf", b"", ": "),
        ("locked.pdf", encrypted, ": .*(password|encrypt)"),
        ("latin.txt", "Vilkår".encode("latin-1"), ": .*UTF-8"),
        ("cut.pdf", drawn("Sample")[:-300], " is not a readable PDF"),
        ("later.pdf", drawn("Sample", version="2.0"), "( is not a|: must be a) PDF"),
        ("min avtale.pdf", None, ": .*(No such file|can't be read)"),
    ],
)
def test_a_file_that_can_not_be_signed_is_named_in_the_message(tmp_path, name, content, message):
    path, good = tmp_path / name, tmp_path / "good.pdf"
    good.write_bytes(drawn("Good"))
    if content is not None:
        path.write_bytes(content() if callable(content) else content)
    demo_run = DemoRun(good, path, "--output", tmp_path / "out")
    assert demo_run.status == 1
    reason = demo_run.text.partition("The demo failed: ")[2]
    assert re.search(re.escape(str(path)) + message, reason)
    for text in ("documents[", "_document.", "good.pdf", "Traceback"):
        assert text not in demo_run.text
    assert list((tmp_path / "out").iterdir()) == []


def test_documents_that_are_too_large_are_reported(tmp_path):
    path = tmp_path / "large.pdf"
    path.write_bytes(b"%PDF-1.4\n" + b"x" * 10_485_760)
    demo_run = DemoRun(path, "--output", tmp_path / "out")
    assert demo_run.status == 1
    assert "documents: at most 10,485,760 bytes" in demo_run.text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("- documents[1].content: must be a PDF", "- my b.pdf: must be a PDF"),
        ("documents[0].title: too long", "a.pdf.title: too long"),
        ("the document 0001_document.txt is not text", "the document my b.pdf is not text"),
        # Text that does not name one of the documents stays unchanged.
        ("documents[2].content: odd", "documents[2].content: odd"),
        ("documents: at most 20", "documents: at most 20"),
        ("10001_document.pdf, 0001_documents.pdf", "10001_document.pdf, 0001_documents.pdf"),
    ],
)
def test_messages_name_documents_by_their_files(message, expected):
    assert demo.by_file_names(message, [Path("a.pdf"), Path("my b.pdf")]) == expected
    assert demo.by_file_names(message, []) == message


def test_an_output_directory_that_can_not_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    demo_run = DemoRun("--output", tmp_path / "file")
    assert demo_run.status == 1
    assert "The demo failed: " in demo_run.text


def test_a_second_run_replaces_the_files_of_the_first(tmp_path, xmlsec1):
    """No file of an earlier container is left in the directory."""
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    out = tmp_path / "out"
    (out / "container" / "META-INF").mkdir(parents=True)
    for name in ("0000_document.txt", "0001_document.txt", "META-INF/signatures.xml"):
        (out / "container" / name).write_text("first", encoding="utf-8")
    demo_run = DemoRun(tmp_path / "b.txt", "--output", out)
    assert demo_run.status == 0
    assert [file.read_text("utf-8") for file in (out / "container").glob("*.txt")] == ["second"]
    assert shell(demo_run.command("cd .*xmlsec1"), tmp_path).returncode == 0


def test_a_failed_run_removes_the_files_of_an_earlier_run_and_no_others(tmp_path):
    out = tmp_path / "out"
    assert DemoRun("--output", out).status == 0
    of_demo = {file.name for file in out.iterdir()}
    of_user = {"mine.pdf", "signature-1-mine.xades.xml", "signature-3.xades.xml"}
    for name in of_user:
        (out / name).touch()
    assert DemoRun(tmp_path / "nope.pdf", "--output", out).status == 1
    assert of_demo & of_user == set()
    assert {file.name for file in out.iterdir()} == of_user


def test_the_help_of_make_says_how_to_give_it_a_name_with_spaces(tmp_path, make):
    """The command is only planned, not run. The quotes within the quotes keep the name together."""
    root = Path(__file__).parents[2]
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    [example] = re.findall(r'^demo:.*(PDF=".*")', makefile, re.MULTILINE)
    [variable] = shlex.split(example)
    planned = subprocess.run(
        [make, "--dry-run", "demo", variable], check=True, capture_output=True, text=True, cwd=root
    ).stdout
    [line] = [line for line in planned.splitlines() if "sandbox.demo" in line]
    assert shlex.split(line)[-2:] == ["a.pdf", "my file.pdf"]
