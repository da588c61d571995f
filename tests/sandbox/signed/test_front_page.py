"""The front page of a signed PDF, and the pages of text documents."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import bundles
import pytest
from bundles import PERSON
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from signing import (
    document,
    pades,
    pdfsig_says,
    run,
    signatory,
    text_of,
)

from posten_signering.sandbox._signed.front_page import date_of_birth, shown_identity, text_pages


def test_what_a_line_cant_carry_shows_no_box_on_the_front_page(pdftotext, tmp_path):
    content = pades(title="Leie\u200bkontrakt", description="Vær\r\nså\tgod & <b>vel</b>")
    front = text_of(pdftotext, content, tmp_path)
    assert "Leiekontrakt" in front
    assert "Vær så god & <b>vel</b>" in front


def test_the_front_page_goes_on_when_there_is_much_to_say(pdfsig, pdftotext, tmp_path):
    documents = [
        document(bundles.pdf(), name=f"{number}.pdf", title=f"Dokument {number} " + "Ø" * 65)
        for number in range(20)
    ]
    signatories = [signatory(name=f"Signatar {number} " + "Å" * 60) for number in range(10)]
    content = pades(*documents, title="W" * 80, description="Æ " * 110, signatories=signatories)
    assert "Signature is Valid." in pdfsig_says(pdfsig, content, tmp_path)
    said = text_of(pdftotext, content, tmp_path)
    assert all(re.search(rf"Dokument {number}\s", said) for number in range(20))
    assert all(re.search(rf"Signatar {number}\s", said) for number in range(10))


@settings(max_examples=40)
# Control characters can't stand in a message of the service (XML 1.0, section 2.2).
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=80),
    st.text(max_size=220),
)
def test_any_title_and_description_become_a_front_page(title, description):
    writable = description.encode("utf-8", "ignore").decode()
    content = pades(title=title, description=writable, signatories=[signatory(name=title)])
    assert PdfReader(io.BytesIO(content)).metadata.title == title


# --- How signers are named


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        (None, f"National identity number {PERSON[:6]} {PERSON[6:]}"),
        ("PERSONAL_IDENTIFICATION_NUMBER_AND_NAME", "National identity number 018170 99921"),
        ("DATE_OF_BIRTH_AND_NAME", "Born 1970-01-01"),
        ("NAME", None),
    ],
)
def test_signers_are_named_as_the_manifest_asks(identifier, shown):
    assert shown_identity(signatory().signer, identifier) == shown
    by_other_means = signatory(personal_identification_number=None)
    assert shown_identity(by_other_means.signer, identifier) is None


def test_only_the_asked_identifier_stands_on_the_page(pdftotext, tmp_path):
    def shown(identifier):
        content = pades(identifier_in_signed_documents=identifier)
        return text_of(pdftotext, content, tmp_path)

    assert "018170 99921" in shown(None)
    for identifier in ("DATE_OF_BIRTH_AND_NAME", "NAME"):
        assert "99921" not in shown(identifier)


@pytest.mark.parametrize(
    ("number", "born"),
    [
        ("01010100001", date(1901, 1, 1)),
        ("31129949900", date(1999, 12, 31)),
        ("01010150000", date(2001, 1, 1)),
        ("01015490000", date(1954, 1, 1)),
        ("01015460000", date(1854, 1, 1)),
        ("41010100001", date(1901, 1, 1)),
        ("01410100001", date(1901, 1, 1)),
        ("01660100001", date(1901, 1, 1)),
        ("01817000001", date(1970, 1, 1)),
        ("99999999999", None),
        ("00000000000", None),
    ],
)
def test_dates_of_birth_are_read_from_identity_numbers(number, born):
    assert date_of_birth(number) == born


def test_a_number_without_a_date_shows_no_date():
    unknown = signatory(personal_identification_number="99999999999")
    assert shown_identity(unknown.signer, "DATE_OF_BIRTH_AND_NAME") is None


# --- Text


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.text(max_size=90))
def test_any_text_becomes_pages(content, title):
    encodable = title.encode("utf-8", "ignore").decode()
    made = text_pages(content.encode(), title=encodable)
    assert len(PdfReader(io.BytesIO(made)).pages) >= 1


def test_no_line_of_a_text_is_lost_or_runs_off_the_page(pdftotext, tmp_path):
    lines = [f"linje {number} " + "ord " * (number % 60) for number in range(200)]
    lines += ["y" * 500, " " * 500 + "innrykket"]
    made = text_pages("\r\n".join(lines).encode("utf-8-sig"), title="Tekst")
    words = text_of(pdftotext, made, tmp_path).split()
    assert words.count("ord") == sum(number % 60 for number in range(200))
    assert words.count("linje") == 200
    assert words.count("innrykket") == 1
    assert sum(word.count("y") for word in words if set(word) == {"y"}) == 500
    boxes = re.findall(r'xMax="([\d.]+)"', run(pdftotext, "-bbox", tmp_path / "read.pdf", "-"))
    assert max(map(float, boxes)) <= 595 - 50


def test_tabs_and_indents_stay(pdftotext, tmp_path):
    made = text_pages(b"a\n\tb\n      c", title="Tekst")
    said = text_of(pdftotext, made, tmp_path)
    indents = {line.strip(): len(line) - len(line.lstrip()) for line in said.splitlines()}
    assert indents["a"] < indents["c"] <= indents["b"]


def test_threads_do_not_disturb_each_other():
    """One font is shared by all: pages made side by side are those made one after another."""
    contents = [
        ("".join(map(chr, range(33, 33 + 30 * n))) + " ").encode() * 50 for n in range(1, 9)
    ]

    def made(content):
        return text_pages(content, title="Tekst")

    expected = [made(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made, contents * 3)) == expected * 3
