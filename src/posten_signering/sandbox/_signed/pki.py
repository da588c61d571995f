"""The certificates of one sandbox: a root CA, an issuing CA below it, and the certificates it issues.

They look like real ones: the organisation number is in organizationIdentifier (`NTRNO-...`, ETSI EN 319
412-1), and there is no host name and no extended key usage. Every sandbox has its own CAs.
"""

import secrets
import ssl
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from posten_signering.sandbox._signed.handshake import ServerContext
from posten_signering.sandbox._state.storage import FILE, Pkcs12, StoredKey
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.refusal import SandboxError

SERVICE_ORGANIZATION = "984661185"
"""The organisation number in the service's certificate: Posten Bring AS."""

_FOREIGN_ORGANIZATION = "900000001"
_CA_ORGANIZATION = "999999999"

_DAY = timedelta(days=1)
# Longer than a sandbox's time can be advanced. A real enterprise certificate is valid for three years.
_LIFETIME = timedelta(days=100 * 365)

_ROOT, _ISSUING, _SERVICE, _PERSONS, _FIRST_ENTERPRISE = range(5)


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    """The key with this number. Keys are slow to generate, so a process generates each key only once."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """A private key, its certificate, and the certificates of its issuers.

    Attributes:
        certificate: The key's certificate.
        key: The private key.
        chain: The certificates of its issuers, nearest first. May include the root.
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)
    chain: Sequence[x509.Certificate] = field(repr=False)


