"""The commands `download`, `confirm`, `delete` and `redirect-url`."""

import pytest
from doubles import PDF

from posten_signering.sandbox import Fault, FaultKind, Operation

pytestmark = pytest.mark.usefixtures("variables")


@pytest.fixture
def create(command, tmp_path):
    """Creates a job and returns its JSON."""
    (tmp_path / "contract.pdf").write_bytes(PDF)
    return lambda: (
        command(
            *("create", "contract.pdf", "--title=Lease", "--signer=customer-42"),
            *("--exit-url=https://shop.example/done", "--json"),
        ).value
    )


@pytest.fixture
def status(command, create, sandbox):
    """The status of a signed job, as JSON."""

    def call():
        job = create()
        exit_url = sandbox.sign(job["signers"][0]["redirect_url"])
        return command("status", job["status_url"], "--json", "--token", exit_url).value

    return call


# download


@pytest.mark.parametrize(
    ("key", "options", "begin"),
    [
        ("pades_url", [], b"%PDF-"),
        ("xades_url", [], b"<"),
        ("xades_url", ["--kind=xades"], b"<"),
    ],
)
def test_a_signed_document_is_downloaded_to_a_file(command, status, tmp_path, key, options, begin):
    value = status()
    url = {**value, **value["signatures"][0]}[key]
    ran = command("download", "--output=signed", *options, stdin=f"{url}\n")
    path = tmp_path / "signed"
    assert path.read_bytes().startswith(begin)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"signed: {path.stat().st_size:,} bytes\n"
    ran = command("download", url, "-o", "again", "--json")
    assert ran.value == {"file": "again", "size": path.stat().st_size}


def test_a_terminal_shows_the_progress_of_a_download(command, status, monkeypatch):
    url = status()["pades_url"]
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    ran = command("download", url, "--output=signed.pdf")
    assert ran.status == 0
    assert "━" in ran.err
    assert "signed.pdf" in ran.out


@pytest.mark.parametrize("url", ["https://127.0.0.1/x", "https://[x/pades"])
def test_a_url_of_no_known_kind_needs_an_option(command, url):
    ran = command("download", url, "--output=signed")
    assert (ran.status, ran.out) == (2, "")
    assert "Use --kind pades or --kind xades." in ran.err


def test_a_directory_that_does_not_exist_is_an_error_and_nothing_is_requested(command, status):
    ran = command("download", status()["pades_url"], "--output=nowhere/signed.pdf")
    assert ran.status == 1
    assert ran.err.startswith("nowhere/signed.pdf: ")


def test_a_download_that_breaks_leaves_no_file(command, status, tmp_path, sandbox):
    url = status()["pades_url"]
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, operation=Operation.PADES))
    try:
        ran = command("download", url, "--output=signed.pdf")
    finally:
        sandbox.faults.clear()
    assert ran.status == 4
    assert [path.name for path in tmp_path.iterdir()] == ["contract.pdf"]


# confirm, delete, redirect-url


@pytest.mark.parametrize(
    ("options", "printed"), [([], "Confirmed.\n"), (["--json"], '{"confirmed": true}\n')]
)
def test_a_change_is_confirmed(command, status, options, printed):
    ran = command("confirm", *options, stdin=f"{status()['confirmation_url']}\n")
    assert (ran.status, ran.out, ran.err) == (0, printed, "")


@pytest.fixture
def delete_url(command, create, sandbox):
    """The URL to delete the documents of a job that was signed long ago."""
    job = create()
    exit_url = sandbox.sign(job["signers"][0]["redirect_url"])
    sandbox.advance(25 * 3600)
    status = command("status", job["status_url"], "--json", "--token", exit_url).value
    yield status["delete_documents_url"]
    sandbox.reset()


def test_documents_are_deleted_with_yes(command, delete_url):
    assert command("delete", delete_url, "--yes", "--json").value == {"deleted": True}


def test_without_a_terminal_nothing_is_deleted_unless_the_user_says_yes(command, delete_url):
    ran = command("delete", delete_url, stdin="y\n")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "Nothing was deleted. Use --yes to delete without a question.\n"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("YES", 0), ("", 2), ("n", 2)])
def test_in_a_terminal_the_command_asks_before_it_deletes(
    command, delete_url, monkeypatch, answer, status
):
    monkeypatch.setattr("posten_signering._cli.urls.at_terminal", lambda: True)
    ran = command("delete", delete_url, stdin=f"{answer}\n")
    assert ran.status == status
    assert "They can't be restored. [y/N]" in ran.err
    assert ran.out == ("The documents are deleted.\n" if status == 0 else "")


def test_a_new_redirect_url_is_printed_alone(command, create, sandbox):
    [signer] = create()["signers"]
    ran = command("redirect-url", signer["signer_url"])
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.strip() != signer["redirect_url"]
    assert sandbox.sign(ran.out.strip()).startswith("https://shop.example/done?")
    [signer] = create()["signers"]
    value = command("redirect-url", "--json", stdin=f"{signer['signer_url']}\n").value
    assert value["signer_url"] == signer["signer_url"]
    assert set(value) == {"signer_url", "redirect_url"}
