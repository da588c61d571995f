"""The rules of the service's profile that xmlsec1 does not check."""

import contextlib
import re

import bundles
import certificates
import pytest
from bundles import Recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from verdicts import accepted_by_xmlsec1, judged, refusal_of, spoiled_signatures

from posten_signering.sandbox._values.refusal import Refusal


def bundles_that_break_the_profile():
    """Name, recipe, and the reason of the refusal. Their cryptography is correct: xmlsec1 accepts them."""
    yield (
        "no reference to SignedProperties",
        Recipe(properties_reference=False),
        "there are 0 References to elements. Write exactly one, to SignedProperties",
    )
    yield (
        "SignedProperties without its Type",
        Recipe(properties_type="http://example.com/different"),
        "does not name SignedProperties, or has a different Type",
    )
    yield (
        "CertDigest of a different certificate",
        Recipe(cert_digest_of=certificates.other_enterprise()),
        "CertDigest is not the digest of the first certificate",
    )
    yield (
        "serial number of a different certificate",
        Recipe(serial=str(certificates.other_enterprise().certificate.serial_number)),
        "X509SerialNumber is not",
    )
    yield "serial number in hexadecimal", Recipe(serial="0x1f"), "X509SerialNumber is not"
    yield (
        "issuer of a different certificate",
        Recipe(issuer_name="CN=Someone else,C=NO"),
        "X509IssuerName does not name",
    )
    yield (
        "a file that no Reference signs",
        Recipe(unreferenced="0001_document.txt"),
        "0001_document.txt is in the container, but no Reference signs it",
    )
    yield (
        "a file without DataObjectFormat",
        Recipe(without_format="manifest.xml"),
        "there are 2 DataObjectFormat elements for 3 files",
    )
    yield (
        "a file with a different media type",
        Recipe(wrong_mime="0000_document.pdf"),
        "MimeType of 0000_document.pdf is not the expected one. Write application/pdf",
    )
    yield (
        "CertDigest with a different method",
        Recipe(properties=lambda text: text.replace("xmldsig#sha1", "xmldsig#md5")),
        "DigestMethod of CertDigest is not",
    )
    yield (
        "DataObjectFormat with more than MimeType",
        Recipe(
            properties=lambda text: text.replace(
                "<MimeType>", "<Description></Description><MimeType>", 1
            )
        ),
        "does not have MimeType as its only child",
    )
    yield (
        "two DataObjectFormat elements for one file",
        Recipe(properties=lambda text: text.replace("#ID_1", "#ID_0")),
        "two DataObjectFormat elements have the ObjectReference #ID_0",
    )
    yield (
        "DataObjectFormat with an unknown Id",
        Recipe(properties=lambda text: text.replace("#ID_1", "#ID_9")),
        "no DataObjectFormat refers to 0001_document.txt",
    )
    yield (
        "no SigningCertificate",
        Recipe(
            properties=lambda text: text.replace("SigningCertificate>", "SigningCertificateV2>")
        ),
        "SignedSignatureProperties has no SigningCertificate",
    )
    yield (
        "an issuer that is not a name",
        Recipe(issuer_name="nobody"),
        "X509IssuerName does not name",
    )
    yield "a time too early", Recipe(signing_time="2026-03-05T12:29:54Z"), "6.0 s behind"
    yield "a time too late", Recipe(signing_time="2026-03-05T12:30:05.5Z"), "5.5 s ahead of"
    yield "a time without a zone", Recipe(signing_time="2026-03-05T12:30:00"), "no time zone"
    yield "a time that is not a time", Recipe(signing_time="yesterday"), "not an xs:dateTime"
    yield (
        "a day that does not exist",
        Recipe(signing_time="2026-02-30T12:30:00Z"),
        "not an xs:dateTime",
    )


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        pytest.param(recipe, reason, id=name)
        for name, recipe, reason in bundles_that_break_the_profile()
    ],
)
def test_a_bundle_that_breaks_the_profile_is_refused_although_xmlsec1_accepts_it(
    recipe, reason, xmlsec1, tmp_path
):
    assert accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) > 0
    assert reason in refusal_of(recipe).message


def test_two_references_to_the_same_file_are_refused():
    recipe = Recipe(twice_referenced="0000_document.pdf")
    assert "two References name 0000_document.pdf" in refusal_of(recipe).message


def test_a_reference_to_a_file_must_have_no_transform():
    transform = f'<Transforms><Transform Algorithm="{bundles.C14N}"></Transform></Transforms>'
    assert "must have no Transform" in refusal_of(Recipe(file_transform=transform)).message
    with_parameters = transform.replace("></Transform>", "><XPath></XPath></Transform>")
    assert "has parameters" in refusal_of(Recipe(file_transform=with_parameters)).message


def test_the_uri_of_a_reference_may_be_form_url_encoded_or_plain():
    file = bundles.File("leie kontrakt (1).pdf", bundles.pdf(), href="leie+kontrakt+%281%29.pdf")
    for uri in (file.entry, file.href, "leie%20kontrakt%20(1).pdf"):
        bundle = judged(Recipe(files=(file,), uris={file.entry: uri}))
        assert list(bundle.documents.values()) == [file.content]


@pytest.mark.parametrize("form", [bundles.hex_issuer_name, bundles.dotnet_issuer_name])
def test_issuer_names_of_the_official_clients_are_accepted(form):
    issuer_name = form(certificates.enterprise().certificate)
    assert judged(Recipe(issuer_name=issuer_name))
    assert "X509IssuerName" in refusal_of(Recipe(issuer_name=issuer_name[:-1] + "X")).message


