"""XML signatures of other kinds than the service's: their algorithms, and too many of them."""

import base64

import pki
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from posten_signering._cli.inspection.report import cleaned
from posten_signering._cli.inspection.signatures import inspect_xml
from posten_signering._cli.inspection.xml import canonical, parse
from posten_signering.errors import ConfigurationError

DS = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
ECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"


def signed_by_elliptic_curve(*, references: str = "", time: str = "") -> bytes:
    issued = pki.issue(pki.subject("Signer"), key=ec.generate_private_key(ec.SECP256R1()))
    info = (
        f'<SignedInfo xmlns="{DS}"><CanonicalizationMethod Algorithm="{C14N}"/>'
        f'<SignatureMethod Algorithm="{ECDSA}"/>{references}</SignedInfo>'
    )
    content = canonical(parse(info.encode(), name="x"), C14N)
    numbers = decode_dss_signature(issued.key.sign(content, ec.ECDSA(hashes.SHA256())))
    value = base64.b64encode(b"".join(number.to_bytes(32, "big") for number in numbers)).decode()
    certificate = base64.b64encode(issued.der).decode()
    return (
        f'<Signature xmlns="{DS}">{info}<SignatureValue>{value}</SignatureValue><KeyInfo><X509Data>'
        f"<X509Certificate>{certificate}</X509Certificate></X509Data></KeyInfo>{time}</Signature>"
    ).encode()


def reference(uri: str, digest: str = "AAAA", transforms: str = "") -> str:
    return (
        f'<Reference URI="{uri}">{transforms}<DigestMethod Algorithm="{SHA256}"/>'
        f"<DigestValue>{digest}</DigestValue></Reference>"
    )


def test_a_signature_with_an_elliptic_curve_is_verified():
    report = inspect_xml(signed_by_elliptic_curve(references=reference("file.pdf")))
    assert report.good
    changed = signed_by_elliptic_curve(references=reference("file.pdf")).replace(b"file", b"fill")
    assert not inspect_xml(changed).good


def test_a_signature_of_a_different_kind_than_the_key_is_not_good():
    content = signed_by_elliptic_curve(references=reference("file.pdf"))
    [section] = inspect_xml(content.replace(b"ecdsa-sha256", b"rsa-sha256")).sections
    assert section.rows[0].value == "not made by the key of the certificate, or changed afterwards"


def test_a_signature_that_covers_nothing_is_not_good():
    [section] = inspect_xml(signed_by_elliptic_curve()).sections
    assert section.rows[-1].value == "nothing"
    assert section.rows[-1].good is False


@pytest.mark.parametrize(
    "transforms",
    ["", "<Transforms><Transform Algorithm='a'/><Transform Algorithm='b'/></Transforms>"],
)
def test_a_reference_to_an_element_without_a_single_transform(transforms):
    """Without a transform, the canonical form is the default one."""
    content = signed_by_elliptic_curve(
        references=reference("#info", transforms=transforms), time='<Object Id="info"/>'
    )
    [section] = inspect_xml(content).sections
    expected = "not checked" if transforms else "changed after it was signed"
    assert section.rows[-1].value.startswith(expected)


def test_a_reference_to_the_whole_file_is_not_checked():
    [section] = inspect_xml(signed_by_elliptic_curve(references=reference(""))).sections
    assert section.rows[-1].name == "covers the whole file"
    assert section.rows[-1].good is False


@pytest.mark.parametrize(
    ("version", "digest", "expected"),
    [
        ("SigningCertificate", "sha1", False),
        ("SigningCertificate", "md5", False),
        ("Other", "sha1", None),
    ],
)
def test_the_certificate_that_the_properties_name(version, digest, expected):
    properties = (
        '<Object><q:QualifyingProperties xmlns:q="http://uri.etsi.org/01903/v1.3.2#"><q:SignedProperties>'
        "<q:SignedSignatureProperties><q:SigningTime>2026-01-01T00:00:00</q:SigningTime>"
        f'<q:{version}><q:Cert><q:CertDigest><DigestMethod Algorithm="{DS}{digest}"/>'
        f"<DigestValue>AAAA</DigestValue></q:CertDigest></q:Cert></q:{version}>"
        "</q:SignedSignatureProperties></q:SignedProperties></q:QualifyingProperties></Object>"
    )
    [section] = inspect_xml(signed_by_elliptic_curve(time=properties)).sections
    rows = {row.name: row for row in section.rows}
    assert (rows["certificate digest"].good if expected is not None else None) is expected
    assert ("certificate digest" in rows) is (expected is not None)
    # Without a time zone, the time can't be compared.
    assert "certificate at that time" not in rows


def test_a_file_without_a_signature_is_not_good():
    report = inspect_xml(b"<some/>")
    assert not report.good
    assert report.kind == "an XML file without a signature, with the root element some"


CERTIFICATE = f"<X509Certificate>{base64.b64encode(pki.root().der).decode()}</X509Certificate>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"<a>{f'<Signature xmlns={DS!r}/>' * 11}</a>", "11 signatures"),
        (
            f"<Signature xmlns={DS!r}><SignedInfo>{reference('#a') * 6}</SignedInfo></Signature>",
            "6 references to elements",
        ),
        (
            f"<Signature xmlns={DS!r}><KeyInfo><X509Data>{CERTIFICATE * 21}</X509Data></KeyInfo></Signature>",
            "21 certificates",
        ),
    ],
)
def test_more_than_can_be_checked_in_a_short_time_is_refused(content, words):
    with pytest.raises(ConfigurationError, match=words):
        inspect_xml(content.encode())


def test_a_long_text_is_cut_and_control_characters_are_left_out():
    assert cleaned("a\x1b[31m\n\tb\u202e") == "a[31m b"
    assert cleaned("x" * 1000) == "x" * 400 + "…"
    digest = "0123456789012345678901234567890123456789012345678901234567890123"
    assert cleaned(digest) == digest
