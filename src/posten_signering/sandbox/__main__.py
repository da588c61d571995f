"""`python -m posten_signering.sandbox`: runs a sandbox until Ctrl-C or SIGTERM stops it."""

import argparse
import asyncio
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from posten_signering.sandbox._sandbox.introduction import ClientFiles, introduction
from posten_signering.sandbox._values.refusal import SandboxError

PORT = 9443
PAGES_PORT = 9080
ORGANIZATION_NUMBER = "123456789"

Print = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        port: Of the API.
        pages_port: Of the signer's pages.
        directory: Where everything is kept, and the client's files go; None: in memory, and in a
            directory that is removed in the end.
        organization_number: Whose enterprise certificate is written there.
    """

    port: int
    pages_port: int
    directory: Path | None
    organization_number: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and gives its exit status."""
    options = _parse(arguments)
    # The last resort where signals can't be handled by the event loop.
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(run(options, print_line=_print_line))
        except ImportError as error:
            return _failed(error.msg)
        except OSError as error:
            where = "" if error.filename is None else f": {error.filename}"
            return _failed(f"The sandbox can't start: {error.strerror or error}{where}.")
        except SandboxError as error:
            return _failed(f"The sandbox can't start: {error}")
    return 0


async def run(options: Options, *, print_line: Print) -> None:
    """Runs a sandbox until SIGINT or SIGTERM arrives.

    Raises:
        ImportError: The extra `sandbox` is not installed.
        OSError: A port is taken, or the directory can't be written to.
        SandboxError: Another sandbox uses the directory, what is in it can't be read, or a port is
            no port.
    """
    from posten_signering.sandbox import Sandbox  # noqa: PLC0415 - fails without the extra

    with ExitStack() as stack:
        directory = options.directory or Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="posten-signering-", ignore_cleanup_errors=True)
            )
        )
        sandbox = Sandbox(
            port=options.port, pages_port=options.pages_port, directory=options.directory
        )
        async with sandbox:
            stopped = _stop_signal()
            files = ClientFiles(directory)
            pkcs12, password = sandbox.enterprise_pkcs12(options.organization_number)
            await asyncio.to_thread(
                files.write, pkcs12=pkcs12, password=password, authorities=sandbox.ca_certificates
            )
            for line in introduction(
                service_root=sandbox.service_root,
                pages_url=sandbox.signing_pages_url,
                overview_url=sandbox.overview_url,
                control_url=sandbox.control_url,
                files=files,
                password=password,
                organization_number=options.organization_number,
            ):
                print_line(line)
            kept = "in memory" if options.directory is None else f"in {directory}"
            print_line(f"Everything is kept {kept}. Ctrl-C stops the sandbox.")
            await stopped.wait()
        print_line("Stopped.")


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers in its event loop: there Ctrl-C is a KeyboardInterrupt.
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    return stopped


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m posten_signering.sandbox",
        description="A local service that behaves as Posten signering does, on loopback only.",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help="of the API (%(default)s; 0: a free one)"
    )
    parser.add_argument(
        "--pages-port",
        type=int,
        default=PAGES_PORT,
        help="of the signer's pages (%(default)s; 0: a free one)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where everything is kept, for the next start too; without it, nothing is",
    )
    parser.add_argument(
        "--organization-number",
        type=_organization_number,
        default=ORGANIZATION_NUMBER,
        help="whose enterprise certificate is made, nine digits (%(default)s)",
    )
    parsed = parser.parse_args(arguments)
    return Options(
        port=parsed.port,
        pages_port=parsed.pages_port,
        directory=parsed.directory,
        organization_number=parsed.organization_number,
    )


def _organization_number(text: str) -> str:
    if re.fullmatch("[0-9]{9}", text) is None:
        raise argparse.ArgumentTypeError("an organisation number has nine digits")
    return text


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    # Whoever reads a pipe waits for these lines.
    sys.stdout.flush()


def _failed(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