@pytest.mark.parametrize(
    ("spelling", "accepted"),
    [
        ("O={}", True),
        ("organizationName =  {} ", True),
        ('O="Prøve, Sertifikat + AS"', True),
        (r"O=Pr\C3\B8ve\2C Sertifikat \2b AS", True),
        (r"O=Pr\f8ve\, Sertifikat \+ AS", False),
        (f"O=#0c17{'Prøve, Sertifikat + AS'.encode().hex()}", True),
        (f"O=#0c8117{'Prøve, Sertifikat + AS'.encode().hex()}", True),
        (f"O=#1e2c{'Prøve, Sertifikat + AS'.encode('utf-16-be').hex()}", True),
        (f"O=#1417{'Prøve, Sertifikat + AS'.encode('latin-1').hex()}", True),
        (f"O=#0a17{'Prøve, Sertifikat + AS'.encode().hex()}", False),
        ("O=#0c", False),
        ('O="Prøve, Sertifikat + AS', False),
        ("={}", False),
        ("{}", False),
        ("O={},", False),
    ],
)
def test_different_spellings_of_a_value_in_an_issuer_name_are_accepted(spelling, accepted):
    attribute = spelling.format(r"Prøve\, Sertifikat \+ AS")
    issuer = f"CN=Mellom CA æøå,2.5.4.97=NTRNO-983163327,C=NO,{attribute}"
    if accepted:
        assert judged(Recipe(issuer_name=issuer))
    else:
        assert "X509IssuerName" in refusal_of(Recipe(issuer_name=issuer)).message


def test_the_signing_time_is_compared_with_the_services_clock():
    assert judged(Recipe(), now=lambda: bundles.later(6.25))
    assert "behind" in refusal_of(Recipe(), now=lambda: bundles.later(6.26)).message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.replace(b"<XAdES", b'<!DOCTYPE a [<!ENTITY b "c">]><XAdES', 1), "DOCTYPE"),
        (lambda x: x.replace(b"<KeyInfo>", b"<?go now?><KeyInfo>"), "processing instruction"),
        (
            lambda x: x.replace(b"<SignedInfo>", b'<SignedInfo xml:lang="no">'),
            "attribute with the prefix xml:",
        ),
        (lambda x: x.replace(bundles.ASIC.encode(), b"urn:x"), "root element is not"),
        (lambda x: x.replace(b"SignatureMethod", b"SignatureMode"), "has no SignatureMethod"),
        (lambda x: x[:-200], "not well-formed"),
        (lambda x: x.replace(b"<Object>", b'<Object xmlns:r="a/b">'), "has no canonical form"),
        (lambda x: x.replace(b"<KeyInfo>", b"<KeyInfo/><KeyInfo>"), "more than one KeyInfo"),
        (lambda x: x.replace(b"rsa-sha256", b"rsa-sha1"), "SignatureMethod is not allowed"),
        (lambda x: x.replace(b"xmlenc#sha256", b"xmlenc#sha512"), "DigestMethod of the Reference"),
        (lambda x: x.replace(b"<SignatureValue>", b"<SignatureValue>!"), "not base64"),
        (lambda x: x.replace(b"<X509Certificate>", b"<X509Certificate>AAAA"), "can't be read"),
        (lambda x: x.replace(b"X509Data", b"X510Data"), "KeyInfo has no X509Certificate"),
        (lambda x: x.replace(b"xmldsig#sha1", b"xmldsig#md5"), "digest of #SignedProperties"),
        (lambda x: x.replace(b'Target="#Signature"', b'Target="#Other"'), "Target"),
        (lambda x: x.replace(b'Id="SignedProperties"', b'Id="Other"'), "no element has the Id"),
        (
            lambda x: x.replace(b"<Object>", b'<Object Id="SignedProperties">'),
            "several elements have the Id",
        ),
        (
            lambda x: x.replace(b'URI="manifest.xml">', b">"),
            "a Reference has no URI",
        ),
    ],
)
def test_an_invalid_signature_file_is_refused(change, reason):
    assert reason in refusal_of(spoiled_signatures(change)).message


@pytest.mark.parametrize("where", ["between elements", "inside a digest"])
def test_comments_in_the_signature_file_are_ignored(where, xmlsec1, tmp_path):
    """C14N without comments drops them, also inside a digest."""
    recipe = spoiled_signatures(
        (lambda x: x.replace(b"<SignatureMethod", b"<!-- here --><SignatureMethod"))
        if where == "between elements"
        else (lambda x: re.sub(rb"(<DigestValue>.{5})", rb"\1<!-- here -->", x, count=1))
    )
    if where == "between elements":
        assert accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) == 4
    assert judged(recipe)


SIGNATURE_FILE = dict(bundles.entries(Recipe()))["META-INF/signatures.xml"]


@settings(max_examples=150)
@given(st.data())
def test_a_signature_file_with_a_changed_byte_is_refused_or_means_the_same(data):
    """No other exception is raised, whichever byte changes, also inside the certificates."""
    changed = bytearray(SIGNATURE_FILE)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] = data.draw(st.sampled_from(b'AZaz09+/<>="& \n#\xff'))
    with contextlib.suppress(Refusal):
        bundle = judged(Recipe(signatures=bytes(changed)))
        assert bundle.certificates[0] == certificates.enterprise().certificate
        assert bundle.signing_time.isoformat() == "2026-03-05T13:30:01.250000+01:00"


@settings(max_examples=150)
@given(st.data())
def test_a_certificate_with_changed_bytes_is_refused(data):
    der = bytearray(certificates.enterprise().der)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    original = bundles.b64(certificates.enterprise().der).encode()
    signatures = SIGNATURE_FILE.replace(original, bundles.b64(bytes(der)).encode())
    if bytes(der) != certificates.enterprise().der:
        refusal_of(Recipe(signatures=signatures))
