"""The reference of the documentation site has every public name, each with a description."""

import importlib
import inspect
import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "api"
MODULES = ["", ".errors", ".worker", ".sandbox", ".opentelemetry"]
PUBLIC = {
    f"posten_signering{module}.{name}": getattr(
        importlib.import_module(f"posten_signering{module}"), name
    )
    for module in MODULES
    for name in importlib.import_module(f"posten_signering{module}").__all__
}
# What callers call: public names, and the methods that the package defines in their classes.
CALLABLES = PUBLIC | {
    f"{path}.{name}": member
    for path, value in PUBLIC.items()
    if inspect.isclass(value)
    for name, member in inspect.getmembers(value)
    if not name.startswith("_")
    and "posten_signering" in (getattr(member, "__module__", None) or "")
}


def test_each_public_name_is_on_one_page():
    pages = [page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md"))]
    listed = [name for page in pages for name in re.findall(r"(?m)^::: (\S+)$", page)]
    assert sorted(listed) == sorted(PUBLIC)


def first_line(value):
    return (inspect.getdoc(value) or "").partition("\n")[0]


def test_every_docstring_begins_with_a_sentence():
    documented = {
        path: value
        for path, value in CALLABLES.items()
        if inspect.isroutine(value) or inspect.isclass(value)
    }
    assert "posten_signering.DirectClient.aclose" in documented
    faults = {
        path: first_line(value)
        for path, value in documented.items()
        if not re.fullmatch(r"[A-Z`].*[.:]", first_line(value))
    }
    assert faults == {}
