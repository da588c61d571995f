"""`python -m posten_signering.sandbox`: runs a sandbox until Ctrl-C, SIGTERM or SIGHUP stops it.

It writes the files that a client needs, and prints how to configure each kind of client with them.
"""

import argparse
import asyncio
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from posten_signering.sandbox._values.refusal import SandboxError

if TYPE_CHECKING:
    from posten_signering.sandbox import Sandbox

PORT = 9443
PAGES_PORT = 9080
ORGANIZATION_NUMBER = "123456789"
# The class `Sandbox` waits 30 seconds, as the service's test environment. A person at a terminal would wait too long.
EMPTY_QUEUE_WAIT = timedelta(seconds=2)

# The files for clients, relative to the directory. `trust` contains only CA certificates, one per file.
PKCS12, PASSWORD, TRUST = "client.p12", "password.txt", "trust"
# A shell reads it with `.`: it has the same `export` lines that the command prints.
VARIABLES = "client.env"


class Options(argparse.Namespace):
    """The command line options.

    Attributes:
        port: The port of the API.
        pages_port: The port of the pages and the control API.
        directory: The directory for the sandbox's data and the client's files. None: the data is in
            memory, and the files are in a temporary directory.
        organization_number: The organisation that the client's enterprise certificate is issued to.
        empty_queue_wait: How long a client must wait with the next poll after it found the queue empty.
        early_poll_penalty: How much each early poll adds to the next permitted poll time.
    """

    port: int
    pages_port: int
    directory: Path | None
    organization_number: str
    empty_queue_wait: timedelta
    early_poll_penalty: timedelta


PROGRAM = "python -m posten_signering.sandbox"


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Runs the command, and returns its exit status.

    Args:
        arguments: The command line arguments; None takes them from `sys.argv`.
        program: How the user started the program, for the help.
    """
    options = _parse(arguments, program)
    # Where the event loop can't handle signals (Windows), Ctrl-C raises KeyboardInterrupt.
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(_run(options))
        except ImportError as error:
            return _failed(error.msg)
        except OSError as error:
            return _failed(f"The sandbox can't run: {_reason(error)}.")
        except SandboxError as error:
            return _failed(f"The sandbox can't run: {error}")
    return 0


async def _run(options: Options) -> None:
    """Runs a sandbox until a signal stops it.

    Raises:
        ImportError: The extra `sandbox` is not installed.
        OSError: A port is in use, or the directory can't be written to.
        SandboxError: Another sandbox uses the directory, the data in it can't be read or written, or a
            port is out of range.
    """
    from posten_signering.sandbox import Sandbox  # noqa: PLC0415 - fails without the extra

    stopped = _stop_signal()
    with ExitStack() as stack:
        directory = options.directory or Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="posten-signering-", ignore_cleanup_errors=True)
            )
        )
        sandbox = Sandbox(
            port=options.port,
            pages_port=options.pages_port,
            directory=options.directory,
            empty_queue_wait=options.empty_queue_wait,
            early_poll_penalty=options.early_poll_penalty,
        )
        async with sandbox:
            pkcs12, password = sandbox.enterprise_pkcs12(options.organization_number)
            # The printed paths are absolute, so that they are valid in any working directory.
            absolute = directory.absolute()
            exports = _exports(sandbox, absolute, password, options.organization_number)
            _write_client_files(
                {
                    directory / PKCS12: pkcs12,
                    directory / PASSWORD: password.encode(),
                    directory / VARIABLES: os.fsencode(exports),
                    **{
                        directory / TRUST / f"{name}.pem": pem
                        for name, pem in sandbox.ca_certificates.items()
                    },
                }
            )
            introduction = _introduction(
                sandbox, absolute, password, options.organization_number, exports
            )
            for line in introduction.splitlines():
                _print_line(line)
            place = (
                "in memory, and the next start makes new certificates: paste its variables then, or use"
                " --directory"
                if options.directory is None
                else f"in {directory}"
            )
            _print_line(f"The sandbox keeps its data {place}. Press Ctrl-C to stop it.")
            await stopped.wait()
        _print_line("Stopped.")


def _write_client_files(files: Mapping[Path, bytes]) -> None:
    """Writes the files for clients, and overwrites the files of an earlier start."""
    for path, content in files.items():
        # Only this user may read the key and its password, even if others may read the directory.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)
            path.write_bytes(content)
        except OSError as error:
            error.filename = path  # not known when the disk is full
            raise


def _exports(sandbox: "Sandbox", directory: Path, password: str, organization_number: str) -> str:
    """Lines for a shell with the environment variables of a client."""
    environment = sandbox.client_configuration(organization_number).environment
    variables = {
        "ENVIRONMENT": "Sandbox",
        "SERVICE_ROOT": sandbox.service_root,
        "CERTIFICATE": str(directory / PKCS12),
        "CERTIFICATE_PASSWORD": password,
        "TRUST_ANCHORS": str(directory / TRUST / "root.pem"),
        "ORGANIZATION_NUMBER": organization_number,
        "DEFAULT_POLL_WAIT": f"{environment.default_poll_wait.total_seconds():g}",
    }
    return "".join(
        f"export POSTEN_SIGNERING_{name}={shlex.quote(value)}\n"
        for name, value in variables.items()
    )


def _introduction(
    sandbox: "Sandbox", directory: Path, password: str, organization_number: str, exports: str
) -> str:
    """The text that explains how to use the sandbox."""
    pkcs12, trust = directory / PKCS12, directory / TRUST
    exit_urls = sandbox.exit_urls
    # The official C# client adds /api to its paths itself.
    return f"""\
