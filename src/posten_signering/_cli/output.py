"""What the commands print: text for a person, or JSON for a script."""

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

# No line of the help is longer. An example on several lines could not be pasted.
_WIDTH_WITHOUT_TERMINAL = 1000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: without markup, emoji and wrapped lines."""
    made = _Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = (
            _WIDTH_WITHOUT_TERMINAL  # the help is wrapped at this width, also with soft_wrap
        )
    return made


class Output:
    """Prints the results of a command to standard output, and messages to standard error.

    In a terminal, text has colours. Elsewhere it is plain, and long lines are not wrapped.

    Args:
        as_json: Print results as JSON, one value per line.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = console()
        self.errors = console(stderr=True)

    def result(self, value: Mapping[str, object] | Sequence[object], text: str | Text) -> None:
        """Prints a result: the value as JSON, or the text."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, default=str) + "\n")
            sys.stdout.flush()
        else:
            self.console.print(text)

    def note(self, message: str) -> None:
        """Prints a message about what happens to standard error, also when results are JSON."""
        self.errors.print(message)

    def error(self, message: str) -> None:
        """Prints an error message to standard error, also when results are JSON."""
        self.errors.print(Text(message, style="red"))