class Authority:
    """The CAs of one sandbox, and the certificates that they have issued.

    The constructor generates keys, which is slow: call it in a worker thread.

    Args:
        now: The time on the sandbox's clock.
        machine_now: The time on the machine's clock, which clients use. Certificates are valid from
            one day before the earlier of the two times.
        keys: The stored keys of the CAs and the service. New ones are added.
        enterprises: The stored enterprise certificates by organisation number. New ones are added.
    """

    def __init__(
        self,
        *,
        now: datetime,
        machine_now: datetime,
        keys: MutableMapping[str, StoredKey],
        enterprises: MutableMapping[str, Pkcs12],
    ) -> None:
        self._valid_from = min(now, machine_now) - _DAY
        self._valid_until = max(now, machine_now) + _LIFETIME
        self._enterprises = enterprises
        if not _are_valid(keys, now):
            keys.clear()
            enterprises.clear()
            suffix = secrets.token_hex(4)
            name = _name(f"Sandbox Root CA {suffix}", _CA_ORGANIZATION)
            root = self._issue(name, _key(_ROOT), issuer=None, path_length=1)
            name = _name(f"Sandbox Enterprise CA {suffix}", _CA_ORGANIZATION)
            issuing = self._issue(name, _key(_ISSUING), issuer=root, path_length=0)
            keys["root"], keys["issuing"] = _stored(root), _stored(issuing)
        self.root = _read(keys["root"]).certificate
        self._issuing = _read(keys["issuing"], self.root)
        if "service" not in keys:
            keys["service"] = _stored(self._enterprise(SERVICE_ORGANIZATION, _key(_SERVICE)))
        self.service = _read(keys["service"], self._issuing.certificate, self.root)
        # Generate these keys now, so that no later call waits for them in the event loop.
        _key(_PERSONS)
        _key(_FIRST_ENTERPRISE)

    @property
    def trusted(self) -> Sequence[x509.Certificate]:
        """The certificates of the CAs that the service trusts."""
        return (self.root, self._issuing.certificate)

    @property
    def root_pem(self) -> bytes:
        """The root certificate in PEM."""
        return _pem(self.root)

    @property
    def certificates_pem(self) -> Mapping[str, bytes]:
        """The certificates of the CAs in PEM, by name."""
        return {"root": self.root_pem, "issuing": _pem(self._issuing.certificate)}

    def enterprise_pkcs12(self, organization_number: str) -> Pkcs12:
        """The enterprise certificate of an organisation as a PKCS#12 file. Every call returns the same file."""
        if organization_number not in self._enterprises:
            key = _key(_FIRST_ENTERPRISE + len(self._enterprises))
            enterprise = self._enterprise(organization_number, key)
            password = Hidden(secrets.token_urlsafe(12))
            content = pkcs12.serialize_key_and_certificates(
                f"enterprise {organization_number}".encode(),
                key,
                enterprise.certificate,
                list(enterprise.chain),
                BestAvailableEncryption(password.encode()),
            )
            self._enterprises[organization_number] = Pkcs12(
                content=Octets(content), password=password
            )
        return self._enterprises[organization_number]

    def person(self, name: str) -> SigningKey:
        """A new certificate of a person, like the certificate of a signer's e-ID."""
        subject = x509.Name.from_rfc4514_string(f"C=NO,CN={name}")
        return self._issue(subject, _key(_PERSONS), issuer=self._issuing)

    def server_context(self, served: SigningKey) -> ssl.SSLContext:
        """The context of a server that requires TLS 1.2 or later and a client certificate of these CAs.

        The method writes the key to a temporary private file, because the TLS library reads keys only
        from files.

        Args:
            served: The certificate and the key of the server.
        """
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # Trust the issuing CA too, because a client may send its own certificate without the issuer's.
        context.load_verify_locations(
            cadata="".join(_pem(authority).decode() for authority in self.trusted)
        )
        with tempfile.TemporaryDirectory(prefix="posten-signering-sandbox-") as directory:
            path = Path(directory) / "service.pem"
            path.touch(mode=0o600)
            path.write_bytes(
                _key_pem(served.key) + _pem(served.certificate) + _pem(self._issuing.certificate)
            )
            context.load_cert_chain(path)
        return context

    def foreign_service(self) -> SigningKey:
        """A certificate like the service's but for a different organisation. Clients must refuse it."""
        return self._enterprise(_FOREIGN_ORGANIZATION, self.service.key)

    def _enterprise(self, organization_number: str, key: rsa.RSAPrivateKey) -> SigningKey:
        name = _name(f"Sandbox Enterprise {organization_number}", organization_number)
        return self._issue(name, key, issuer=self._issuing)

    def _issue(
        self,
        subject: x509.Name,
        key: rsa.RSAPrivateKey,
        *,
        issuer: SigningKey | None,
        path_length: int | None = None,
    ) -> SigningKey:
        """A new certificate.

        Args:
            subject: The holder's name.
            key: The holder's key.
            issuer: The CA. None: the certificate is self-signed (a root).
            path_length: How many CAs may be below this one. None: the certificate is not a CA.
        """
        is_ca = path_length is not None
        key_usage = x509.KeyUsage(
            digital_signature=not is_ca,
            content_commitment=False,
            key_encipherment=not is_ca,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=is_ca,
            crl_sign=is_ca,
            encipher_only=False,
            decipher_only=False,
        )
        ca_key = key if issuer is None else issuer.key
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._valid_from)
            .not_valid_after(self._valid_until)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
            .add_extension(key_usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )
        chain = () if issuer is None else (issuer.certificate, *issuer.chain)
        return SigningKey(certificate=certificate, key=key, chain=chain)


def _are_valid(stored: Mapping[str, StoredKey], now: datetime) -> bool:
    if not {"root", "issuing"} <= stored.keys():
        return False
    root = _read(stored["root"]).certificate
    return root.not_valid_before_utc <= now < root.not_valid_after_utc


def _stored(signing_key: SigningKey) -> StoredKey:
    return StoredKey(
        key=Hidden(_key_pem(signing_key.key).decode()),
        certificate=_pem(signing_key.certificate).decode(),
    )


def _read(stored: StoredKey, *chain: x509.Certificate) -> SigningKey:
    try:
        # The sandbox made this key itself. The library's check takes 110 ms for the keys of one start,
        # and everything else of the start takes 16 ms.
        key = load_pem_private_key(
            stored.key.encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
        certificate = x509.load_pem_x509_certificate(stored.certificate.encode())
    except ValueError:
        raise SandboxError(
            f"A certificate or key in {FILE} can't be read: remove the file, and start the sandbox again."
        ) from None
    return SigningKey(certificate=certificate, key=cast("rsa.RSAPrivateKey", key), chain=chain)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common_name: str, organization_number: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(
        f"2.5.4.97=NTRNO-{organization_number},CN={common_name},O=posten-signering sandbox,C=NO"
    )
