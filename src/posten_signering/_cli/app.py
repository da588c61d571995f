"""The command `posten-signering`: its list of commands, its errors and its exit status."""

import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from types import FrameType
from typing import Annotated, Literal, cast

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

from posten_signering import __version__
from posten_signering._cli.create import create
from posten_signering._cli.follow import poll, status
from posten_signering._cli.masking import masked
from posten_signering._cli.output import Output, console
from posten_signering._cli.programs import PROGRAMS
from posten_signering._cli.status import ExitStatus, status_of
from posten_signering._cli.urls import confirm, delete, download, redirect_url
from posten_signering.errors import SenderNotSpecifiedError, SigningError

logger = logging.getLogger("posten_signering")

app = App(
    name="posten-signering",
    help="Create and follow signature jobs of Posten signering, and find out what is wrong with a set-up.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=False),
)
for _command in (create, status, poll, download, confirm, delete, redirect_url):
    app.command(_command)
for _program in PROGRAMS.values():
    app.command(_program, help_flags=[], version_flags=[])
app.meta.suppress_keyboard_interrupt = False

_VERBOSE = ["--verbose", "-v"]

# What users may pass by mistake where it does not belong. An error message must not repeat it.
_SECRETS = re.compile(r"\w+://[^\s\"]+|(?<=status_query_token=)[^\s\"]+")

# Each module is imported only when its command is used.
app.command("posten_signering._cli.setup.check:check")
app.command("posten_signering._cli.inspection.command:inspect")
app.command("posten_signering._cli.setup.trust_anchors:trust_anchors", name="trust-anchors")


def run(arguments: Sequence[str]) -> int:
    """Runs a command, prints its error if it fails, and returns the exit status."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A character that the terminal can't show must not end the command with an error.
        reconfigure(errors="backslashreplace")
    try:
        with _termination_as_interrupt():
            exit_status = _status(arguments)
            print(end="", flush=True)  # noqa: T201 - to flush, also where standard output was closed before the start
    except BrokenPipeError:
        _discard(1, 2)
        return ExitStatus.OUTPUT_CLOSED
    except OSError as error:
        _discard(1)
        Output().error(f"The output can't be written to the end: {error.strerror}.")
        return ExitStatus.FAILURE
    return exit_status


def _discard(*descriptors: int) -> None:
    """What is left in the buffers of these files goes nowhere. Otherwise it would fail again at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _status(arguments: Sequence[str]) -> int:
    output = console()
    if not arguments or set(arguments) & set(app.help_flags):
        for name in app:  # imports each command, so that the list of commands can describe it
            app[name]
    app.help_formatter = "default" if output.is_terminal else "plain"
    try:
        words = list(dropwhile(_VERBOSE.__contains__, arguments))
        if words and words[0] in PROGRAMS:  # also with --help
            return PROGRAMS[words[0]](*words[1:])
        result = _call(app.meta, arguments)
    except SystemExit as end:  # of a program, for --help or an error in its arguments
        return end.code if isinstance(end.code, int) else ExitStatus.SUCCESS
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a person gets no traceback of an error that nobody foresaw
        message, exit_status = _explained(error)
        Output().error(masked(message))
        return exit_status
    return result if isinstance(result, int) else ExitStatus.SUCCESS


def _explained(error: Exception) -> tuple[str, ExitStatus]:
    """The message and the exit status of an error."""
    match error:
        case CycloptsError():
            return _usage_error(error), ExitStatus.WRONG_INPUT
        case SenderNotSpecifiedError():
            return (
                "No sender is set. Use --organization-number, or set POSTEN_SIGNERING_ORGANIZATION_NUMBER. "
                "For a job, you can also write the key `sender` in the job file."
            ), status_of(error)
        case SigningError():
            notes: Sequence[str] = getattr(error, "__notes__", ())
            return "\n".join([str(error), *notes]), status_of(error)
        case OSError():
            place = "" if error.filename is None else f"{error.filename}: "
            return f"{place}{error.strerror or type(error).__name__}", ExitStatus.FAILURE
        case _:
            # The text of the error may quote a secret.
            return (
                f"An unexpected error occurred: {type(error).__name__}. This is a fault of "
                "posten-signering. Run the command with --verbose to see where it occurred, and report it."
            ), ExitStatus.FAILURE


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Prints the script that completes commands and options in a shell.

    Example: eval "$(posten-signering completion bash)"

    Args:
        shell: The shell.
    """
    sys.stdout.write(app.generate_completion(shell=shell))


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    verbose: Annotated[
        bool,
        Parameter(name=_VERBOSE, negative="", help="Show what happens: the log lines."),
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
    elif isinstance(error, UnknownOptionError):
        # The value may be a password, of an option that does not exist for this reason.
        _, equals, value = (error.token.keyword or error.token.value).partition("=")
        message = str(error).replace(equals + value, "")
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
