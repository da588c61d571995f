"""The demo, run as it is meant to be: its results are judged by the lines that it prints itself."""

import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pdf_samples import SAMPLES, drawn
from pypdf import PdfReader, PdfWriter

from posten_signering.sandbox import demo

TEXT = "Vilkår for leie: æ, ø og å."


class Told:
    """What the demo said, and how it ended."""

    def __init__(self, *arguments: str | Path) -> None:
        self.lines: list[str] = []
        self.status = demo.main([str(each) for each in arguments], print_line=self.lines.append)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def command(self, pattern: str) -> str:
        """The one line to copy into a shell that matches."""
        [line] = [each for each in self.text.splitlines() if re.match(pattern, each)]
        return line


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line as a person would who copied it into a shell."""
    return subprocess.run(
        command, shell=True, check=False, capture_output=True, text=True, cwd=folder
    )


def judge(told: Told, folder: Path, documents: int) -> str:
    """Runs the printed lines: the container's signature and the PDF's are valid. Gives the PDF's text."""
    verified = shell(told.command("cd .*xmlsec1"), folder)
    assert verified.returncode == 0, verified.stderr
    references = documents + 2
    counted = f"SignedInfo References (ok/all): {references}/{references}"
    assert counted in verified.stdout + verified.stderr
    line = told.command("pdfsig ")
    said = shell(line, folder).stdout
    assert said.count("Signature Validation: Signature is Valid.") == 1
    return shell(f"pdftotext -layout {line.removeprefix('pdfsig ')} -", folder).stdout


def changed(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[Told, Path]:
    """What it says when it is run without arguments, and where."""
    folder = tmp_path_factory.mktemp("sample")
    with contextlib.chdir(folder):
        told = Told()
    assert told.status == 0, told.text
    return told, folder


def test_the_sample_goes_through_every_step(sample, xmlsec1, pdfsig, pdftotext):
    told, folder = sample
    assert sorted(each.name for each in (folder / "demo-output").iterdir()) == [
        "container",
        "sandbox-root.pem",
        "signature-1.xades.xml",
        "signature-2.xades.xml",
        "signed.pdf",
    ]
    said = judge(told, folder, documents=2)
    assert "Storgata 1, 0001 Oslo" in said
    assert "Æ, ø and å are welcome here." in said
    for step in (
        "You are",
        "IN_PROGRESS; its signers: SIGNED, WAITING",
        "COMPLETED_SUCCESSFULLY; its signers: SIGNED, SIGNED",
        "status query token",
        "The polling queue holds a status change.",
        "PAdES, the signed PDF:",
        "XAdES of signer 2:",
        "Confirmed: this change will not come back.",
        "Read on in",
    ):
        assert step in told.text
    for canary in (demo.IDENTITY_NUMBER, "status_query_token="):
        assert canary not in told.text


def test_the_lines_that_it_prints_find_a_change(sample, tmp_path, xmlsec1, pdfsig):
    """The twin: neither line passes whatever it is given."""
    told, folder = sample
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    [document] = (tmp_path / "demo-output" / "container").glob("*.txt")
    changed(document, b"Terms", b"terms")
    assert shell(told.command("cd .*xmlsec1"), tmp_path).returncode != 0
    changed(tmp_path / "demo-output" / "signed.pdf", b"endobj", b"endobi")
    assert "Signature is Valid." not in shell(told.command("pdfsig "), tmp_path).stdout


def test_pdfs_of_every_version_an_archive_copy_and_a_text(tmp_path, xmlsec1, pdfsig, pdftotext):
    """In one job, from a folder and into one whose names a shell would split."""
    folder = tmp_path / "min mappe & dokumenter"
    folder.mkdir()
    paths = []
    for name, make in SAMPLES.items():
        paths.append(folder / f"avtale {name}.pdf")
        paths[-1].write_bytes(make())
    paths.append(folder / "Vilkår.TXT")
    paths[-1].write_text(TEXT, encoding="utf-8")
    told = Told(*paths, "--output", folder / "resultat (1)")
    assert told.status == 0, told.text
    assert f"container of {len(paths)} document(s)" in told.text
    said = judge(told, tmp_path, documents=len(paths))
    assert TEXT in said
    for name in SAMPLES:
        assert f"Sample {name} page 1" in said
    assert "Sample 1.3 page 3" in said
    pages = PdfReader(folder / "resultat (1)" / "signed.pdf").pages
    assert len(pages) >= 1 + len(paths) + 3
    for path, sent in zip(
        paths, sorted((folder / "resultat (1)" / "container").glob("0*")), strict=True
    ):
        assert sent.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_what_they_are_called(name):
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


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.pdf", b"this is not a PDF", r"documents\[0\]\.content: .*PDF"),
        ("empty.pdf", b"", r"documents\[0\]\.content: "),
        ("locked.pdf", encrypted, r"documents\[0\]\.content: .*(password|encrypt)"),
        ("latin.txt", "Vilkår".encode("latin-1"), r"documents\[0\]\.content: .*UTF-8"),
        ("large.pdf", b"%PDF-1.4\n" + b"x" * 10_485_760, r"documents: at most 10,485,760 bytes"),
        ("cut.pdf", drawn("Sample")[:-300], r"PDF"),
        ("gone.pdf", None, r"documents\[0\]\.content: .*(No such file|can't be read)"),
    ],
)
def test_what_can_not_be_signed_is_said_in_a_line(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content() if callable(content) else content)
    told = Told(path, "--output", tmp_path / "out")
    assert told.status == 1
    assert re.search(said, told.text)
    assert "The demo failed: " in told.text
    assert "Traceback" not in told.text
    assert not (tmp_path / "out" / "signed.pdf").exists()


def test_a_place_that_can_not_be_written_to_is_said(tmp_path):
    (tmp_path / "file").touch()
    told = Told("--output", tmp_path / "file")
    assert told.status == 1
    assert "The demo failed: " in told.text


def test_a_second_run_takes_the_place_of_the_first(tmp_path, xmlsec1):
    """Nothing of an earlier run's container is left among what was sent."""
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    out = tmp_path / "out"
    (out / "container" / "META-INF").mkdir(parents=True)
    for name in ("0000_document.txt", "0001_document.txt", "META-INF/signatures.xml"):
        (out / "container" / name).write_text("first", encoding="utf-8")
    told = Told(tmp_path / "b.txt", "--output", out)
    assert told.status == 0
    assert [each.read_text("utf-8") for each in (out / "container").glob("*.txt")] == ["second"]
    assert shell(told.command("cd .*xmlsec1"), tmp_path).returncode == 0
