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

from posten_signering.sandbox._documents.text_pages import text_pages
from posten_signering.sandbox._signed.front_page import date_of_birth, shown_identity


def test_invisible_characters_show_no_box_on_the_front_page(pdftotext, tmp_path):
    content = pades(title="Leie\u200bkontrakt", description="Vær\r\nså\tgod & <b>vel</b>")
    front = text_of(pdftotext, content, tmp_path)
    assert "Leiekontrakt" in front
    assert "Vær så god & <b>vel</b>" in front


def test_a_long_front_page_continues_on_more_pages(pdfsig, pdftotext, tmp_path):
    documents = [
        document(bundles.pdf(), name=f"{number}.pdf", title=f"Dokument {number} " + "Ø" * 65)
        for number in range(20)
    ]
    signatories = [signatory(name=f"Signatar {number} " + "Å" * 60) for number in range(10)]
    content = pades(*documents, title="W" * 80, description="Æ " * 110, signatories=signatories)
    assert "Signature is Valid." in pdfsig_says(pdfsig, content, tmp_path)
    page_text = text_of(pdftotext, content, tmp_path)
    assert all(re.search(rf"Dokument {number}\s", page_text) for number in range(20))
    assert all(re.search(rf"Signatar {number}\s", page_text) for number in range(10))


@settings(max_examples=10)
# A message of the service can't contain control characters (XML 1.0, section 2.2).
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=80),
    st.text(max_size=220),
)
def test_any_title_and_description_can_be_on_a_front_page(title, description):
    encodable = description.encode("utf-8", "ignore").decode()
    content = pades(title=title, description=encodable, signatories=[signatory(name=title)])
    assert PdfReader(io.BytesIO(content)).metadata.title == title


# --- How signers are identified


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        (None, f"National identity number {PERSON[:6]} {PERSON[6:]}"),
        ("PERSONAL_IDENTIFICATION_NUMBER_AND_NAME", "National identity number 018170 99921"),
        ("DATE_OF_BIRTH_AND_NAME", "Born 1970-01-01"),
        ("NAME", None),
    ],
)
def test_signers_are_identified_as_the_manifest_requires(identifier, shown):
    assert shown_identity(signatory().signer, identifier) == shown
    without_number = signatory(personal_identification_number=None)
    assert shown_identity(without_number.signer, identifier) is None


def test_the_front_page_shows_only_the_required_identifier(pdftotext, tmp_path):
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


def test_a_number_without_a_date_of_birth_shows_no_date():
    no_date = signatory(personal_identification_number="99999999999")
    assert shown_identity(no_date.signer, "DATE_OF_BIRTH_AND_NAME") is None


# --- Text documents


@settings(max_examples=20)
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.text(max_size=90))
def test_any_text_can_become_pages(content, title):
    encodable = title.encode("utf-8", "ignore").decode()
    pdf = text_pages(content.encode(), title=encodable)
    assert len(PdfReader(io.BytesIO(pdf)).pages) >= 1


def test_no_line_of_a_text_is_lost_or_runs_off_the_page(pdftotext, tmp_path):
    lines = [f"linje {number} " + "ord " * (number % 60) for number in range(200)]
    lines += ["y" * 500, " " * 500 + "innrykket"]
    pdf = text_pages("\r\n".join(lines).encode("utf-8-sig"), title="Tekst")
    words = text_of(pdftotext, pdf, tmp_path).split()
    assert words.count("ord") == sum(number % 60 for number in range(200))
    assert words.count("linje") == 200
    assert words.count("innrykket") == 1
    assert sum(word.count("y") for word in words if set(word) == {"y"}) == 500
    boxes = re.findall(r'xMax="([\d.]+)"', run(pdftotext, "-bbox", tmp_path / "read.pdf", "-"))
    assert max(map(float, boxes)) <= 595 - 50


def test_tabs_and_indents_are_kept(pdftotext, tmp_path):
    pdf = text_pages(b"a\n\tb\n      c", title="Tekst")
    page_text = text_of(pdftotext, pdf, tmp_path)
    indents = {line.strip(): len(line) - len(line.lstrip()) for line in page_text.splitlines()}
    assert indents["a"] < indents["c"] <= indents["b"]


def test_threads_can_create_pages_concurrently():
    """Threads share one font. The pages are the same as when one thread creates them."""
    contents = [
        ("".join(map(chr, range(33, 33 + 30 * n))) + " ").encode() * 50 for n in range(1, 9)
    ]

    def pdf_of(content):
        return text_pages(content, title="Tekst")

    expected = [pdf_of(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pdf_of, contents * 3)) == expected * 3
