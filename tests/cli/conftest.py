"""The command in this process, as a user of a sandbox runs it."""

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from posten_signering._cli.app import run
from posten_signering.sandbox import ThreadedSandbox


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The only value of JSON in standard output."""
        [line] = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty directory, with this text as standard input."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin="") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="package")
def sandbox():
    with ThreadedSandbox(rate_limit=None) as running:
        yield running


@pytest.fixture(scope="package")
def client_files(sandbox, tmp_path_factory):
    """The variables of a client of the sandbox, whose files are in a directory."""
    folder = tmp_path_factory.mktemp("client")
    pkcs12, password = sandbox.enterprise_pkcs12("123456789")
    (folder / "client.p12").write_bytes(pkcs12)
    (folder / "root.pem").write_bytes(sandbox.ca_pem)
    return {
        "POSTEN_SIGNERING_ENVIRONMENT": "Sandbox",
        "POSTEN_SIGNERING_SERVICE_ROOT": sandbox.service_root,
        "POSTEN_SIGNERING_CERTIFICATE": str(folder / "client.p12"),
        "POSTEN_SIGNERING_CERTIFICATE_PASSWORD": password,
        "POSTEN_SIGNERING_TRUST_ANCHORS": str(folder / "root.pem"),
        "POSTEN_SIGNERING_ORGANIZATION_NUMBER": "123456789",
        "POSTEN_SIGNERING_DEFAULT_POLL_WAIT": "0.1",
    }


@pytest.fixture
def variables(client_files, monkeypatch):
    """Sets the variables of a client of the sandbox."""
    for name, value in client_files.items():
        monkeypatch.setenv(name, value)
    return client_files
