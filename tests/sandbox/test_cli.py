"""The command `python -m posten_signering.sandbox`, started, used and stopped as a person would do it."""

import errno
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import posten_signering.sandbox
from posten_signering import ClientConfiguration
from posten_signering.sandbox import __main__ as command

ANY_PORTS = ["--port", "0", "--pages-port", "0"]


def exports(lines) -> dict[str, str]:
    variables = [
        shlex.split(line)[1].partition("=") for line in lines if line.startswith("export ")
    ]
    return {name: value for name, _, value in variables}


def started(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_to_export_and_runs_until_a_signal_stops_it(tmp_path, number):
    directory = tmp_path / "made here" / "files"
    arguments = ["-m", "posten_signering.sandbox", *ANY_PORTS, "--directory", directory]
    with started("-W", "error", *arguments) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        variables = exports(lines)
        configuration = ClientConfiguration.from_env(variables)
        address = re.match("https://127.0.0.1:([0-9]+)/api", configuration.environment.service_root)
        socket.create_connection(("127.0.0.1", int(address[1]))).close()
        process.send_signal(number)
        remaining, errors = process.communicate(timeout=30)
    assert (process.returncode, remaining, errors) == (0, "Stopped.\n", "")
    assert configuration.environment.name == "Sandbox"
    # As in `Sandbox.client_configuration`: a lost response to a poll must not stop polling for minutes.
    assert configuration.environment.default_poll_wait == command.EMPTY_QUEUE_WAIT
    assert configuration.sender.organization_number == "123456789"
    assert configuration.certificate.organization_number == "123456789"
    assert (
        variables["POSTEN_SIGNERING_CERTIFICATE_PASSWORD"]
        == (directory / "password.txt").read_text()
    )
    assert variables == exports((directory / "client.env").read_text().splitlines())
    assert {
        str(path.relative_to(directory)): path.stat().st_mode & 0o777
        for path in directory.rglob("*")
        if path.is_file()
    } == {
        "client.p12": 0o600,
        "password.txt": 0o600,
        "client.env": 0o600,
        "trust/root.pem": 0o600,
        "trust/issuing.pem": 0o600,
        "sandbox.sqlite3": 0o600,
    }


def run_until_introduced(monkeypatch, *arguments):
    """The lines that a run prints. It is stopped at the end of its introduction."""
    lines = []

    def add_line(line):
        lines.append(line)
        if "Ctrl-C" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(command, "_print_line", add_line)
        assert command.main([*ANY_PORTS, *arguments]) == 0
    return lines


def test_exported_variables_are_still_valid_after_a_restart(tmp_path, monkeypatch):
    arguments = ["--directory", str(tmp_path), "--organization-number", "987654321"]
    first = exports(run_until_introduced(monkeypatch, *arguments))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.p*")}
    second = exports(run_until_introduced(monkeypatch, *arguments))
    assert {path: path.read_bytes() for path in files} == files
    for variables in (first, second):
        del variables["POSTEN_SIGNERING_SERVICE_ROOT"]  # any free port: different in each run
    assert second == first


def test_the_guide_names_the_files_that_are_exported(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "guides" / "staging-to-production.md").read_text(
        encoding="utf-8"
    )
    documented = dict(
        re.findall(r"^\| `(POSTEN_SIGNERING_\w+)` \| its `(.+?)` \|", text, re.MULTILINE)
    )
    assert len(documented) == 2
    exported = exports(run_until_introduced(monkeypatch, "--directory", str(tmp_path)))
    for name, path in documented.items():
        assert exported[name] == str(tmp_path / path)
        assert (tmp_path / path).is_file()


def test_it_prints_the_configuration_of_the_official_clients_and_the_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = run_until_introduced(monkeypatch, "--directory", "here")
    output = "\n".join(lines)
    root = exports(lines)["POSTEN_SIGNERING_SERVICE_ROOT"]
    password = exports(lines)["POSTEN_SIGNERING_CERTIFICATE_PASSWORD"]
    # The paths of files are absolute, so they are valid in any working directory.
    assert f'Path.of("{tmp_path}/here/client.p12")), "{password}")' in output
    assert f'withServiceUrl(URI.create("{root}"))' in output
    assert f'withCertificates("{tmp_path}/here/trust")' in output
    assert f'new X509Certificate2("{tmp_path}/here/client.p12", "{password}")' in output
    assert f'environment.Url = new Uri("{root.removesuffix("/api")}")' in output
    assert re.search("Overview: http://127.0.0.1:[0-9]+/overview", output)
    assert re.search("http://127.0.0.1:[0-9]+/control/openapi.json", output)
    exit_pages = [
        rf"http://127.0.0.1:[0-9]+/exit/{name}" for name in ("completed", "rejected", "error")
    ]
    assert re.search(f"Exit URLs for a first run: {' '.join(exit_pages)}\n", output)
    assert f"\n. {tmp_path}/here/client.env\n" in output
    assert "The sandbox keeps its data in here. Press Ctrl-C to stop it." in output


def test_a_directory_in_use_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    arguments = ["-m", "posten_signering.sandbox", *ANY_PORTS, "--directory", tmp_path]
    with started(*arguments) as process:
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        assert command.main([*ANY_PORTS, "--directory", str(tmp_path)]) == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    message = capsys.readouterr().err
    assert re.fullmatch("The sandbox can't run: .* in use by another sandbox: .*\n", message)


def test_without_a_directory_the_files_are_removed_at_the_end(monkeypatch):
    lines = []

    def stop_at_the_end(line):
        lines.append(line)
        if "Ctrl-C" in line:
            assert Path(exports(lines)["POSTEN_SIGNERING_CERTIFICATE"]).is_file()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "_print_line", stop_at_the_end)
    assert command.main([*ANY_PORTS, "--organization-number", "987654321"]) == 0
    assert lines[-1] == "Stopped."
    variables = exports(lines)
    assert variables["POSTEN_SIGNERING_ORGANIZATION_NUMBER"] == "987654321"
    assert not Path(variables["POSTEN_SIGNERING_CERTIFICATE"]).parent.exists()


