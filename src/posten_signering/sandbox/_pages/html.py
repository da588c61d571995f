"""Fills the templates of `web/` with text; every text is escaped. Reads package data, no other I/O."""

from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib import resources
from string import Template


class Markup(str):
    """HTML that was made here: it is not escaped again."""

    __slots__ = ()


def fill(name: str, texts: Mapping[str, str], /, **values: str) -> Markup:
    """A template with its places filled: a `Markup` as it stands, any other text escaped.

    Args:
        name: The template's file in `web/`, without `.html`.
        texts: What the template may name, such as the texts of a language.
        values: Further values, which come before those of the same name in `texts`.

    Raises:
        KeyError: The template names a place that is not given.
    """
    found = {
        key: value if isinstance(value, Markup) else escape(value) for key, value in texts.items()
    }
    for key, value in values.items():
        found[key] = value if isinstance(value, Markup) else escape(value)
    return Markup(_template(name).substitute(found))


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces of HTML, one after the other."""
    return Markup("".join(parts))


@cache
def _template(name: str) -> Template:
    return Template(asset(f"{name}.html").decode())


@cache
def asset(name: str) -> bytes:
    """A file of `web/`."""
    return (resources.files("posten_signering.sandbox._pages") / "web" / name).read_bytes()
