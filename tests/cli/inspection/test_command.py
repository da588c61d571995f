"""The command `inspect`: it recognises files by their content, also those of a job with the sandbox."""

import io
import json
import re
import sys
from pathlib import Path

import bundles
import pki
import pytest
from service_files import refuse_host_names

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    DocumentBundleToDisk,
    StatusRetrievalMethod,
)
from posten_signering._cli import options as options_module
from posten_signering._cli.app import run
from posten_signering._cli.inspection import command
from posten_signering.sandbox import Sandbox

PERSON = "01817099921"


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch):
    refuse_host_names(monkeypatch)


@pytest.fixture
def inspect(capsys):
    """Runs `inspect`. Returns the exit status, and what it printed: with --json as a value."""

    def run_inspect(*arguments):
        status = run(["inspect", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, json.loads(
            printed.out
        ) if "--json" in arguments else printed.out + printed.err

    return run_inspect


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def files(tmp_path_factory) -> dict[str, Path]:
    """The files of a signed job: the container, the PAdES, a XAdES, and the certificate with its password."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "containers").mkdir()
    paths = {name: folder / name for name in ("signed.pdf", "signer.xml", "own.p12", "password")}
    async with Sandbox() as sandbox:
        content, password = sandbox.enterprise_pkcs12("123456789")
        paths["own.p12"].write_bytes(content)
        paths["password"].write_text(f"{password}\n")
        keep = DocumentBundleToDisk(folder / "containers")
        configuration = sandbox.client_configuration(bundle_processors=[keep])
        job = DirectJob(
            title=f"Lease of {PERSON}",
            documents=[Document(title="Lease", content=bundles.pdf())],
            signers=[DirectSigner(personal_identification_number=PERSON)],
            exit_urls=sandbox.exit_urls,
            status_retrieval_method=StatusRetrievalMethod.POLLING,
        )
        async with DirectClient(configuration) as client:
            created = await client.create(job)
            await sandbox.sign(created.single_signer.redirect_url)
            poll = await client.get_status_change()
            paths["signed.pdf"].write_bytes(await client.get_pades(poll.change))
            paths["signer.xml"].write_bytes(await client.get_xades(poll.change.signatures[0]))
    [paths["container.asice"]] = (folder / "containers").iterdir()
    return paths


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("container.asice", "a container (ASiC-E)", "  title: Lease of ***********"),
        (
            "signed.pdf",
            "a signed PDF (PAdES)",
            "✓ covers: the whole file, which was not changed afterwards",
        ),
        (
            "signer.xml",
            "an XML file with signatures, such as a XAdES",
            "  certificate: C=NO,CN=Sandbox Signer 1",
        ),
        ("own.p12", "a PKCS#12 file (.p12, .pfx)", "✓ role: used, for TLS and for signatures"),
    ],
)
async def test_the_files_of_a_job_are_recognised_and_good(name, kind, line, files, inspect):
    options = [
        "--certificate-password-file",
        files["password"],
        "--service-root",
        "https://localhost/api",
    ]
    status, text = inspect(files[name], *options)
    assert status == 0
    assert text.startswith(f"This is {kind}.\n")
    assert line in text.splitlines()
    status, report = inspect(files[name], *options, "--json")
    kinds = {"asice": "container", "pdf": "pdf", "xml": "xml", "p12": "pkcs12"}
    assert (status, report["good"]) == (0, True)
    assert report["kind"] == kinds[name.rpartition(".")[2]]
    assert PERSON not in text + json.dumps(report)
    assert files["password"].read_text().strip() not in text + json.dumps(report)


@pytest.mark.anyio
async def test_what_a_signer_signed_is_named_with_its_digest(files, inspect):
    _, text = inspect(files["signer.xml"])
    assert re.search(
        "  covers 0000_document.pdf: the file is not here; its sha256 must be [0-9a-f]{64}\n", text
    )


@pytest.mark.anyio
async def test_a_changed_xades_is_not_good(files, inspect, tmp_path):
    content = files["signer.xml"].read_bytes()
    (tmp_path / "changed.xml").write_bytes(
        content.replace(b"<xades:SigningTime>20", b"<xades:SigningTime>19")
    )
    status, text = inspect(tmp_path / "changed.xml")
    assert status == 1
    assert "✗ covers #SignedProperties: changed after it was signed" in text


def test_an_environment_that_does_not_fit_is_a_problem(tmp_path, inspect, monkeypatch):
    issuer = pki.root("Buypass Class 3 CA 3")
    name = pki.subject("Avsender", organization_identifier="NTRNO-123456789")
    (tmp_path / "own.p12").write_bytes(pki.issue(name, issuer).p12(b"secret"))
    (tmp_path / "root.pem").write_bytes(issuer.pem)
    monkeypatch.setenv("POSTEN_SIGNERING_CERTIFICATE_PASSWORD", "secret")
    for anchors in (tmp_path / "root.pem", tmp_path / "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "root.cer").write_bytes(issuer.der)
        options = ["--environment", "staging", "--trust-anchors", anchors]
        status, text = inspect(tmp_path / "own.p12", *options)
        assert status == 1
        assert "✗ environment: The certificate belongs to PRODUCTION" in text


def test_the_password_is_asked_for_in_a_terminal(tmp_path, inspect, monkeypatch):
    (tmp_path / "own.p12").write_bytes(pki.sender().p12(b"secret"))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    asked = []
    answers = ["secret", "wrong"]
    monkeypatch.setattr(
        options_module, "getpass", lambda prompt: asked.append(prompt) or answers.pop(0)
    )
    status, _ = inspect(tmp_path / "own.p12", "--service-root", "https://localhost/api")
    assert (status, asked) == (0, [f"Password of {tmp_path / 'own.p12'}: "])
    status, text = inspect(tmp_path / "own.p12")
    assert status == 2
    assert text.startswith("The password that you typed does not open the PKCS#12 file")


def test_without_a_terminal_the_password_must_be_given(tmp_path, inspect):
    (tmp_path / "own.p12").write_bytes(pki.sender().p12(b"secret"))
    status, text = inspect(tmp_path / "own.p12")
    assert status == 2
    assert "No password was given. Give it with --certificate-password-file" in text


@pytest.mark.parametrize("content", [pki.root().der, pki.root().pem])
def test_certificates_are_recognised(content, tmp_path, inspect):
    (tmp_path / "file").write_bytes(content)
    status, text = inspect(tmp_path / "file")
    assert status == 0
    assert text.startswith("This is a file of certificates in PEM or DER form.")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not recognised"),
        (b"hello", "is not recognised"),
        (b"%PDF-1.7 nothing", "The PDF can't be read"),
        (b"\xef\xbb\xbf <a>", "not well-formed"),
        (b"PK", "The ZIP file can't be read"),
        (b"\x30\x00", "not PKCS#12"),
    ],
)
def test_a_file_that_is_nothing_known_is_wrong_input(content, words, tmp_path, inspect):
    (tmp_path / "file").write_bytes(content)
    status, text = inspect(tmp_path / "file")
    assert status == 2
    assert words in text


def test_a_missing_and_a_large_file_are_wrong_input(tmp_path, inspect, monkeypatch):
    status, text = inspect(tmp_path / "missing")
    assert (status, "can't be read: No such file" in text) == (2, True)
    monkeypatch.setattr(command, "_LARGEST_FILE", 1024**2)
    (tmp_path / "file").write_bytes(bytes(1024**2 + 1))
    status, text = inspect(tmp_path / "file")
    assert (status, "more than 1 MiB" in text) == (2, True)
