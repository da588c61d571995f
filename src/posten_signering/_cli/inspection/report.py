"""What `inspect` found in a file: values to print as text or as JSON. Identity numbers are masked."""

from dataclasses import dataclass

from posten_signering._cli.masking import masked

_LONGEST_VALUE = 400


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was found.

    Attributes:
        name: What it is.
        value: Its value, without control characters and identity numbers.
        good: Whether it is right; None if it can't be right or wrong.
    """

    name: str
    value: str
    good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows that belong together, under a title."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in a file.

    Attributes:
        kind: What the file is.
        sections: What is in it.
    """

    kind: str
    sections: tuple[Section, ...]

    @property
    def good(self) -> bool:
        """Whether nothing in the file is wrong."""
        return all(row.good is not False for section in self.sections for row in section.rows)


def row(name: str, value: object, *, good: bool | None = None) -> Row:
    """A row whose texts can be printed, whatever the file contains."""
    return Row(name=cleaned(name), value=cleaned(str(value)), good=good)


def section(title: str, *rows: Row) -> Section:
    """A section whose title can be printed, whatever the file contains."""
    return Section(title=cleaned(title), rows=rows)


def cleaned(text: str) -> str:
    """The text on one line, without control characters and identity numbers."""
    line = "".join(filter(str.isprintable, " ".join(text.split())))
    shown = masked(line)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"
