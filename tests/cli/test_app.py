"""The frame of the command: errors, exit statuses, log lines, signals, closed pipes, help and completion."""

import asyncio
import errno
import io
import logging
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posten_signering.__main__ import main
from posten_signering._cli import app as app_module
from posten_signering._cli.app import app, run
from posten_signering._cli.output import Output
from posten_signering.errors import ConfigurationError, SenderNotSpecifiedError, SigningError

PROGRAM = [sys.executable, "-m", "posten_signering"]
COMMANDS = sorted(name for name in app if not name.startswith("-"))


@pytest.fixture
def fail(command):
    """Runs a command that calls a function."""

    def call(function, *options):
        app.command(function, name="fail")
        try:
            return command("fail", *options)
        finally:
            del app["fail"]

    return call


def raising(error):
    def command():
        raise error

    return command


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example(command, name):
    ran = command(name, "--help")
    assert ran.status == 0
    lines = ran.out.replace('eval "$(', "").splitlines()
    # On one line, so that it can be pasted.
    [example] = [index for index, line in enumerate(lines) if line.startswith("Example: ")]
    assert lines[example].startswith(f"Example: posten-signering {name}")
    assert lines[example + 1 : example + 2] in ([""], [])
    assert "╭" not in ran.out


def test_the_help_describes_every_command_and_the_version_is_that_of_the_package(command):
    # In a new process, in which no command has been imported.
    done = subprocess.run([*PROGRAM, "--help"], check=True, capture_output=True, text=True)
    assert [name for name in COMMANDS if f"  {name}: " not in done.stdout] == []
    assert command("--version").out == f"{app_module.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_knows_commands_and_options(command, shell):
    ran = command("completion", shell)
    assert ran.status == 0
    assert "redirect-url" in ran.out
    assert "status-retrieval-method" in ran.out


# Errors in the arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["creat"], 'Unknown command "creat". Did you mean "create"?'),
        (["poll", "--folow"], "Unknown option: --folow. Did you mean --follow?"),
        (["poll", "17885599999"], "The command has 1 argument too many."),
        (["status", "https://a.example/x", "token-canary", "b"], "2 arguments too many."),
        (["download", "https://a.example/x"], "--output"),
        (["17885599999"], 'Unknown command "***********".'),
        (["https://a.example/x?status_query_token=token-canary"], 'Unknown command "(hidden)".'),
        (["poll", "--17885599999=token-canary"], "Unknown option: --***********."),
        (["create", "a.pdf", "--certificate-password=token-canary 1"], "password. Did you mean"),
        (["completion", "178855-99999"], 'Invalid value "***********" for SHELL.'),
        (["create", "--signer-numbers-file", "17885599999"], "-file=***********: No such file"),
        (["create", "--authentication-level", "5"], 'Choose from: "3", "4".'),
        (["sandbox", "--port", "x"], "invalid int value"),
        (["-v", "sandbox", "--port", "x"], "invalid int value"),
    ],
)
def test_an_error_in_the_arguments_is_plain_and_repeats_no_secret(command, arguments, message):
    ran = command(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert "╭" not in ran.err
    assert not any(secret in ran.err for secret in ("17885599999", "token-canary", "a.example"))


def test_an_error_in_the_arguments_names_the_help_of_the_command(command):
    assert command("poll", "x").err.endswith("See: posten-signering poll --help\n")
    assert command("x").err.endswith("See: posten-signering --help\n")


# Errors of a command


def noted(error, note):
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (SigningError("Something failed."), 1, "Something failed.\n"),
        (noted(ConfigurationError("It is wrong."), "Repair it."), 2, "It is wrong.\nRepair it.\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.pdf"), 1, "x.pdf: No such file\n"),
        (OSError(errno.ENOSPC, "No space left"), 1, "No space left\n"),
        (OSError("text-canary"), 1, "OSError\n"),
        (
            SenderNotSpecifiedError(),
            2,
            (
                "No sender is set. Use --organization-number, or set POSTEN_SIGNERING_ORGANIZATION_NUMBER. "
                "For a job, you can also write the key `sender` in the job file.\n"
            ),
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_of_a_command_is_printed_with_its_notes(fail, error, status, message):
    ran = fail(raising(error))
    assert (ran.status, ran.out, ran.err) == (status, "", message)


def test_an_unexpected_error_shows_no_text_of_the_exception(fail):
    ran = fail(raising(ValueError("text-canary")))
    assert ran.status == 1
    assert "An unexpected error occurred: ValueError." in ran.err
    assert "test_app.py" not in ran.err
    assert "text-canary" not in ran.err


def test_with_verbose_an_unexpected_error_shows_where_it_occurred(fail):
    ran = fail(raising(ValueError("text-canary")), "--verbose")
    assert "test_app.py" in ran.err
    assert "text-canary" not in ran.err


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ([], "WARNING: w\n"),
        (["-v"], "DEBUG: d\nWARNING: w\n"),
        (["--verbose"], "DEBUG: d\nWARNING: w\n"),
    ],
)
def test_warnings_are_always_shown_and_other_log_lines_on_request(fail, options, printed):
    logger = logging.getLogger("posten_signering")
    before = logger.level, list(logger.handlers)

    def command():
        logger.debug("d")
        logger.warning("w")

    assert fail(command, *options).err == printed
    assert (logger.level, list(logger.handlers)) == before