@contextmanager
def at_hang_up(action):
    earlier = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_it_survives_a_reader_that_leaves_and_ends_with_its_terminal():
    """As with `| head -1`. Closing a terminal sends SIGHUP."""
    # Under `nohup`, the tests' own process ignores SIGHUP.
    with at_hang_up(signal.SIG_DFL):
        process = started("-W", "error", "-m", "posten_signering.sandbox", *ANY_PORTS)
    with process:
        for line in process.stdout:
            if "CERTIFICATE=" in line:
                break
        process.stdout.close()
        [path] = exports([line]).values()
        process.send_signal(signal.SIGHUP)
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")
    assert not Path(path).parent.exists()


def test_nohup_keeps_it_running_without_its_terminal(monkeypatch):
    with at_hang_up(signal.SIG_IGN):
        run_until_introduced(monkeypatch)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("encoding", "errors", "written"),
    [
        ("ascii", "strict", b"kj\\xf8p \\u2192 \\udcff\n"),
        ("latin-1", "strict", b"kj\xf8p \\u2192 \\udcff\n"),
        ("utf-8", "strict", "kjøp → \\udcff\n".encode()),
        ("utf-8", "surrogateescape", "kjøp → ".encode() + b"\xff\n"),
    ],
)
def test_a_path_that_the_terminal_cannot_show_is_escaped(encoding, errors, written):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="")
    command._write(terminal, "kjøp → \udcff")
    assert terminal.buffer.getvalue() == written
    command._write(None, "nothing to write to")


def test_old_files_are_replaced_and_readable_by_this_user_only(tmp_path, monkeypatch):
    old = tmp_path / "client.p12"
    old.write_bytes(bytes(10_000))
    old.chmod(0o644)

    def stop(line):
        if "Ctrl-C" in line:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "_print_line", stop)
    assert command.main([*ANY_PORTS, "--directory", str(tmp_path)]) == 0
    assert 0 < old.stat().st_size < 10_000
    assert old.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("option", ["--port", "--pages-port"])
