"""Containers and signatures, verified by other programs; and issuer names, read by other programs."""

import base64
import itertools
from datetime import UTC, datetime, timedelta, timezone

import pki
import pytest
import verify_bundle
from containers import (
    NOW,
    ONE,
    SEVERAL,
    bundle,
    chain,
    digest,
    issuing,
    leaf,
    name,
    sign,
    text,
    tree,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree
from verify_bundle import NAMESPACES, parse_name, verify

from posten_signering._container.compression import Compression
from posten_signering._container.layout import SignedFile
from posten_signering._container.xades import SigningCertificate, issuer_name, signatures_xml
from posten_signering._values.job import Document

pytestmark = pytest.mark.usefixtures("xmlsec1", "openssl")


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("documents", [ONE, SEVERAL, ONE * 20])
def test_the_verifier_accepts_the_container(tmp_path, documents, compression):
    content = bundle(documents, compression=compression)
    verify(content, root_pem=pki.root().pem, tmp_path=tmp_path)


def test_documents_from_files_make_the_same_container(tmp_path):
    documents = []
    for index, document in enumerate(SEVERAL):
        path = tmp_path / str(index)
        path.write_bytes(document.content)
        documents.append(Document(title=document.title, content=path, type=document.type))
    content = bundle(documents)
    assert content == bundle()
    verify(content, root_pem=pki.root().pem, tmp_path=tmp_path)


def test_a_chain_without_its_root_is_accepted(tmp_path):
    verify(bundle(certificates=chain()[:2]), root_pem=pki.root().pem, tmp_path=tmp_path)


def test_a_leaf_alone_is_accepted_if_the_verifier_has_the_intermediate(tmp_path):
    content = bundle(certificates=chain()[:1])
    verify(content, root_pem=pki.root().pem, intermediates_pem=(issuing().pem,), tmp_path=tmp_path)
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        verify(content, root_pem=pki.root().pem, tmp_path=tmp_path)


def test_the_signature_includes_the_whole_chain_with_the_leaf_first():
    included = [
        x509.load_der_x509_certificate(base64.b64decode(element.text))
        for element in tree(bundle()).iterfind(".//ds:X509Certificate", NAMESPACES)
    ]
    assert included == chain()


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (datetime(2026, 1, 31, 12, 0, 0, 123999, UTC), "2026-01-31T12:00:00.123Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 0, UTC), "2026-01-31T12:00:00.000Z"),
        (
            datetime(2026, 7, 31, 0, 30, 0, 0, timezone(timedelta(hours=2))),
            "2026-07-30T22:30:00.000Z",
        ),
    ],
)
def test_the_signing_time_is_written_in_utc_with_milliseconds(at, written):
    assert tree(bundle(at=at)).findtext(".//xades:SigningTime", None, NAMESPACES) == (written)


def test_the_signature_is_the_same_on_every_run():
    assert bundle() == bundle()


def signed(files, certificate):
    """What is signed, and the document with the signature."""
    signed = []

    def recording_sign(content: bytes) -> bytes:
        signed.append(content)
        return sign(content)

    document = signatures_xml(files, NOW, certificate=certificate, sign=recording_sign)
    [signed_info] = signed
    return signed_info, document


def canonical(document: bytes, name: str) -> bytes:
    """The canonical form of an element, by libxml2. Its ancestors would make lxml add a wrong xmlns=""."""
    element = etree.fromstring(document).find(f".//{name}", NAMESPACES)
    copy = etree.fromstring(etree.tostring(element, with_tail=False))
    return etree.tostring(copy, method="c14n")


def test_the_beginnings_of_the_document_and_of_what_is_signed():
    file = SignedFile(name="manifest.xml", mime="application/xml", sha256=digest(b""))
    signed_info, document = signed([file], SigningCertificate.of_chain(chain()))
    assert b'xmlns=""' not in document
    start = f'<SignedInfo xmlns="{NAMESPACES["ds"]}"><CanonicalizationMethod Algorithm='
    assert signed_info.startswith(start.encode())
    assert document.startswith(b"<?xml version='1.0' encoding='UTF-8' standalone='no'?>\n")


# The issuer's name.


def test_the_name_is_written_as_in_the_official_java_client():
    # Java's X500Principal.getName(), in the format of RFC 2253.
    assert issuer_name(leaf().certificate) == (
        r"CN=\ \#Test utsteder\ ,"
        r"O=Ærlig\, Øl \+ Ås \"AS\" \<\\\;\=\#,"
        "2.5.4.97=#0c0f" + b"NTRNO-983163327".hex() + ","
        "C=NO"
    )


def issued_by(subject: x509.Name) -> x509.Certificate:
    return pki.issue(subject, ca=True, key=pki.rsa_key("named")).certificate


def name_read_by_openssl(certificate: x509.Certificate, folder) -> list:
    path = folder / "certificate.der"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return parse_name(verify_bundle.x509(path, "-issuer"))


KEYWORDS = [
    NameOID.COMMON_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.STREET_ADDRESS,
    NameOID.USER_ID,
]
OTHERS = [
    NameOID.ORGANIZATION_IDENTIFIER,
    NameOID.TITLE,
    x509.ObjectIdentifier("2.999.1234567.1"),
    x509.ObjectIdentifier("0.9.2342.19200300.100.1.44"),
]
characters = st.one_of(
    st.sampled_from(" #,+\"\\<>;=æøåÆØÅ'/\t\r\n\x01\x7f"),
    st.characters(exclude_categories=["Cs"]),
)
# The limit of a common name is 64 octets.
values = st.text(characters, min_size=1, max_size=16)


