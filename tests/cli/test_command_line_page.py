"""docs/reference/command-line.md is correct: its commands run, and its tables are those of the code."""

import re
import shlex
from os.path import expandvars
from pathlib import Path

import pytest
from doubles import PDF

from posten_signering import (
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    StatusPoll,
)
from posten_signering._cli import job as job_file
from posten_signering._cli.app import app
from posten_signering._cli.responses import created_value, poll_value, status_value
from posten_signering._cli.status import ExitStatus

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text(
    encoding="utf-8"
)
CONSOLE = re.findall(r"^\$ (posten-signering .*)$", PAGE, re.MULTILINE)
# These do not end by themselves, or start a program that has tests of its own. `check` would find that the
# sandbox's clock is a day ahead.
NOT_RUN = {"sandbox", "demo", "check"}


def command_of(line):
    return shlex.split(line)[1]


def rows(heading):
    """The first two cells of each row in the table under a heading."""
    section = re.split(r"^#+ ", PAGE, flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(r"^\| `?([^|`]+)`? \| (.*) \|$", text, re.MULTILINE)


def keys(text):
    return set(re.findall(r"`(\w+)`", text))


def test_every_command_has_an_example():
    commands = {name for name in app if not name.startswith("-")}
    shown = {command_of(line) for line in CONSOLE} | set(
        re.findall(r"\$\(posten-signering (\w+)", PAGE)
    )
    assert commands - shown == set()


@pytest.fixture
def urls(command, variables, sandbox, tmp_path, monkeypatch):
    """Sets the variables of the page: the URLs of jobs in the sandbox."""
    (tmp_path / "contract.pdf").write_bytes(PDF)
    (tmp_path / "terms.txt").write_text("Terms")
    (tmp_path / "numbers.txt").write_text("17885599999\n")
    [yaml] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "job.yaml").write_text(yaml)
    create = ["create", "contract.pdf", "--title=t", "--signer=a", "--exit-url=http://a.example"]
    for _ in range(2):
        polled = command(*create, "--json", "--status-retrieval-method=polling").value
        sandbox.sign(polled["signers"][0]["redirect_url"])
    waiting = command(*create, "--json").value
    signed = command(*create, "--json").value
    exit_url = sandbox.sign(signed["signers"][0]["redirect_url"])
    (tmp_path / "exit-url.txt").write_text(exit_url)
    sandbox.advance(25 * 3600)
    status = command("status", "--json", signed["status_url"], "--token", exit_url).value
    for name, value in {
        "STATUS_URL": signed["status_url"],
        "EXIT_URL": exit_url,
        "SIGNER_URL": waiting["signers"][0]["signer_url"],
        "PADES_URL": status["pades_url"],
        "XADES_URL": status["signatures"][0]["xades_url"],
        "CONFIRMATION_URL": status["confirmation_url"],
        "DELETE_DOCUMENTS_URL": status["delete_documents_url"],
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    yield
    sandbox.reset()


@pytest.mark.usefixtures("urls")
def test_the_commands_run(command, tmp_path):
    for line in dict.fromkeys(CONSOLE):
        if command_of(line) in NOT_RUN or "--follow" in line:
            continue
        words, _, redirection = line.partition(" > ")[0].partition(" < ")
        arguments = [expandvars(word) for word in shlex.split(words)][1:]
        stdin = (tmp_path / (redirection or "exit-url.txt")).read_text()
        ran = command(*arguments, stdin=stdin)
        assert ran.status == 0, (line, ran)
        assert ran.out
    assert (tmp_path / "job.asice").exists()


def test_the_exit_statuses_are_those_of_the_code():
    listed = [int(status) for status, _ in rows("Exit statuses") if status.isdigit()]
    assert listed == [int(status) for status in ExitStatus]


def test_the_keys_of_the_job_file_are_those_of_the_code():
    table = rows("The job file")
    listed = set().union(*(keys(f"`{first}` {second}") for first, second in table))
    listed |= {"description", "reference"}
    known = {
        *job_file._JOB_KEYS,
        *job_file._DOCUMENT_KEYS,
        *job_file._SIGNER_KEYS,
        *job_file._EXIT_URL_KEYS,
        *job_file._SENDER_KEYS,
    }
    assert known - listed == set()
    assert listed - known <= {"Key", "pdf", "text", "3", "4", "polling", "name"}


def test_the_keys_of_json_are_those_of_the_code():
    table = {command: keys(text) for command, text in rows("JSON")}
    signer = DirectSignerResponse(signer_url="u", redirect_url="r")
    created = created_value(DirectJobResponse(job_id=1, signers=[signer]))
    assert table["create"] == {*created, *created["signers"][0]}
    status = DirectJobStatusResponse(job_id=1, status="s", signatures=[Signature(status="s")])
    value = status_value(status)
    assert table["status"] == {*value, *value["signatures"][0]}
    assert table["poll"] - {"status"} == {*poll_value(StatusPoll(change=status))}
