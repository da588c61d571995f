"""The certificate that signs a container: its key, and its chain to a CA that the service trusts."""

import socket
from dataclasses import replace
from datetime import UTC, datetime

import certificates
import pytest
from bundles import Recipe
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID
from verdicts import judged, refusal_of

PAST = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
FUTURE = (datetime(2059, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC))


def test_a_key_that_is_not_rsa_is_refused():
    holder = certificates.issue(
        certificates.enterprise_name(),
        certificates.intermediate(),
        ec.generate_private_key(ec.SECP256R1()),
    )
    assert "not an RSA key" in refusal_of(Recipe(holder=holder)).message


def test_a_certificate_without_digital_signature_is_refused():
    holder = certificates.issue(
        certificates.enterprise_name(),
        certificates.intermediate(),
        certificates.rsa_key(3),
        digital_signature=False,
    )
    assert "digitalSignature" in refusal_of(Recipe(holder=holder)).message


def test_cas_that_issue_each_other_are_not_a_trusted_chain():
    names = [certificates.name("CA A"), certificates.name("CA B")]
    keys = [certificates.rsa_key(8), certificates.rsa_key(9)]
    ca_a = certificates.issue(names[0], None, keys[0], ca=True)
    ca_b = certificates.issue(names[1], ca_a, keys[1], ca=True)
    ca_a_issued_by_b = certificates.issue(names[0], ca_b, keys[0], ca=True)
    leaf = certificates.issue(
        certificates.enterprise_name(), ca_a_issued_by_b, certificates.rsa_key(3)
    )
    assert "does not chain" in refusal_of(Recipe(holder=leaf)).message


def test_a_certificate_without_extensions_may_not_sign_or_issue():
    bare = certificates.issue(
        certificates.name("Bar CA"), certificates.root(), certificates.rsa_key(8), bare=True
    )
    leaf = certificates.issue(certificates.enterprise_name(), bare, certificates.rsa_key(3))
    assert "does not chain" in refusal_of(Recipe(holder=leaf)).message
    assert "digitalSignature" in refusal_of(Recipe(holder=bare)).message


def enterprise_below_new_ca(**changes):
    """An enterprise certificate from a new CA, which the root issued."""
    options = {"ca": True} | changes
    middle = certificates.issue(
        certificates.name("Mellom"), certificates.root(), certificates.rsa_key(8), **options
    )
    return certificates.issue(certificates.enterprise_name(), middle, certificates.rsa_key(3))


def test_a_ca_in_key_info_completes_the_chain_to_the_root():
    assert judged(
        Recipe(holder=enterprise_below_new_ca()), trusted=[certificates.root().certificate]
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ca": False}, id="not a CA"),
        pytest.param({"bare": True}, id="no extensions"),
        pytest.param({"cert_sign": False}, id="a key usage without keyCertSign"),
        pytest.param({"valid": PAST}, id="expired"),
        pytest.param({"valid": FUTURE}, id="not valid yet"),
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_ca_that_may_not_issue_is_not_part_of_a_trusted_chain(changes, trusted):
    """The CA is below a trusted root, or is trusted itself."""
    holder = enterprise_below_new_ca(**changes)
    anchors = [holder.chain[0] if trusted else certificates.root().certificate]
    assert "does not chain" in refusal_of(Recipe(holder=holder), trusted=anchors).message


def test_the_path_length_of_a_trusted_ca_is_checked():
    sub = certificates.issue(
        certificates.name("Sub CA"), certificates.intermediate(), certificates.rsa_key(8), ca=True
    )
    holder = certificates.issue(certificates.enterprise_name(), sub, certificates.rsa_key(3))
    anchors = [certificates.intermediate().certificate]
    assert "does not chain" in refusal_of(Recipe(holder=holder), trusted=anchors).message


def test_without_trusted_cas_no_certificate_is_trusted():
    """An empty list does not mean the CAs of the operating system."""
    assert "does not chain" in refusal_of(Recipe(), trusted=[]).message


def test_issuers_and_revocations_are_not_fetched_from_the_network(monkeypatch):
    lookups = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *names, **_: lookups.append(names))
    url = x509.UniformResourceIdentifier("http://ca.example.com/list")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url),
            x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, url),
        ]
    )
    holder = certificates.issue(
        certificates.enterprise_name(),
        certificates.intermediate(),
        certificates.rsa_key(3),
        extensions=(points, access),
    )
    assert judged(Recipe(holder=holder))
    without_chain = Recipe(holder=holder, whole_chain=False)
    assert (
        "does not chain"
        in refusal_of(without_chain, trusted=[certificates.root().certificate]).message
    )
    assert lookups == []


def test_many_certificates_in_key_info_are_refused():
    """The search for a chain through many CAs with one name takes minutes."""
    holder = certificates.enterprise()
    three_times = replace(holder, chain=holder.chain * 3)
    assert "KeyInfo has 7 certificates" in refusal_of(Recipe(holder=three_times)).message
    assert judged(Recipe(holder=replace(holder, chain=holder.chain * 2)))
