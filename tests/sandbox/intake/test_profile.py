"""What xmlsec1 does not look at, and the service's profile asks for."""

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


def against_the_profile():
    """What breaks the profile although the cryptography is right: xmlsec1 accepts each of these."""
    yield (
        "no reference to SignedProperties",
        Recipe(properties_reference=False),
        "exactly one Reference is expected, to SignedProperties; there are 0",
    )
    yield (
        "SignedProperties without its Type",
        Recipe(properties_type="http://example.com/else"),
        "must be to SignedProperties, with the Type",
    )
    yield (
        "CertDigest of another certificate",
        Recipe(cert_digest_of=certificates.other_enterprise()),
        "CertDigest is not that of the first certificate",
    )
    yield (
        "serial number of another certificate",
        Recipe(serial=str(certificates.other_enterprise().certificate.serial_number)),
        "X509SerialNumber is not",
    )
    yield "serial number in hexadecimal", Recipe(serial="0x1f"), "X509SerialNumber is not"
    yield (
        "issuer of another certificate",
        Recipe(issuer_name="CN=Someone else,C=NO"),
        "X509IssuerName does not name",
    )
    yield (
        "a file that nothing signs",
        Recipe(unreferenced="0001_document.txt"),
        "0001_document.txt is in the container, but no Reference signs it",
    )
    yield (
        "a file without DataObjectFormat",
        Recipe(without_format="manifest.xml"),
        "3 files need as many DataObjectFormat elements; there are 2",
    )
    yield (
        "a file with another media type",
        Recipe(wrong_mime="0000_document.pdf"),
        "MimeType of 0000_document.pdf differs",
    )
    yield (
        "CertDigest by another method",
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
        "must hold MimeType, and that only",
    )
    yield (
        "two DataObjectFormat elements of one file",
        Recipe(properties=lambda text: text.replace("#ID_1", "#ID_0")),
        "two DataObjectFormat elements are about #ID_0",
    )
    yield (
        "DataObjectFormat of something else",
        Recipe(properties=lambda text: text.replace("#ID_1", "#ID_9")),
        "no DataObjectFormat is about 0001_document.txt",
    )
    yield (
        "no SigningCertificate",
        Recipe(
            properties=lambda text: text.replace("SigningCertificate>", "SigningCertificateV2>")
        ),
        "SignedSignatureProperties lacks SigningCertificate",
    )
    yield "an issuer that is no name", Recipe(issuer_name="nobody"), "X509IssuerName does not name"
    yield "a time too early", Recipe(signing_time="2026-03-05T12:29:54Z"), "6.0 s behind"
    yield "a time too late", Recipe(signing_time="2026-03-05T12:30:05.5Z"), "5.5 s ahead of"
    yield "a time without a zone", Recipe(signing_time="2026-03-05T12:30:00"), "no time zone"
    yield "a time that is none", Recipe(signing_time="yesterday"), "not an xs:dateTime"
    yield "a day that is none", Recipe(signing_time="2026-02-30T12:30:00Z"), "not an xs:dateTime"


@pytest.mark.parametrize(
    ("recipe", "said"), [pytest.param(*rest, id=name) for name, *rest in against_the_profile()]
)
def test_what_breaks_the_profile_is_refused_although_xmlsec1_accepts_it(
    recipe, said, xmlsec1, tmp_path
):
    assert accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) > 0
    assert said in refusal_of(recipe).message


def test_a_file_referenced_twice_is_refused():
    recipe = Recipe(twice_referenced="0000_document.pdf")
    assert "two References name 0000_document.pdf" in refusal_of(recipe).message


def test_a_file_may_have_no_transform():
    transform = f'<Transforms><Transform Algorithm="{bundles.C14N}"></Transform></Transforms>'
    assert "must have no Transform" in refusal_of(Recipe(file_transform=transform)).message
    with_parameters = transform.replace("></Transform>", "><XPath></XPath></Transform>")
    assert "has parameters" in refusal_of(Recipe(file_transform=with_parameters)).message


def test_names_are_form_url_encoded_or_plain():
    file = bundles.File("leie kontrakt (1).pdf", bundles.pdf(), href="leie+kontrakt+%281%29.pdf")
    for uri in (file.entry, file.href, "leie%20kontrakt%20(1).pdf"):
        bundle = judged(Recipe(files=(file,), uris={file.entry: uri}))
        assert list(bundle.documents.values()) == [file.content]