def parts_of(oids):
    attribute = st.builds(x509.NameAttribute, st.sampled_from(oids), values)
    part = st.lists(attribute, min_size=1, max_size=3, unique_by=lambda item: item.oid)
    return st.lists(part, min_size=1, max_size=4).map(lambda parts: name(*parts))


@settings(max_examples=60)
@given(parts_of(KEYWORDS + OTHERS))
@example(name())
@example(name(text(NameOID.COMMON_NAME, " ")))
@example(name(text(NameOID.COMMON_NAME, "   ")))
@example(name(text(NameOID.COMMON_NAME, " # ")))
@example(name(text(NameOID.COMMON_NAME, "a\r")))
@example(name(text(NameOID.ORGANIZATION_NAME, "\ufffe\uffff")))
@example(name(text(NameOID.ORGANIZATION_IDENTIFIER, "x" * 300)))
@example(name(text(NameOID.LOCALITY_NAME, "x", _type=_ASN1Type.PrintableString)))
@example(name(text(NameOID.LOCALITY_NAME, "Ås", _type=_ASN1Type.BMPString)))
@example(name(text(NameOID.LOCALITY_NAME, "x", _type=_ASN1Type.T61String)))
@example(name(text(NameOID.SERIAL_NUMBER, "983163327")))
@example(name(text(NameOID.DOMAIN_COMPONENT, "example")))
@example(name(text(NameOID.EMAIL_ADDRESS, "post@example.org")))
def test_every_issuer_name_is_read_back_as_openssl_reads_it(tmp_path_factory, issuer):
    certificate = issued_by(issuer)
    written = issuer_name(certificate)
    assert parse_name(written) == name_read_by_openssl(certificate, tmp_path_factory.mktemp("name"))
    # The name does not change in XML.
    element = etree.Element("X509IssuerName")
    element.text = written
    assert etree.fromstring(etree.tostring(element, method="c14n")).text == (written or None)


@settings(max_examples=100)
@given(parts_of(KEYWORDS))
def test_an_issuer_name_of_types_with_keywords_is_read_back_by_cryptography(issuer):
    written = issuer_name(issued_by(issuer))

    def comparable(read):
        return [
            sorted((attribute.oid.dotted_string, attribute.value) for attribute in rdn)
            for rdn in read.rdns
        ]

    assert comparable(x509.Name.from_rfc4514_string(written)) == comparable(issuer)


def test_a_value_that_is_not_utf_8_is_written_as_its_der():
    marker = "zzzzzzzz"
    der = issued_by(name(text(NameOID.COMMON_NAME, marker))).public_bytes(
        serialization.Encoding.DER
    )
    # The broken value has the same length, so the DER stays valid.
    broken = der.replace(marker.encode(), b"\xff" * len(marker))
    certificate = x509.load_der_x509_certificate(broken)
    assert issuer_name(certificate) == "CN=#0c08" + "ff" * len(marker)


xml_text = st.text(
    st.one_of(
        st.sampled_from("&<>\"'\r\n\t \x85\u2028"),
        st.characters(
            min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
        ),
    ),
    max_size=16,
)


@settings(max_examples=100)
@given(parts_of(KEYWORDS), st.lists(st.tuples(xml_text, xml_text), max_size=3))
@example(
    name(text(NameOID.COMMON_NAME, "&<>\"'\r\n\t\x85\u2028Å\U0001d54a]]>")),
    [("&<>\"'\r\n\t", "&<>\"'\r\n\t")],
)
def test_what_is_digested_and_signed_is_the_canonical_form_in_the_document(issuer, files):
    """lxml is the judge. It parses the document, and makes the canonical form of both parts."""
    certificate = issued_by(issuer)
    signed_info, document = signed(
        [SignedFile(name=uri, mime=mime, sha256=digest(b"")) for uri, mime in files],
        SigningCertificate.of_chain([certificate]),
    )
    assert signed_info == canonical(document, "ds:SignedInfo")
    read = etree.fromstring(document)
    [*references, of_properties] = read.iterfind(".//ds:Reference", NAMESPACES)
    properties_digest = of_properties.findtext("ds:DigestValue", None, NAMESPACES)
    properties = canonical(document, "xades:SignedProperties")
    assert base64.b64decode(properties_digest) == digest(properties)
    # The document has the values unchanged.
    mimes = read.iterfind(".//xades:MimeType", NAMESPACES)
    assert [
        (reference.get("URI"), mime.text or "")
        for reference, mime in zip(references, mimes, strict=True)
    ] == files
    assert read.findtext(".//ds:X509IssuerName", None, NAMESPACES) == issuer_name(certificate)


def test_the_test_parser_distinguishes_different_names():
    names = [r"CN=a\,b", "CN=a,OU=b", "CN=a+OU=b", r"CN=a\+b", "CN=a b", r"CN=a\ ", "CN=a"]
    for one, other in itertools.combinations(names, 2):
        assert parse_name(one) != parse_name(other)
