"""The signed documents that the sandbox makes, judged by pdfsig, pyHanko and xmlsec1."""

import io
import re
import subprocess
from datetime import date

import bundles
import certificates
import pytest
from bundles import NOW, PERSON
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject
from signing import document, flipped, pades, pdfsig_says, signatory, signing_key, text, text_of

from posten_signering.sandbox._signed.front_page import date_of_birth, shown_identity
from posten_signering.sandbox._signed.signed_documents import make_xades


def test_pdfsig_finds_one_valid_signature_over_the_whole_file(pdfsig, tmp_path):
    said = pdfsig_says(pdfsig, pades(), tmp_path)
    assert said.count("Signature Validation: Signature is Valid.") == 1
    assert "Signature #2" not in said
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said
    assert "SHA-256" in said
    assert "984661185" in said


def test_pdfsig_finds_a_changed_byte(pdfsig, tmp_path):
    content = pades()
    for mark in (b"A lease p1", b"/Reason"):
        said = pdfsig_says(pdfsig, flipped(content, content.index(mark) + 4), tmp_path)
        assert "Signature is Valid." not in said


def test_pyhanko_trusts_the_seal_under_the_root_and_states_the_time():
    def judged(content, *roots):
        trusted = [
            found
            for holder in roots
            for found in load_certs_from_pemder_data(holder.certificate.public_bytes(Encoding.DER))
        ]
        context = ValidationContext(trust_roots=trusted, moment=NOW, allow_fetching=False)
        [signature] = PdfFileReader(io.BytesIO(content)).embedded_signatures
        return validate_pdf_signature(signature, context)

    content = pades()
    status = judged(content, certificates.root())
    assert (status.intact, status.valid, status.trusted) == (True, True, True)
    assert status.signer_reported_dt == bundles.later(60)
    assert status.coverage.name == "ENTIRE_FILE"
    stranger = certificates.issue(
        certificates.name("Fremmed"), None, certificates.rsa_key(8), ca=True
    )
    assert not judged(content, stranger).trusted
    assert not judged(flipped(content, content.index(b"A lease p1")), certificates.root()).intact


def test_front_page_first_then_every_page_of_every_document(pdftotext, tmp_path):
    content = pades(
        document(bundles.pdf("Kontrakt", pages=3)),
        text("Husleie på ettersommeren.\fNeste side"),
        document(bundles.pdf("Vedlegg"), name="0002_document.pdf", title="Vedlegg"),
        signatories=[
            signatory(),
            signatory(
                name="Øystein Ærlig Åsen",
                personal_identification_number=None,
                signature_type=None,
                on_behalf_of="OTHER",
            ),
        ],
    )
    pages = text_of(pdftotext, content, tmp_path).split("\f")[:-1]
    assert len(pages) == 7
    front = pages[0]
    for said in (
        "Leie av bolig",
        "Vær så god",
        "organisation 999 888 777",
        "Leiekontrakt",
        "PDF, 3 pages",
        "Text, 2 pages",
        "PDF, 1 page",
        "Kari Nordmann",
        f"National identity number {PERSON[:6]} {PERSON[6:]}",
        "Signed 2026-03-05 at 12:30:00 UTC",
        "Advanced electronic signature",
        "Øystein Ærlig Åsen",
        "on behalf of another",
        "no legal effect",
    ):
        assert said in front
    found = [page.strip() for page in pages[1:]]
    assert found[:3] == ["Kontrakt p1", "Kontrakt p2", "Kontrakt p3"]
    assert "Husleie på ettersommeren." in found[3]
    assert "Neste side" in found[4]
    assert found[5] == "Vedlegg p1"


def test_what_a_line_cant_carry_shows_no_box_on_the_front_page(pdftotext, tmp_path):
    content = pades(title="Leie\u200bkontrakt", description="Vær\r\nså\tgod & <b>vel</b>")
    front = text_of(pdftotext, content, tmp_path)
    assert "Leiekontrakt" in front
    assert "Vær så god & <b>vel</b>" in front


def test_every_page_is_a4_portrait():
    writer = PdfWriter(io.BytesIO(bundles.pdf()))
    writer.pages[0].mediabox = RectangleObject((0, 0, 1000, 500))
    landscape = io.BytesIO()
    writer.write(landscape)
    pages = PdfReader(io.BytesIO(pades(document(landscape.getvalue()), text("Vilkår")))).pages
    sizes = [(round(page.mediabox.width), round(page.mediabox.height)) for page in pages]
    assert sizes == [(595, 842)] * 3


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


def test_reprs_show_no_one():
    shown = repr((signatory(), document(bundles.pdf()), signing_key(certificates.enterprise())))
    for secret in (PERSON, "Kari", "Leiekontrakt", "%PDF", "RSAPrivateKey"):
        assert secret not in shown


# --- XAdES


def verified_by_xmlsec1(program, folder, content, documents):
    for one in documents:
        (folder / one.name).write_bytes(one.content)
    (folder / "signature.xml").write_bytes(content)
    (folder / "root.pem").write_bytes(certificates.root().certificate.public_bytes(Encoding.PEM))
    done = subprocess.run(
        [
            program,
            "--verify",
            "--trusted-pem",
            "root.pem",
            "--id-attr:Id",
            "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
            "signature.xml",
        ],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    counted = f"SignedInfo References (ok/all): {len(documents) + 1}/{len(documents) + 1}"
    return done.returncode == 0 and counted in done.stdout + done.stderr


def test_xmlsec1_verifies_a_signers_xades_beside_the_documents(xmlsec1, tmp_path):
    documents = [document(bundles.pdf()), text("Vilkår", name="vilkår og (mer).txt")]
    signer = signing_key(certificates.enterprise())
    content = make_xades(documents=documents, signer=signer, signed_at=NOW)
    assert verified_by_xmlsec1(xmlsec1, tmp_path, content, documents)
    assert b"<xades:SigningTime>2026-03-05T12:30:00Z</xades:SigningTime>" in content

    spoiled = [documents[0], text("Vilkaar", name="vilkår og (mer).txt")]
    assert not verified_by_xmlsec1(xmlsec1, tmp_path, content, spoiled)
    later = content.replace(b"12:30:00Z", b"12:30:01Z")
    assert not verified_by_xmlsec1(xmlsec1, tmp_path, later, documents)
