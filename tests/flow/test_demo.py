"""The demo, run as it is meant to be: its results are judged by the lines that it prints itself."""

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


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("lease.txt", "zipped")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
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
def test_what_can_not_be_signed_is_said_in_a_line_that_names_the_file(
    tmp_path, name, content, said
):
    path, good = tmp_path / name, tmp_path / "good.pdf"
    good.write_bytes(drawn("Good"))
    if content is not None:
        path.write_bytes(content() if callable(content) else content)
    told = Told(good, path, "--output", tmp_path / "out")
    assert told.status == 1
    reason = told.text.partition("The demo failed: ")[2]
    assert re.search(re.escape(str(path)) + said, reason)
    for other in ("documents[", "_document.", "good.pdf", "Traceback"):
        assert other not in told.text
    assert list((tmp_path / "out").iterdir()) == []


def test_documents_that_are_too_large_together_are_said(tmp_path):
    path = tmp_path / "large.pdf"
    path.write_bytes(b"%PDF-1.4\n" + b"x" * 10_485_760)
    told = Told(path, "--output", tmp_path / "out")
    assert told.status == 1
    assert "documents: at most 10,485,760 bytes" in told.text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("- documents[1].content: must be a PDF", "- my b.pdf: must be a PDF"),
        ("documents[0].title: too long", "a.pdf.title: too long"),
        ("the document 0001_document.txt is not text", "the document my b.pdf is not text"),
        # What is none of the job's documents stays.
        ("documents[2].content: odd", "documents[2].content: odd"),
        ("documents: at most 20", "documents: at most 20"),
        ("10001_document.pdf, 0001_documents.pdf", "10001_document.pdf, 0001_documents.pdf"),
    ],
)
def test_documents_are_named_as_they_were_given(message, expected):
    assert demo.by_file_names(message, [Path("a.pdf"), Path("my b.pdf")]) == expected
    assert demo.by_file_names(message, []) == message


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


def test_a_run_that_fails_leaves_nothing_of_an_earlier_one_but_what_is_not_the_demos(tmp_path):
    out = tmp_path / "out"
    assert Told("--output", out).status == 0
    made = {each.name for each in out.iterdir()}
    mine = {"mine.pdf", "signature-1-mine.xades.xml", "signature-3.xades.xml"}
    for name in mine:
        (out / name).touch()
    assert Told(tmp_path / "nope.pdf", "--output", out).status == 1
    assert made & mine == set()
    assert {each.name for each in out.iterdir()} == mine


def test_a_name_with_spaces_is_given_to_make_as_the_readme_says(tmp_path, make):
    """What make would run is looked at, not run: quotes within the quotes hold the name together."""
    root = Path(__file__).parents[2]
    readme = (root / "README.md").read_text(encoding="utf-8")
    [given] = re.findall(r"a name with spaces: (PDF=\S.*)$", readme, re.MULTILINE)
    [variable] = shlex.split(given)
    planned = subprocess.run(
        [make, "--dry-run", "demo", variable], check=True, capture_output=True, text=True, cwd=root
    ).stdout
    [line] = [each for each in planned.splitlines() if "sandbox.demo" in each]
    assert shlex.split(line)[-1] == "my contract.pdf"
