"""A PKI for tests, created with `cryptography`: roots, intermediates, enterprise certificates."""

import functools
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from posten_signering import EnterpriseCertificate

SERVICE = "984661185"
SENDER = "123456789"
NOW = datetime.now(UTC).replace(microsecond=0)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One key for each name. Keys are cached, because generating one is slow."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Issued:
    certificate: x509.Certificate
    key: PrivateKey
    issuer: "Issued | None" = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.encrypted_key_pem(None)

    @property
    def issuers(self) -> list["Issued"]:
        return [] if self.issuer is None else [self.issuer, *self.issuer.issuers]

    @property
    def name(self) -> str:
        return self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value

    def encrypted_key_pem(self, password: bytes | None) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )

    def p12(self, password: bytes | None, cas: Sequence["Issued"] | None = None) -> bytes:
        return pkcs12.serialize_key_and_certificates(
            b"enterprise",
            self.key,
            self.certificate,
            [ca.certificate for ca in (self.issuers if cas is None else cas)],
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )

    def enterprise(self, cas: Sequence["Issued"] | None = None) -> EnterpriseCertificate:
        issuers = self.issuers if cas is None else cas
        return EnterpriseCertificate.from_pem(
            b"".join(issued.pem for issued in [self, *issuers]), self.key_pem
        )


def subject(common_name: str, **fields: str) -> x509.Name:
    """A distinguished name: the common name and fields such as `organization_identifier=`."""
    return x509.Name(
        [
            x509.NameAttribute(getattr(NameOID, name.upper()), value)
            for name, value in fields.items()
        ]
        + [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def issue(
    name: x509.Name,
    issuer: Issued | None = None,
    *,
    ca: bool = False,
    host: str | None = None,
    key: PrivateKey | None = None,
    usage: str | None = "digital_signature",
    key_identifiers: bool = False,
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=365),
) -> Issued:
    """Issues a certificate. `usage` is its only key usage; None leaves the extension out.

    Since Python 3.13, the default context of `ssl` requires `key_identifiers`. The contexts of the package do not.
    """
    subject_key = key or rsa_key(name.rfc4514_string())
    signing_key = subject_key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(subject_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if key_identifiers:
        subject_identifier = x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key())
        issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            signing_key.public_key()
        )
        builder = builder.add_extension(subject_identifier, critical=False)
        builder = builder.add_extension(issuer_identifier, critical=False)
    usages = dict.fromkeys(
        [
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    if usage is not None:
        allowed = {"key_cert_sign": True, "crl_sign": True} if ca else {usage: True}
        builder = builder.add_extension(x509.KeyUsage(**{**usages, **allowed}), critical=True)
    if host is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(signing_key, hashes.SHA256()), subject_key, issuer)


def sha256(issued: Issued) -> str:
    """The fingerprint of a certificate."""
    return issued.certificate.fingerprint(hashes.SHA256()).hex()


def root(name: str = "Root") -> Issued:
    return _authority(name, None)


def intermediate(name: str = "Business CA", issuer: str = "Root") -> Issued:
    return _authority(name, issuer)


@functools.cache
def _authority(name: str, issuer: str | None) -> Issued:
    return issue(subject(name), None if issuer is None else root(issuer), ca=True)


@functools.cache
def sender() -> Issued:
    return issue(
        subject("Sender", organization_identifier=f"NTRNO-{SENDER}"), intermediate("Sender CA")
    )


@functools.cache
def service(number: str = SERVICE, authority: str = "Business CA") -> Issued:
    """The service's certificate. It names an organisation but no host."""
    name = subject("Posten Bring AS", organization_identifier=f"NTRNO-{number}")
    return issue(name, intermediate(authority))


def server_context(
    issued: Issued,
    *,
    version: ssl.TLSVersion | None = None,
    clients: Issued | None = None,
    chain: Sequence[Issued] | None = None,
) -> ssl.SSLContext:
    """A server's TLS context. With `clients`, it requires a client certificate issued by this CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "server.pem")
        sent_chain = [issued, *(issued.issuers[:-1] if chain is None else chain)]
        path.write_bytes(issued.key_pem + b"".join(sent.pem for sent in sent_chain))
        context.load_cert_chain(path)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.der)
    return context
