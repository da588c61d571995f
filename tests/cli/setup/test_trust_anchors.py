"""`posten-signering trust-anchors`: what is pinned, what is downloaded, and what a directory holds."""

import base64
import errno
import json
from datetime import timedelta
from pathlib import Path

import certifi
import pki
import pytest
from anyio.from_thread import start_blocking_portal
from loopback import answer, closed_port, http_server
from service_files import refuse_host_names

from posten_signering import CertificateAuthority, Environment
from posten_signering._cli.app import run
from posten_signering._cli.setup import settings

EXPIRED = pki.issue(pki.subject("Expired"), ca=True, not_after=pki.NOW - timedelta(hours=1))
PINNED, UNPUBLISHED, FORGED, FOREIGN = map(pki.root, ("Pinned", "Unpublished", "Forged", "Foreign"))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch):
    refuse_host_names(monkeypatch)


@pytest.fixture(scope="module")
def authorities():
    """A server that publishes two certificates. Behind one of the URLs is a certificate with the same name."""
    impostor = pki.issue(pki.subject("Forged"), ca=True, key=pki.rsa_key("impostor"))

    async def handler(received):
        files = {"/pinned.cer": PINNED.der, "/forged.cer": impostor.der}
        body = files.get(received.target)
        return answer(404) if body is None else answer(200, body)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(http_server(handler)) as server,
    ):
        yield server


@pytest.fixture
def staging(authorities, monkeypatch):
    """Makes `--environment staging` an environment with authorities on loopback."""
    rows = [
        (PINNED, authorities.url("/pinned.cer", host="127.0.0.1", scheme="http")),
        (UNPUBLISHED, None),
        (EXPIRED, None),
        (FORGED, authorities.url("/forged.cer", host="127.0.0.1", scheme="http")),
    ]
    environment = Environment(
        name="STAGING",
        service_root="https://127.0.0.1:1/api",
        authorities=[
            CertificateAuthority(name=issued.name, sha256=pki.sha256(issued), published_at=url)
            for issued, url in rows
        ],
    )
    monkeypatch.setitem(settings._INSTALLATIONS, "staging", environment)
    return ["--environment", "staging"]