def test_a_port_in_use_is_reported_in_one_line_with_its_option(option, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        port = str(other_server.getsockname()[1])
        assert command.main([*ANY_PORTS, option, port]) == 1
    expected = (
        f"The sandbox can't run: Port {port} .* {option}\\) .*: Address already in use. Stop .*\n"
    )
    assert re.fullmatch(expected, capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--port", "--pages-port"])
def test_a_port_out_of_range_is_reported_in_one_line(option, capsys):
    assert command.main([*ANY_PORTS, option, "99999"]) == 1
    message = capsys.readouterr().err
    expected = f"The sandbox can't run: The port 99999 .* {option}\\) is out of range.*65535.*\n"
    assert re.fullmatch(expected, message)


@pytest.mark.parametrize("name", ["file", "file/below", "is/a file/too"])
def test_an_impossible_directory_is_reported_with_its_path(tmp_path, capsys, name):
    for file in ("file", "is/a file"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    directory = tmp_path / name
    assert command.main([*ANY_PORTS, "--directory", str(directory)]) == 1
    assert re.fullmatch(
        f"The sandbox can't run: .*: {re.escape(str(directory))}. Check that --directory .*\n",
        capsys.readouterr().err,
    )


def test_a_full_disk_is_reported_with_the_file(tmp_path, monkeypatch, capsys):
    write = Path.write_bytes

    def write_bytes(path, content):
        if path.name == command.PKCS12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert command.main([*ANY_PORTS, "--directory", str(tmp_path)]) == 1
    expected = f"The sandbox can't run: No space left on device: {tmp_path}/client.p12. Check .*\n"
    assert re.fullmatch(expected, capsys.readouterr().err)


def test_an_empty_directory_name_is_refused_before_the_start(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([*ANY_PORTS, "--directory", ""])
    assert "--directory: the path is empty" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["12", "1234567890", "12345678x", ""])
def test_an_invalid_organisation_number_is_refused_before_the_start(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([*ANY_PORTS, "--organization-number", number])
    expected = "--organization-number: an organisation number must have nine digits"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "setting", "default"),
    [
        ("--early-poll-penalty", "early_poll_penalty", 0),
        ("--empty-queue-wait", "empty_queue_wait", 2),
    ],
)
def test_an_option_in_seconds_is_a_setting_of_the_sandbox(monkeypatch, option, setting, default):
    class StopError(Exception):
        pass

    def sandbox(**settings):
        raise StopError(settings[setting].total_seconds())

    monkeypatch.setattr(posten_signering.sandbox, "Sandbox", sandbox)
    for arguments, expected in (([], default), ([option, "30"], 30), ([option, "0.5"], 0.5)):
        with pytest.raises(StopError) as raised:
            command.main([*ANY_PORTS, *arguments])
        assert raised.value.args == (expected,)


@pytest.mark.parametrize("option", ["--early-poll-penalty", "--empty-queue-wait"])
@pytest.mark.parametrize("seconds", ["-1", "nan", "1e9", "999999999", "soon", ""])
def test_invalid_seconds_are_refused_before_the_start(option, seconds, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([*ANY_PORTS, f"{option}={seconds}"])
    assert f"{option}: seconds must be a number" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "0.0009", "86401"])
def test_a_wait_that_no_client_takes_is_refused_before_the_start(seconds, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([*ANY_PORTS, "--empty-queue-wait", seconds])
    assert "--empty-queue-wait: the wait must be from 0.001" in capsys.readouterr().err


def test_each_line_is_flushed(capsys):
    command._print_line("a line")
    assert capsys.readouterr().out == "a line\n"


@pytest.mark.parametrize("missing", ["aiohttp", "jinja2", "pikepdf", "pyhanko", "reportlab"])
def test_without_the_extra_only_the_sandbox_itself_is_missing(missing):
    program = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; import posten_signering.sandbox as s\n"
        "print(s.Fault(kind=s.FaultKind.RESET).kind, s.Overview.__name__, s.RateLimit().calls)\n"
        "for name in ('Sandbox', 'ThreadedSandbox', 'Received'):\n"
        "    try:\n        getattr(s, name)\n    except ImportError as error:\n        print(error)\n"
        "runpy.run_module('posten_signering.sandbox', run_name='__main__', alter_sys=True)"
    )
    with started("-c", program) as process:
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    values, *messages = output.splitlines()
    assert values == "reset Overview 10"
    assert len(messages) == 3
    for message in (*messages, errors):
        assert missing in message
        assert "pip install 'posten-signering[sandbox]'" in message
    assert "Traceback" not in errors


def test_the_demo_without_the_extra_names_it_in_one_line(tmp_path):
    program = (
        "import runpy, sys; sys.modules['aiohttp'] = None\n"
        "sys.argv[1:] = ['--output', 'demo-output']\n"
        "runpy.run_module('posten_signering.sandbox.demo', run_name='__main__', alter_sys=True)"
    )
    with started("-c", program, cwd=tmp_path) as process:
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == ""
    assert "pip install 'posten-signering[sandbox]'" in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_import_is_not_reported_as_a_missing_extra():
    module = "posten_signering.sandbox._pages.application"
    program = (
        f"import sys; sys.modules[{module!r}] = None; import posten_signering.sandbox as s\n"
        "try:\n    s.Sandbox\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    )
    with started("-c", program) as process:
        output, _ = process.communicate(timeout=30)
    assert output == f"{module}\n"


def test_the_package_has_its_public_names_and_no_others():
    for name in posten_signering.sandbox.__all__:
        assert getattr(posten_signering.sandbox, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        posten_signering.sandbox.Nothing  # noqa: B018 - the access is what is tested
