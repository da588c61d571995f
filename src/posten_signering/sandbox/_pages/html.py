"""Renders the templates of `templates/`; every value is escaped. Reads package data, no other I/O."""

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from posten_signering.sandbox._pages.language import Language
from posten_signering.sandbox._pages.texts import TEXTS

OVERVIEW = "/overview"
"""The path of the overview page."""


def grouped(organization_number: str) -> str:
    """An organisation number as people write it: 123 456 789, on one line."""
    return "\N{NO-BREAK SPACE}".join(
        organization_number[start : start + 3] for start in range(0, len(organization_number), 3)
    )


def shown_size(size: int, language: str) -> str:
    """A number of bytes as people write it, to two figures or so."""
    if size < 1000:
        return f"{size}\N{NO-BREAK SPACE}B"
    if size < 1_000_000:
        return f"{round(size / 1000)}\N{NO-BREAK SPACE}kB"
    shown = f"{size / 1_000_000:.1f}\N{NO-BREAK SPACE}MB"
    return shown.replace(".", ",") if language == Language.BOKMAL else shown


_TEMPLATES = Environment(
    loader=PackageLoader("posten_signering.sandbox._pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, language: Language, **values: object) -> str:
    """A page as HTML.

    Args:
        template: Its file in `templates/`.
        language: Of everything but the values.
        values: What the template names besides `texts`, the texts in that language.

    Raises:
        jinja2.UndefinedError: The template names a value that is not given.
    """
    always: dict[str, object] = {
        "texts": TEXTS[language],
        "overview_address": OVERVIEW,
        "grouped": grouped,
        "shown_size": shown_size,
    }
    return _TEMPLATES.get_template(template).render(always | values)


@cache
def asset(name: str) -> bytes:
    """A file of `web/`."""
    return (resources.files("posten_signering.sandbox._pages") / "web" / name).read_bytes()
