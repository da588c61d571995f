"""The certificates of one sandbox: a root, an issuing CA below it, and the certificates of holders.

They look like real ones: the organisation number is in organizationIdentifier (`NTRNO-...`, ETSI EN 319
412-1), and there is no host name and no extended key usage. Each sandbox has CAs of its own.
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

from posten_signering.sandbox._state.storage import FILE, Pkcs12, StoredKey
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.refusal import SandboxError

SERVICE_ORGANIZATION = "984661185"
"""The organisation number in the service's certificate: Posten Bring AS."""

_FOREIGN_ORGANIZATION = "900000001"
_CA_ORGANIZATION = "999999999"

_DAY = timedelta(days=1)
_LIFETIME = timedelta(days=3 * 365)

_ROOT, _ISSUING, _SERVICE, _PERSONS, _FIRST_ENTERPRISE = range(5)


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    """The key of this process with this number. Making a key is slow, so each is made once."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """A key to sign with, its certificate, and the certificates up to the root.

    Attributes:
        certificate: The key's certificate.
        key: The private key.
        chain: The certificates of its issuers, nearest first; may include the root.
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)
    chain: Sequence[x509.Certificate] = field(repr=False)


class Authority:
    """The CAs of one sandbox, and the certificates that they have issued.

    Makes keys, which is slow: create it in a thread.

    Args:
        now: The sandbox's time.
        also_now: The machine's time, which clients use. Certificates are valid from one day before
            the earlier of the two.
        keys: The stored keys of the CAs and the service. New ones are added.
        enterprises: The stored enterprise certificates by organisation number. New ones are added.
    """

    def __init__(
        self,
        *,
        now: datetime,
        also_now: datetime,
        keys: MutableMapping[str, StoredKey],
        enterprises: MutableMapping[str, Pkcs12],
    ) -> None:
        self._valid_from = min(now, also_now) - _DAY
        self._valid_until = max(now, also_now) + _LIFETIME
        self._files = enterprises
        if not _are_valid(keys, now):
            keys.clear()
            enterprises.clear()
            mark = secrets.token_hex(4)
            name = _name(f"Sandbox Root CA {mark}", _CA_ORGANIZATION)
            root = self._issue(name, _key(_ROOT), issuer=None, path_length=1)
            name = _name(f"Sandbox Enterprise CA {mark}", _CA_ORGANIZATION)
            issuing = self._issue(name, _key(_ISSUING), issuer=root, path_length=0)
            keys["root"], keys["issuing"] = _stored(root), _stored(issuing)
        self.root = _read(keys["root"]).certificate
        self._issuing = _read(keys["issuing"], self.root)
        if "service" not in keys:
            keys["service"] = _stored(self._enterprise(SERVICE_ORGANIZATION, _key(_SERVICE)))
        self.service = _read(keys["service"], self._issuing.certificate, self.root)
        # Made now, because the first sender would wait for them in an event loop.
        _key(_PERSONS)
        _key(_FIRST_ENTERPRISE)

    @property
    def trusted(self) -> Sequence[x509.Certificate]:
        """The CAs that the service trusts."""
        return (self.root, self._issuing.certificate)

    @property
    def root_pem(self) -> bytes:
        """The root certificate."""
        return _pem(self.root)

    @property
    def certificates_pem(self) -> Mapping[str, bytes]:
        """The certificates of the CAs by name."""
        return {"root": self.root_pem, "issuing": _pem(self._issuing.certificate)}

    def enterprise_pkcs12(self, organization_number: str) -> Pkcs12:
        """The enterprise certificate of an organisation as a PKCS#12 file, the same for every call."""
        if organization_number not in self._files:
            key = _key(_FIRST_ENTERPRISE + len(self._files))
            enterprise = self._enterprise(organization_number, key)
            password = Hidden(secrets.token_urlsafe(12))
            content = pkcs12.serialize_key_and_certificates(
                f"enterprise {organization_number}".encode(),
                key,
                enterprise.certificate,
                list(enterprise.chain),
                BestAvailableEncryption(password.encode()),
            )
            self._files[organization_number] = Pkcs12(content=Octets(content), password=password)
        return self._files[organization_number]

    def person(self, name: str) -> SigningKey:
        """A new certificate of a person, as a signer's e-ID has."""
        subject = x509.Name.from_rfc4514_string(f"C=NO,CN={name}")
        return self._issue(subject, _key(_PERSONS), issuer=self._issuing)

    def server_context(self, served: SigningKey) -> ssl.SSLContext:
        """TLS 1.2 and 1.3 with this certificate, for clients with a certificate of these CAs.

        The key is in a private file for a moment, because the TLS library reads keys only from files.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # Includes the issuing CA, because a client may send only its own certificate.
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
        """A certificate like the service's, of a different organisation: clients must refuse it."""
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
        """Makes a certificate.

        Args:
            subject: The holder's name.
            key: The holder's key.
            issuer: The CA, or None for a root.
            path_length: The number of CAs that may follow below it, or None if it is not a CA.
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


def _stored(held: SigningKey) -> StoredKey:
    return StoredKey(
        key=Hidden(_key_pem(held.key).decode()), certificate=_pem(held.certificate).decode()
    )


def _read(stored: StoredKey, *chain: x509.Certificate) -> SigningKey:
    try:
        key = load_pem_private_key(stored.key.encode(), password=None)
        certificate = x509.load_pem_x509_certificate(stored.certificate.encode())
    except ValueError:
        raise SandboxError(
            f"A certificate in {FILE} can't be read: remove the file, and start again."
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
