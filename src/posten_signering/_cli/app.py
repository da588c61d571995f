"""The command `posten-signering`: its list of commands, its errors and its exit status."""

import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, cast

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from posten_signering import __version__
from posten_signering._cli.output import Output, console
from posten_signering._cli.status import ExitStatus, status_of
from posten_signering.errors import SigningError

logger = logging.getLogger("posten_signering")

app = App(
    name="posten-signering",
    help="Create and follow signature jobs of Posten signering, and find out what is wrong with a set-up.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False

# What users may pass by mistake where it does not belong. An error message must not repeat it.
_SECRETS = re.compile(r"\d{11}|\w+://\S+|(?<=status_query_token=)\S+")


def run(arguments: Sequence[str]) -> int:
    """Runs a command, prints its error if it fails, and returns the exit status."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A character that the terminal can't show must not end the command with an error.
        reconfigure(errors="backslashreplace")
    try:
        with _termination_as_interrupt():
            status = _status(arguments)
            print(end="", flush=True)  # noqa: T201 - to flush, also where standard output was closed before the start
    except BrokenPipeError:
        # What is left in the buffers goes nowhere. Otherwise it would fail again at the exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
        return ExitStatus.OUTPUT_CLOSED
    return status


def _status(arguments: Sequence[str]) -> int:
    output = console()
    app.help_formatter = "default" if output.is_terminal else "plain"
    try:
        result = _call(app.meta, arguments)
    except CycloptsError as error:
        Output().error(_usage_error(error))
        return ExitStatus.WRONG_INPUT
    except SigningError as error:
        Output().error("\n".join([str(error), *getattr(error, "__notes__", ())]))
        return status_of(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        Output().error(reason if error.filename is None else f"{error.filename}: {reason}")
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a traceback would show the values of local variables to nobody's use
        # The error's text may quote a secret.
        Output().error(
            f"An unexpected error occurred: {type(error).__name__}. This is a fault of posten-signering. "
            "Run the command with --verbose to see where it occurred, and report that."
        )
        return ExitStatus.FAILURE
    return result if isinstance(result, int) else ExitStatus.SUCCESS


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    verbose: Annotated[
        bool,
        Parameter(name=["--verbose", "-v"], negative="", help="Show what happens: the log lines."),
    ] = False,
) -> object:
    with _log_lines(logging.DEBUG if verbose else logging.WARNING):
        try:
            return _call(app, tokens)
        except Exception as error:
            logger.debug(
                "The command failed with %s:\n%s",
                type(error).__name__,
                "".join(traceback.format_tb(error.__traceback__)),
            )
            raise


def _call(application: App, arguments: Sequence[str]) -> object:
    return cast(
        "object",
        application(
            arguments,
            console=console(),
            print_error=False,
            exit_on_error=False,
            result_action="return_value",
        ),
    )


def _usage_error(error: CycloptsError) -> str:
    """The message of an error in the arguments. It repeats no argument that may be a secret."""
    if isinstance(error, UnusedCliTokensError):
        count = len(error.unused_tokens or ())
        message = f"The command has {count} argument{'s' if count != 1 else ''} too many."
    else:
        message = _SECRETS.sub("(hidden)", str(error))
    command = " ".join([app.name[0], *(error.command_chain or ())])
    return f"{message} See: {command} --help"


@contextmanager
def _log_lines(level: int) -> Generator[None]:
    """Prints the log lines of the package to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@contextmanager
def _termination_as_interrupt() -> Generator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that no partial file is left."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell ignores SIGINT for a command in the background
            raise KeyboardInterrupt
        handler(number, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
