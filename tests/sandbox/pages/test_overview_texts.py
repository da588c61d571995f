"""The overview page's texts: complete in both languages, and used by its template or its scripts."""

import re
from dataclasses import fields
from pathlib import Path

from posten_signering.sandbox import Fault
from posten_signering.sandbox._api.faults import TAKES
from posten_signering.sandbox._pages import overview_texts
from posten_signering.sandbox._pages.overview_texts import OVERVIEW_TEXTS
from posten_signering.sandbox._pages.texts import Language

BOKMAL, ENGLISH = OVERVIEW_TEXTS[Language.BOKMAL], OVERVIEW_TEXTS[Language.ENGLISH]
FOLDER = Path(overview_texts.__file__).parent
SOURCES = [FOLDER / "templates" / "overview.html", *(FOLDER / "web").glob("overview*.js")]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)

# These begin the names of texts that the page puts together, such as `done_sign`.
BEGINNINGS = ("done_", "column_", "field_", "move_")


def test_both_languages_have_the_same_texts_with_the_same_values():
    assert BOKMAL.keys() == ENGLISH.keys()
    for name in BOKMAL:
        bokmal, english = (set(re.findall(r"{\w+}", texts[name])) for texts in (BOKMAL, ENGLISH))
        assert bokmal == english, name
        assert BOKMAL[name].strip()
        assert ENGLISH[name].strip()
    identical = {name for name in BOKMAL if BOKMAL[name] == ENGLISH[name]}
    assert identical == {"seconds", "minutes"}


def test_every_text_that_the_page_uses_exists_and_every_text_is_used():
    used = set(re.findall(r'\btext\("(\w+)"|\bwords\.(?!get\b)(\w+)', SOURCE))
    used = {first or second for first, second in used}
    assert used - BOKMAL.keys() == set()
    words = set(re.findall(r"\w+", SOURCE))
    assert {name for name in BOKMAL if not name.startswith(BEGINNINGS)} - words == set()


def test_every_field_of_a_fault_has_a_label():
    names = {name for taken in TAKES.values() for name in taken}
    assert names <= {field.name for field in fields(Fault)}
    assert {f"field_{name}" for name in names} == {
        name for name in BOKMAL if name.startswith("field_")
    }