@pytest.fixture
def command(capsys):
    """Runs `trust-anchors`. Returns the exit status, and what it printed: with --json as values."""

    def run_command(*arguments):
        status = run(["trust-anchors", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, json.loads(
            printed.out
        ) if "--json" in arguments else printed.out + printed.err

    return run_command


def test_the_list_has_fingerprint_issuer_and_url_of_each_authority(command):
    status, rows = command("list", "--environment", "staging", "--json")
    assert (status, len(rows)) == (0, len(Environment.STAGING.authorities))
    assert rows[2] == {
        "name": "Buypass Class 3 Test4 CA G2 ST Business",
        "issuer": "Buypass Class 3 Test4 Root CA G2 ST",
        "sha256": "2f36956beb4de4907a3a0fb09437d7d532f4a12504473a00c12ceb028df54a28",
        "published_at": "http://crt.test4.buypassca.com/BPCl3CaG2STBS.cer",
        "validity": "not at hand, so its validity is not known",
    }


def test_the_list_has_the_validity_of_what_is_in_certifi(command):
    status, text = command("list")
    assert status == 0
    assert "Buypass Class 3 Root CA\n" in text
    assert "published at: no fixed URL\n    valid to 2040-10-26" in text


def test_the_list_has_the_validity_of_what_is_in_the_given_files(staging, command, tmp_path):
    (tmp_path / "anchors").mkdir()
    (tmp_path / "anchors" / "pinned.pem").write_bytes(PINNED.pem)
    name = pki.subject("Avsender", organization_identifier="NTRNO-123456789")
    (tmp_path / "own.p12").write_bytes(pki.issue(name, EXPIRED).p12(b"password"))
    (tmp_path / "password").write_text("password\n")
    given = ["--trust-anchors", tmp_path / "anchors", "--certificate", tmp_path / "own.p12"]
    given += ["--certificate-password-file", tmp_path / "password"]
    status, rows = command("list", *staging, *given, "--json")
    assert status == 0
    assert [row["validity"].split(" ")[0] for row in rows] == ["valid", "not", "expired", "not"]


def test_fetch_writes_what_has_the_pinned_fingerprint_and_names_the_rest(
    staging, command, tmp_path
):
    directory = tmp_path / "anchors"
    status, rows = command("fetch", directory, *staging, "--json")
    assert status == 1
    [file] = directory.iterdir()
    assert file.read_bytes() == PINNED.der
    assert [row["file"] for row in rows] == [str(file), None, None, None]
    assert "no fixed URL" in rows[1]["problem"]
    assert "forged.cer" in rows[3]["problem"]


def test_fetch_can_select_by_the_beginning_of_a_fingerprint(staging, command, tmp_path):
    prefix = pki.sha256(PINNED)[:8].upper()
    prefix = f"{prefix[:2]}:{prefix[2:]}"
    status, text = command("fetch", tmp_path, *staging, "--sha256", prefix)
    assert status == 0
    assert text == f"✓ Pinned: {tmp_path / pki.sha256(PINNED)[:16]}.cer\n"


@pytest.mark.parametrize("prefix", ["0123456789", ":"])
def test_an_unknown_fingerprint_is_wrong_input(prefix, staging, command, tmp_path):
    status, text = command("fetch", tmp_path, *staging, "--sha256", prefix)
    assert status == 2
    assert "has a fingerprint that begins with" in text


def test_fetch_fails_if_nothing_could_be_downloaded(staging, command, tmp_path):
    status, text = command("fetch", tmp_path / "new", *staging, "--sha256", pki.sha256(FORGED))
    assert status == 1
    assert "None of the CA certificates" in text
    assert "give their directory to --trust-anchors" in text
    assert "TrustAnchors." not in text
    assert "✗ Forged: not downloaded from http://127.0.0.1" in text
    assert not (tmp_path / "new").exists()


def test_fetch_uses_the_proxy_and_does_not_show_it(staging, command, tmp_path, monkeypatch):
    proxy = f"http://user:hunter2@127.0.0.1:{closed_port()}"
    monkeypatch.setenv("POSTEN_SIGNERING_PROXY", proxy)
    status, text = command("fetch", tmp_path, *staging, "--sha256", pki.sha256(PINNED))
    assert status == 1
    assert "hunter2" not in text


def test_verify_says_what_each_file_is(staging, command, tmp_path):
    broken = base64.encodebytes(b"no certificate").decode()
    files = {
        ".hidden": b"",
        "broken.pem": f"-----BEGIN CERTIFICATE-----\n{broken}-----END CERTIFICATE-----\n".encode(),
        "both.pem": PINNED.pem + UNPUBLISHED.pem,
        "foreign.cer": FOREIGN.der,
        "text.txt": b"text",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    status, rows = command("verify", tmp_path, *staging, "--json")
    assert status == 0
    assert [(row["name"], row["usable"]) for row in rows] == [
        ("Pinned", True),
        ("Unpublished", True),
        (None, False),
        (None, False),
        (None, False),
    ]
    _, text = command("verify", tmp_path, *staging)
    assert f"✓ {tmp_path / 'both.pem'}: Pinned of STAGING, valid to " in text
    assert f"- {tmp_path / 'broken.pem'}: not used: no environment pins" in text
    assert f"- {tmp_path / 'text.txt'}: not used: it can't be read, or it has no cert" in text
    assert f"no environment pins its fingerprint {pki.sha256(FOREIGN)}" in text


@pytest.mark.parametrize(
    ("issued", "words"),
    [
        (EXPIRED, "✗ {path}: Expired of STAGING, expired on"),
        (FOREIGN, "- {path}: not used"),
    ],
)
def test_verify_fails_without_a_usable_file(issued, words, staging, command, tmp_path):
    path = tmp_path / "anchor.pem"
    path.write_bytes(issued.pem)
    status, text = command("verify", path, *staging)
    assert status == 1
    assert words.format(path=path) in text


def test_verify_fails_if_one_file_is_expired(staging, command, tmp_path):
    (tmp_path / "anchors.pem").write_bytes(PINNED.pem + EXPIRED.pem)
    status, _ = command("verify", tmp_path, *staging)
    assert status == 1


def test_verify_names_the_environment_that_a_file_belongs_to(command, tmp_path):
    (tmp_path / "certifi.pem").write_text(certifi.contents())
    status, text = command("verify", tmp_path, "--environment", "staging")
    assert status == 1
    assert "Buypass Class 3 Root CA of PRODUCTION, not used in STAGING" in text


def test_an_empty_directory_and_a_missing_one(command, tmp_path, monkeypatch):
    assert command("verify", tmp_path) == (1, "The directory has no file.\n")
    status, text = command("verify", tmp_path / "missing")
    assert (status, "can't be read: No such file" in text) == (2, True)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    status, text = command("verify", tmp_path)
    assert (status, "can't be read: Permission denied" in text) == (2, True)


@pytest.mark.parametrize(
    "settings",
    [{"ENVIRONMENT": "test"}, {"SERVICE_ROOT": "https://localhost/api"}],
)
def test_a_service_without_known_authorities_is_wrong_input(settings, command, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"POSTEN_SIGNERING_{name}", value)
    status, text = command("list")
    assert status == 2
    assert f"POSTEN_SIGNERING_{next(iter(settings))} names a service" in text


def test_a_file_of_a_proxy_that_is_missing_is_wrong_input(staging, command, tmp_path):
    status, text = command("fetch", tmp_path, *staging, "--proxy-file", tmp_path / "missing")
    assert status == 2
    assert "The file of --proxy-file can't be read" in text