API (mutual TLS): {sandbox.service_root}
The signer's pages: {sandbox.signing_pages_url}
Overview: {sandbox.overview_url}
Exit URLs for a first run: {exit_urls.completion} {exit_urls.rejection} {exit_urls.error}
Control API: {sandbox.control_url} (OpenAPI document: {sandbox.control_url}/openapi.json)
Client certificate: {pkcs12} (password: {directory / PASSWORD})
CA certificates: {trust}

Environment variables for ClientConfiguration.from_env(). Paste them into another terminal, or run
. {shlex.quote(str(directory / VARIABLES))}
{exports}
Configuration of the official Java client:
  KeyStoreConfig.fromOrganizationCertificate(Files.newInputStream(Path.of("{pkcs12}")), "{password}")
  ServiceEnvironment.STAGING.withServiceUrl(URI.create("{sandbox.service_root}")).withCertificates("{trust}")
  new Sender("{organization_number}")
Configuration of the official C# client:
  new X509Certificate2("{pkcs12}", "{password}")
  environment.Url = new Uri("{sandbox.service_root.removesuffix("/api")}")
  environment.AllowedChainCertificates: the certificates in {trust}
  configuration.CertificateValidationPreferences.ValidateSenderCertificate = false
  new Sender("{organization_number}")

"""


def _stop_signal() -> asyncio.Event:
    """An event that a signal sets. Also a signal during the start, so that no temporary file is left."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # `nohup` ignores SIGHUP, so that the program outlives its terminal.
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        # The event loop on Windows has no signal handlers. Ctrl-C raises KeyboardInterrupt there.
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    return stopped


def _reason(error: OSError) -> str:
    if error.filename is None:
        return error.strerror or str(error)
    return f"{error.strerror}: {error.filename}. Check that --directory is a directory that you may write to"


def _parse(arguments: Sequence[str] | None, program: str) -> Options:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a local service that behaves like Posten signering. It listens on loopback only.",
        epilog=f"Example: {program} --directory sandbox-data",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        help="port of the API (default: %(default)s; 0: any free port)",
    )
    parser.add_argument(
        "--pages-port",
        type=int,
        default=PAGES_PORT,
        help="port of the signer's pages, the overview and the control API"
        " (default: %(default)s; 0: any free port)",
    )
    parser.add_argument(
        "--directory",
        type=_directory,
        help="directory in which the sandbox keeps its data for the next start, and writes the"
        " client's files (default: nothing is kept after the sandbox stops)",
    )
    parser.add_argument(
        "--organization-number",
        type=_organization_number,
        default=ORGANIZATION_NUMBER,
        help="nine digits: the organisation that the client's enterprise certificate is issued to"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--empty-queue-wait",
        type=_poll_wait,
        default=EMPTY_QUEUE_WAIT,
        metavar="SECONDS",
        help="how long a client must wait with the next poll after it found the queue empty (default:"
        f" {EMPTY_QUEUE_WAIT.total_seconds():g}; the service: 5 to 30 in its test environment, 600 in production)",
    )
    parser.add_argument(
        "--early-poll-penalty",
        type=_seconds,
        default=timedelta(0),
        metavar="SECONDS",
        help="how much each poll before the next permitted poll time adds to that time"
        " (default: nothing)",
    )
    return parser.parse_args(arguments, namespace=Options())


def _directory(text: str) -> Path:
    # An empty variable in a script must not fill the working directory with files.
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _organization_number(text: str) -> str:
    if re.fullmatch("[0-9]{9}", text) is None:
        raise argparse.ArgumentTypeError("an organisation number must have nine digits")
    return text


def _seconds(text: str) -> timedelta:
    if re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,6})?", text) is None:
        raise argparse.ArgumentTypeError("seconds must be a number such as 30 or 0.5")
    return timedelta(seconds=float(text))


def _poll_wait(text: str) -> timedelta:
    # The limits of POSTEN_SIGNERING_DEFAULT_POLL_WAIT, which gets the same value.
    wait = _seconds(text)
    if not timedelta(milliseconds=1) <= wait <= timedelta(days=1):
        raise argparse.ArgumentTypeError("the wait must be from 0.001 to 86400 seconds")
    return wait


def _print_line(text: str) -> None:
    _write(sys.stdout, text)


def _failed(message: str) -> int:
    _write(sys.stderr, message)
    return 1


def _write(stream: TextIO | None, line: str) -> None:
    """Writes a line. A stream that is closed, such as a pipe after `| head -1`, does not stop the sandbox."""
    if stream is None:  # closed before the start
        return
    try:
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:  # a path with a character that the terminal can't show
            encoding = stream.encoding
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        # A program that reads these lines from a pipe must get them immediately.
        stream.flush()
    except OSError:
        # What is left in the buffer goes nowhere. Otherwise it would fail again at the exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