def test_a_character_that_the_terminal_cannot_show_is_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    app.command(lambda: Output().result({}, "Kjøp"), name="fail")
    try:
        assert run(["fail"]) == 0
    finally:
        del app["fail"]
    assert written.getvalue() == b"Kj\\xf8p\n"


def test_standard_output_may_be_closed(monkeypatch, command):
    monkeypatch.setattr(sys, "stdout", None)
    assert command("--version").status == 0


def test_json_is_ascii_and_one_line(fail):
    ran = fail(lambda: Output(as_json=True).result({"title": "Kjøp\n"}, ""))
    assert ran.out == '{"title": "Kj\\u00f8p\\n"}\n'


# Signals and pipes


@pytest.mark.parametrize("of_sigint", [signal.default_int_handler, signal.SIG_IGN])
def test_sigterm_ends_a_command_as_ctrl_c_does(fail, of_sigint):
    """A shell ignores SIGINT for a command in the background."""
    cleaned = []

    async def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    of_pytest = signal.signal(signal.SIGINT, of_sigint)
    try:
        assert fail(command).status == 130
    finally:
        signal.signal(signal.SIGINT, of_pytest)
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"]])
def test_a_closed_pipe_ends_the_command_silently(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [*PROGRAM, *arguments], check=False, stdout=closed, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_an_error_without_a_traceback():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--version"], check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    reason = os.strerror(errno.ENOSPC)
    assert done.stderr.splitlines()[-1] == f"The output can't be written to the end: {reason}."
    assert "Traceback" not in done.stderr


# A terminal


def in_terminal(arguments, environ, answers=()):
    """Runs the command in a terminal, types an answer after each prompt, and returns what the terminal shows."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [*PROGRAM, *arguments], {**os.environ, **environ})
    shown = b""
    for prompt, answer in answers:
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        # getpass has switched the echo off before it prints the prompt.
        os.write(terminal, answer + b"\n")
    try:
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:  # on Linux, the end of the terminal
        pass
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_a_terminal_gets_boxes_and_colours():
    status, shown = in_terminal(["--help"], {"TERM": "xterm", "COLUMNS": "100"})
    assert status == 0
    assert "╭─ Commands" in shown
    assert "\x1b[" in shown


def test_a_terminal_is_asked_for_the_password_and_does_not_show_it(client_files):
    name = "POSTEN_SIGNERING_CERTIFICATE_PASSWORD"
    environ = {key: value for key, value in client_files.items() if key != name}
    arguments = ["poll", "--polling-queue", "in-a-terminal"]
    password = client_files[name]
    status, shown = in_terminal(
        arguments, environ, [(b"Password of the certificate: ", password.encode())]
    )
    assert "The queue is empty." in shown
    assert status == 3
    assert password not in shown


@pytest.mark.parametrize(
    ("arguments", "prompt"),
    [(["status"], b"status URL: "), (["delete", "https://a.example/x"], b"[y/N] ")],
)
def test_ctrl_c_ends_a_command_that_waits_for_an_answer(client_files, arguments, prompt):
    assert in_terminal(arguments, client_files, [(prompt, b"\x03")])[0] == 130


def test_check_asks_for_the_password_once(client_files):
    environ = {
        key: value
        for key, value in client_files.items()
        if key != "POSTEN_SIGNERING_CERTIFICATE_PASSWORD"
    }
    answers = [(b"Password of the certificate: ", b"battery-staple")]
    status, shown = in_terminal(["check"], environ, answers)
    assert status == 1
    assert "the password that you typed does not open" in shown
    assert shown.count("Password of") == 1
    assert "battery-staple" not in shown


# Without the extra


def test_without_the_extra_the_command_names_it():
    program = (
        "import sys; sys.modules['cyclopts'] = None;"
        "from posten_signering.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'posten-signering[cli]'" in done.stderr


def test_a_different_error_of_an_import_is_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "posten_signering._cli.app", None)
    with pytest.raises(ImportError, match="_cli"):
        main()


def test_the_program_passes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["posten-signering", "--version"])
    assert main() == 0
    assert capsys.readouterr().out
