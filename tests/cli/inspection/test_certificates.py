"""`inspect` of certificates and PKCS#12 files."""

from datetime import timedelta

import certifi
import certificates
import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
from cryptography.x509.oid import NameOID

from posten_signering import Environment, Secret, TrustAnchors
from posten_signering._cli.inspection.certificates import (
    inspect_certificates,
    inspect_pkcs12,
    key_uses,
)
from posten_signering.errors import ConfigurationError

NAME = pki.subject(
    "Avsender", organization_identifier="NTRNO-123456789", organization_name="Avsender AS"
)
KEY = pki.rsa_key("of the sender")
CA = pki.intermediate()
NO_ANCHORS = TrustAnchors()


def issued(**options) -> pki.Issued:
    return pki.issue(NAME, options.pop("issuer", CA), key=options.pop("key", KEY), **options)


def p12(leaf: pki.Issued | None, *others: pki.Issued, key=KEY) -> bytes:
    certificates = [other.certificate for other in others]
    own = None if leaf is None else leaf.certificate
    return pkcs12.serialize_key_and_certificates(None, key, own, certificates, NoEncryption())


def inspected(content: bytes, *, environment=None, anchors=NO_ANCHORS, password=None):
    return inspect_pkcs12(
        Secret(content),
        Secret(password),
        environment=environment,
        given_anchors=anchors,
        now=pki.NOW,
    )


def values(report) -> dict[str, dict]:
    return {section.title: {row.name: row for row in section.rows} for section in report.sections}


def test_a_file_with_its_chain_is_good():
    report = inspected(p12(issued(), CA, pki.root()))
    assert report.good
    summary, leaf, *cas = values(report).values()
    assert summary["organisation"].value == "Avsender AS"
    assert summary["organisation number"].value == "123456789"
    assert summary["valid now"].value == "365 days left"
    assert "organizationIdentifier=NTRNO-123456789" in leaf["subject"].value
    assert summary["chain"].value == "complete up to the root"
    assert "environment" not in summary
    assert leaf["role"].value == "used, for TLS and for signatures"
    assert leaf["key usage"].value == "digitalSignature"
    assert [ca["role"].value for ca in cas] == ["part of the chain", "part of the chain"]
    assert [ca["CA"].value for ca in cas] == ["yes", "yes"]


def test_the_report_says_why_each_other_certificate_is_not_used():
    older = issued(not_after=pki.NOW + timedelta(days=1))
    encryption = issued(usage="key_encipherment")
    foreign = issued(key=pki.rsa_key("a different key"))
    elliptic = pki.issue(NAME, CA, key=ec.generate_private_key(ec.SECP256R1()))
    unrelated = pki.root("Unrelated")
    report = inspected(p12(issued(), older, encryption, foreign, elliptic, unrelated))
    roles = [rows["role"].value for rows in list(values(report).values())[1:]]
    assert roles == [
        "used, for TLS and for signatures",
        "not used: a different certificate of the same key is valid for longer",
        "not used: it is not for authentication (key usage digitalSignature)",
        "not used: it belongs to no key, or to a key other than the file's first",
        "not used: it belongs to no key, or to a key other than the file's first",
        "a CA certificate that is not part of the chain",
    ]
    assert not report.good
    assert (
        f"the certificate of CN={CA.name} is missing"
        == values(report)["As the enterprise certificate"]["chain"].value
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (p12(issued(usage="content_commitment")), "is not for authentication"),
        (p12(None, issued(), key=None), "has no private key"),
    ],
)
def test_a_file_that_can_not_be_used_is_described_with_the_reason(content, words):
    report = inspected(content)
    assert not report.good
    summary, leaf = values(report).values()
    assert words in summary["usable"].value
    assert leaf["role"].value.startswith("not used: ")


def test_an_expired_certificate_without_a_number_is_a_problem():
    nameless = pki.issue(
        pki.subject("Nobody"),
        CA,
        not_before=pki.NOW - timedelta(9),
        not_after=pki.NOW - timedelta(1),
    )
    summary, leaf, *_ = values(inspected(nameless.p12(None))).values()
    assert [name for name, row in summary.items() if row.good is False] == [
        "organisation number",
        "valid now",
    ]
    assert leaf["valid"].good is False


