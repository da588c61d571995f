"""Certificates for tests: a root, an intermediate whose name needs escaping, and enterprise certificates."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SENDER = "999888777"


@dataclass(frozen=True)
class Holder:
    """A certificate, its key, and its chain from the issuer up to the root."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """A key for this number. It stays the same throughout a test run."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def name(common_name: str, **attributes: str) -> x509.Name:
    oids = {
        "organization": NameOID.ORGANIZATION_NAME,
        "identifier": NameOID.ORGANIZATION_IDENTIFIER,
        "serial": NameOID.SERIAL_NUMBER,
    }
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"),
            *(x509.NameAttribute(oids[key], value) for key, value in attributes.items()),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def issue(
    subject: x509.Name,
    issuer: Holder | None,
    key,
    *,
    ca: bool = False,
    path_length: int | None = None,
    valid: tuple[datetime, datetime] = (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2060, 1, 1, tzinfo=UTC),
    ),
    digital_signature: bool = True,
    cert_sign: bool = True,
    extensions: tuple[x509.ExtensionType, ...] = (),
    bare: bool = False,
) -> Holder:
    signer = issuer.key if issuer else key
    usage = x509.KeyUsage(
        digital_signature=digital_signature and not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca and cert_sign,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    if not bare:
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        builder = builder.add_extension(constraints, critical=True)
        builder = builder.add_extension(usage, critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    chain = (issuer.certificate, *issuer.chain) if issuer else ()
    return Holder(certificate, key, chain)


@cache
def root() -> Holder:
    return issue(name("Rot CA æøå", organization="Prøve, Sertifikat AS"), None, rsa_key(1), ca=True)


@cache
def intermediate() -> Holder:
    subject = name(
        "Mellom CA æøå", organization="Prøve, Sertifikat + AS", identifier="NTRNO-983163327"
    )
    return issue(subject, root(), rsa_key(2), ca=True, path_length=0)


def enterprise_name(organization_number: str = SENDER) -> x509.Name:
    return name(
        "Ærlig Avsender", organization="Ærlig AS", identifier=f"NTRNO-{organization_number}"
    )


@cache
def enterprise() -> Holder:
    return issue(enterprise_name(), intermediate(), rsa_key(3))


@cache
def other_enterprise() -> Holder:
    """The certificate of another organisation, from the same issuer, with a different key."""
    return issue(enterprise_name("111222333"), intermediate(), rsa_key(4))
