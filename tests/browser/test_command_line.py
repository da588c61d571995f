"""Images of the command line: real commands in a terminal of 100 columns, whose output a real browser shows.

People look at the images after a change. The tests only check that a known text is there.
"""

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import pytest
from anyio import to_thread
from playwright.async_api import expect
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

pytestmark = [pytest.mark.anyio, pytest.mark.site]
pytest_plugins = ("browser_support",)

COLUMNS, ROWS = 100, 50


def in_terminal(folder, variables, module, *arguments):
    """What a program prints in a terminal. A program that waits for Ctrl-C is ended by it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", **variables}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    output = b""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        interrupted = False
        while part := read(ours):
            output += part
            if b"Press Ctrl-C" in output and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)
    os.close(ours)
    return output.decode().replace("\r\n", "\n")


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux reports the end of a terminal as an error
        return b""


def as_page(command, printed):
    """An HTML page with a command and what it printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", "bold green"))
    console.print(Text.from_ansi(printed))
    page = console.export_html(theme=DIMMED_MONOKAI, inline_styles=True)
    return page.replace('<pre style="', '<pre style="padding:16px;line-height:1.25;', 1)


@pytest.fixture
async def folder(sender, tmp_path):
    """A folder with the files of a client, and with the container of a job."""
    await sender.create()
    pkcs12, _ = sender.sandbox.enterprise_pkcs12("123456789")
    (tmp_path / "company.p12").write_bytes(pkcs12)
    (tmp_path / "root.pem").write_bytes(sender.sandbox.ca_pem)
    (tmp_path / "lease.asice").write_bytes(sender.sandbox.received[-1].container)
    return tmp_path


@pytest.fixture
def variables(sender):
    _, password = sender.sandbox.enterprise_pkcs12("123456789")
    return {
        "POSTEN_SIGNERING_ENVIRONMENT": "Sandbox",
        "POSTEN_SIGNERING_SERVICE_ROOT": sender.sandbox.service_root,
        "POSTEN_SIGNERING_CERTIFICATE": "company.p12",
        "POSTEN_SIGNERING_CERTIFICATE_PASSWORD": password,
        "POSTEN_SIGNERING_TRUST_ANCHORS": "root.pem",
        "POSTEN_SIGNERING_ORGANIZATION_NUMBER": "123456789",
    }


SANDBOX = "python -m posten_signering.sandbox --port 0 --pages-port 0"
WRONG = {"POSTEN_SIGNERING_CERTIFICATE_PASSWORD": "wrong"}


@pytest.mark.parametrize(
    ("name", "command", "changed", "known"),
    [
        ("help", "posten-signering --help", {}, "trust-anchors"),
        ("check", "posten-signering check", {}, "✓ Sender"),
        ("check-wrong-password", "posten-signering check", WRONG, "✗ Enterprise certificate"),
        ("inspect", "posten-signering inspect lease.asice", {}, "✓ signature value"),
        ("sandbox", SANDBOX, {}, "export POSTEN_SIGNERING_SERVICE_ROOT="),
    ],
    ids=["help", "check", "wrong-password", "inspect", "sandbox"],
)
async def test_a_command_in_a_terminal(visit, folder, variables, name, command, changed, known):
    arguments = command.replace("posten-signering", "python -m posten_signering", 1).split()[2:]
    printed = await to_thread.run_sync(in_terminal, folder, {**variables, **changed}, *arguments)
    person = await visit()
    await person.page.set_content(as_page(command, printed))
    await expect(person.page.locator("pre")).to_contain_text(known)
    await person.screenshot(f"cli-{name}")