def test_the_environment_and_the_given_anchors_count():
    issuer = pki.root("Buypass Class 3 Test4 CA 3")
    content = p12(issued(issuer=issuer))
    for environment, fits in ((Environment.STAGING, True), (Environment.PRODUCTION, False)):
        summary = values(inspected(content, environment=environment))[
            "As the enterprise certificate"
        ]
        assert summary["environment"].good is fits
        assert summary["chain"].good is False
    summary = values(inspected(content))["As the enterprise certificate"]
    assert summary["environment"].value == "STAGING, by the names of its issuers"
    assert summary["environment"].good is None
    unpinned = TrustAnchors.from_pem(issuer.pem)
    assert not inspected(content, anchors=unpinned).good  # a client would not use it
    assert inspected(p12(issued(), CA), anchors=TrustAnchors.from_pem(pki.root().pem)).good


@pytest.mark.parametrize(
    ("content", "password", "words"),
    [
        (issued().p12(b"right"), "wrong", "password is wrong"),
        (issued().p12(b"right"), None, "No password was given"),
        (issued().p12(b"right"), "a\0b", "NUL"),
        (b"\x30\x82garbage", "any", "not PKCS#12"),
        (p12(None), None, "No certificate belongs"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused(content, password, words):
    with pytest.raises(ConfigurationError, match=words):
        inspected(content, password=password)


@pytest.mark.parametrize("form", ["pem", "der"])
def test_a_certificate_is_described(form):
    [section] = inspect_certificates(Secret(getattr(CA, form)), now=pki.NOW).sections
    rows = {row.name: row for row in section.rows}
    assert section.title == f"Certificate 1: {CA.name}"
    assert rows["SHA-256"].value == pki.sha256(CA)
    assert rows["valid"].good
    assert rows["trust anchor"].value == "not pinned for any environment"


def test_a_file_with_a_key_does_not_show_it():
    report = inspect_certificates(Secret(CA.pem + CA.key_pem), now=pki.NOW)
    assert values(report)["Private key"]["private key"].value == "in the file, not shown"
    assert "BEGIN" not in str(report)


def test_a_trust_anchor_is_recognised_and_a_long_list_is_cut():
    content = certifi.contents().encode()
    report = inspect_certificates(Secret(content), now=pki.NOW)
    assert report.sections[-1].title == "More"
    count = content.count(b"BEGIN CERTIFICATE")
    assert report.sections[-1].rows[0].value == f"{count} in all"
    pem = "-----BEGIN CERTIFICATE-----"
    [anchor] = [
        single
        for part in certifi.contents().split(pem)[1:]
        for single in [inspect_certificates(Secret((pem + part).encode()), now=pki.NOW)]
        if single.sections[0].title == "Certificate 1: Buypass Class 3 Root CA"
    ]
    [section] = anchor.sections
    assert section.rows[-1].value == "pinned for PRODUCTION"


@pytest.mark.parametrize(
    "content",
    [
        CA.key_pem,
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"\x30\x03\x02\x01\x01",
        CA.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),  # an unknown version
        CA.der.replace(b"\x55\x04\x03\x0c", b"\x55\x04\x03\x03"),  # a common name that is no text
    ],
)
def test_a_file_without_a_readable_certificate_is_refused(content):
    with pytest.raises(ConfigurationError, match="has no certificate that can be read"):
        inspect_certificates(Secret(content), now=pki.NOW)


def test_an_identity_number_in_a_name_is_masked():
    person = x509.Name(
        [
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "PNONO-01817099921"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "018170 99921"),
        ]
    )
    report = inspect_certificates(Secret(pki.issue(person).pem), now=pki.NOW)
    assert "99921" not in str(report)
    assert "no common name" in report.sections[0].title


def test_a_certificate_without_extensions_has_no_limits():
    bare = certificates.issue(NAME, None, KEY, bare=True)
    assert key_uses(bare.certificate) == []
    [section] = inspect_certificates(Secret(bare.der), now=pki.NOW).sections
    rows = {row.name: row.value for row in section.rows}
    assert (rows["CA"], rows["key usage"]) == ("no", "not limited")


def test_a_key_of_an_unknown_kind_belongs_to_no_key():
    rsa_encryption, unknown = (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01" + last for last in (b"\x01", b"\x63")
    )
    other = issued(key=pki.rsa_key("a different key"))
    strange = x509.load_der_x509_certificate(other.der.replace(rsa_encryption, unknown, 1))
    report = inspected(p12(issued(), pki.Issued(strange, KEY)))
    assert "belongs to no key" in list(values(report).values())[-1]["role"].value