@pytest.mark.parametrize("form", [bundles.hex_issuer_name, bundles.dotnet_issuer_name])
def test_issuer_names_of_the_official_clients_are_taken(form):
    named = form(certificates.enterprise().certificate)
    assert judged(Recipe(issuer_name=named))
    assert "X509IssuerName" in refusal_of(Recipe(issuer_name=named[:-1] + "X")).message


@pytest.mark.parametrize(
    ("spelled", "named"),
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
def test_values_of_an_issuer_name_may_be_written_in_many_ways(spelled, named):
    attribute = spelled.format(r"Prøve\, Sertifikat \+ AS")
    issuer = f"CN=Mellom CA æøå,2.5.4.97=NTRNO-983163327,C=NO,{attribute}"
    if named:
        assert judged(Recipe(issuer_name=issuer))
    else:
        assert "X509IssuerName" in refusal_of(Recipe(issuer_name=issuer)).message


def test_the_signing_time_is_compared_with_the_services_clock():
    assert judged(Recipe(), now=lambda: bundles.later(6.25))
    assert "behind" in refusal_of(Recipe(), now=lambda: bundles.later(6.26)).message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.replace(b"<XAdES", b'<!DOCTYPE a [<!ENTITY b "c">]><XAdES', 1), "DOCTYPE"),
        (lambda x: x.replace(b"<KeyInfo>", b"<?go now?><KeyInfo>"), "processing instruction"),
        (lambda x: x.replace(b"<SignedInfo>", b'<SignedInfo xml:lang="no">'), "attribute xml:"),
        (lambda x: x.replace(bundles.ASIC.encode(), b"urn:x"), "root element is not"),
        (lambda x: x.replace(b"SignatureMethod", b"SignatureMode"), "lacks SignatureMethod"),
        (lambda x: x[:-200], "not well-formed"),
        (lambda x: x.replace(b"<Object>", b'<Object xmlns:r="a/b">'), "has no canonical form"),
        (lambda x: x.replace(b"<KeyInfo>", b"<KeyInfo/><KeyInfo>"), "more than one KeyInfo"),
        (lambda x: x.replace(b"rsa-sha256", b"rsa-sha1"), "SignatureMethod is not"),
        (lambda x: x.replace(b"xmlenc#sha256", b"xmlenc#sha512"), "DigestMethod of the Reference"),
        (lambda x: x.replace(b"<SignatureValue>", b"<SignatureValue>!"), "not base64"),
        (lambda x: x.replace(b"<X509Certificate>", b"<X509Certificate>AAAA"), "can't be read"),
        (lambda x: x.replace(b"X509Data", b"X510Data"), "holds no X509Certificate"),
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
def test_a_signature_file_that_is_not_one_is_refused(change, said):
    assert said in refusal_of(spoiled_signatures(change)).message


@pytest.mark.parametrize("where", ["between elements", "inside a digest"])
def test_comments_change_nothing(where, xmlsec1, tmp_path):
    """C14N without comments leaves them out, and a digest is read past them."""
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
def test_a_changed_signature_file_is_refused_or_means_the_same(data):
    """A character changed anywhere in it, certificates included, raises nothing but a refusal."""
    changed = bytearray(SIGNATURE_FILE)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] = data.draw(st.sampled_from(b'AZaz09+/<>="& \n#\xff'))
    with contextlib.suppress(Refusal):
        bundle = judged(Recipe(signatures=bytes(changed)))
        assert bundle.certificates[0] == certificates.enterprise().certificate
        assert bundle.signing_time.isoformat() == "2026-03-05T13:30:01.250000+01:00"


@settings(max_examples=150)
@given(st.data())
def test_a_certificate_that_is_rubbish_is_refused(data):
    der = bytearray(certificates.enterprise().der)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    original = bundles.b64(certificates.enterprise().der).encode()
    signatures = SIGNATURE_FILE.replace(original, bundles.b64(bytes(der)).encode())
    if bytes(der) != certificates.enterprise().der:
        refusal_of(Recipe(signatures=signatures))
