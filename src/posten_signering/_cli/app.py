"""The command `posten-signering`: its list of commands, its errors and its exit status."""

import logging
import sys
from collections.abc import Sequence
from typing import cast

from cyclopts import App, CycloptsError

from posten_signering import __version__
from posten_signering._cli.output import Output
from posten_signering._cli.status import ExitStatus, status_of
from posten_signering.errors import SigningError

app = App(
    name="posten-signering",
    help="Create and follow signature jobs of Posten signering, and find out what is wrong with a set-up.",
    version=__version__,
    help_formatter="default" if sys.stdout.isatty() else "plain",
)


def run(arguments: Sequence[str]) -> int:
    """Runs a command, prints its error if it fails, and returns the exit status."""
    _show_warnings()
    try:
        result = cast("object", app(arguments, exit_on_error=False, result_action="return_value"))
    except CycloptsError:  # cyclopts has printed it
        return ExitStatus.WRONG_INPUT
    except SigningError as error:
        Output().error(str(error))
        return status_of(error)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return result if isinstance(result, int) else ExitStatus.SUCCESS


def _show_warnings() -> None:
    """Prints the warnings of the package to standard error."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("posten_signering").addHandler(handler)
