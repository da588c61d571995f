"""Certificates for one sandbox: a root, an issuing CA below it, and what the two vouch for.

They look like those of the service and its senders: enterprise certificates carry the organisation
number as organizationIdentifier (`NTRNO-...`, ETSI EN 319 412-1), no host name, no extended key
usage. Keys are made once for a process, since that is slow; the CAs' names are new for each sandbox,
so that one sandbox's certificates are worth nothing to another. Makes certificates in memory; the
one file written is a private one that the TLS library reads at once.
"""

import secrets
import ssl
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
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
from cryptography.x509.oid import NameOID

from posten_signering.sandbox._signed.seal import SigningKey
from posten_signering.sandbox._state.storage import Pkcs12, StoredKey
from posten_signering.sandbox._values.hidden import Hidden, Octets

SERVICE_ORGANIZATION = "984661185"
"""The organisation number in the service's certificate: Posten Bring AS."""

_FOREIGN_ORGANIZATION = "900000001"

_DAY = timedelta(days=1)
_LIFETIME = timedelta(days=3 * 365)


class _Keys:
    """RSA keys of this process by number, each made when it is first asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._keys: list[rsa.RSAPrivateKey] = []

    def key(self, number: int) -> rsa.RSAPrivateKey:
        """The key with this number, from 0."""
        with self._lock:
            while len(self._keys) <= number:
                self._keys.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))
            return self._keys[number]


_keys = _Keys()
_ROOT, _ISSUING, _SERVICE, _PERSONS, _FIRST_ENTERPRISE = range(5)


class Authority:
    """The CAs of one sandbox, and the certificates they have issued.

    Slow to make (it makes keys): do so in a thread.

    Args:
        now: The sandbox's time. Certificates are valid from the day before it...
        also_now: ...or before this, if that is earlier: the machine's time, by which others judge.
        keys: The CAs' keys and the service's from before, if any; new ones are put there.
        enterprises: The enterprise certificates issued before, by organisation number; likewise.
    """

    def __init__(
        self,
        *,
        now: datetime,
        also_now: datetime,
        keys: MutableMapping[str, StoredKey] | None = None,
        enterprises: MutableMapping[str, Pkcs12] | None = None,
    ) -> None:
        self._valid_from = min(now, also_now) - _DAY
        self._valid_until = max(now, also_now) + _LIFETIME
        self._stored: MutableMapping[str, StoredKey] = {} if keys is None else keys
        self._files: MutableMapping[str, Pkcs12] = {} if enterprises is None else enterprises
        if not self._stored_are_valid(now):
            self._stored.clear()
            self._files.clear()
            self._make_authorities()
        self._root_key, self.root = _read(self._stored["root"])
        self._issuing_key, self.issuing = _read(self._stored["issuing"])
        key, certificate = _read(self._stored["service"])
        self.service = SigningKey(certificate=certificate, key=key, chain=self._chain)
        # Made now, so that the first sender need not wait for it in an event loop.
        _keys.key(_PERSONS)
        _keys.key(_FIRST_ENTERPRISE)

    @property
    def trusted(self) -> Sequence[x509.Certificate]:
        """The CAs whose certificates the service accepts."""
        return (self.root, self.issuing)

    @property
    def root_pem(self) -> bytes:
        """The root certificate."""
        return self.root.public_bytes(Encoding.PEM)

    @property
    def certificates_pem(self) -> Mapping[str, bytes]:
        """The certificates of the CAs by name."""
        return {name: self._stored[name].certificate.encode() for name in ("root", "issuing")}

    def enterprise_pkcs12(self, organization_number: str) -> Pkcs12:
        """The enterprise certificate of an organisation as a PKCS#12 file; the same for every call."""
        if organization_number not in self._files:
            self._files[organization_number] = self._new_pkcs12(organization_number)
        return self._files[organization_number]

    def person(self, name: str) -> SigningKey:
        """A new certificate of a person, as the e-ID of a signer gives one."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"),
            ]
        )
        return self._issued(subject, _keys.key(_PERSONS))

    def server_context(self, served: SigningKey) -> ssl.SSLContext:
        """TLS 1.2 and 1.3 with a server's certificate, for clients with one of these CAs'."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # The issuing CA too: a client may send nothing but its own certificate.
        context.load_verify_locations(
            cadata="".join(each.public_bytes(Encoding.PEM).decode() for each in self.trusted)
        )
        with tempfile.TemporaryDirectory(prefix="posten-signering-sandbox-") as directory:
            path = Path(directory) / "service.pem"
            path.touch(mode=0o600)
            path.write_bytes(
                _key_pem(served.key)
                + served.certificate.public_bytes(Encoding.PEM)
                + self.issuing.public_bytes(Encoding.PEM)
            )
            context.load_cert_chain(path)
        return context

    def foreign_service(self) -> SigningKey:
        """A certificate as the service's, of another organisation: what clients must refuse."""
        return self._enterprise(_FOREIGN_ORGANIZATION, self.service.key)

    @property
    def _chain(self) -> tuple[x509.Certificate, ...]:
        return (self.issuing, self.root)

    def _stored_are_valid(self, now: datetime) -> bool:
        if "root" not in self._stored:
            return False
        _, root = _read(self._stored["root"])
        return root.not_valid_before_utc <= now < root.not_valid_after_utc

    def _make_authorities(self) -> None:
        mark = secrets.token_hex(4)
        organization = "NTRNO-999999999"
        root_name = _name(f"Sandbox Root CA {mark}", organization)
        self._root_key = self._issuing_key = _keys.key(_ROOT)
        self.root = self._certificate(
            subject=root_name, key=self._root_key, issuer=root_name, ca_key=self._root_key, ca=1
        )
        self.issuing = self._certificate(
            subject=_name(f"Sandbox Enterprise CA {mark}", organization),
            key=_keys.key(_ISSUING),
            issuer=root_name,
            ca_key=self._root_key,
            ca=0,
        )
        self._issuing_key = _keys.key(_ISSUING)
        service = self._enterprise(SERVICE_ORGANIZATION, _keys.key(_SERVICE))
        self._stored["root"] = _stored(self._root_key, self.root)
        self._stored["issuing"] = _stored(self._issuing_key, self.issuing)
        self._stored["service"] = _stored(service.key, service.certificate)

    def _new_pkcs12(self, organization_number: str) -> Pkcs12:
        number = _FIRST_ENTERPRISE + len(self._files)
        enterprise = self._enterprise(organization_number, _keys.key(number))
        password = Hidden(secrets.token_urlsafe(12))
        content = pkcs12.serialize_key_and_certificates(
            f"enterprise {organization_number}".encode(),
            enterprise.key,
            enterprise.certificate,
            list(enterprise.chain),
            BestAvailableEncryption(password.encode()),
        )
        return Pkcs12(content=Octets(content), password=password)

    def _enterprise(self, organization_number: str, key: rsa.RSAPrivateKey) -> SigningKey:
        subject = _name(f"Sandbox Enterprise {organization_number}", f"NTRNO-{organization_number}")
        return self._issued(subject, key)

    def _issued(self, subject: x509.Name, key: rsa.RSAPrivateKey) -> SigningKey:
        certificate = self._certificate(
            subject=subject,
            key=key,
            issuer=self.issuing.subject,
            ca_key=self._issuing_key,
            ca=None,
        )
        return SigningKey(certificate=certificate, key=key, chain=self._chain)

    def _certificate(
        self,
        *,
        subject: x509.Name,
        key: rsa.RSAPrivateKey,
        issuer: x509.Name,
        ca_key: rsa.RSAPrivateKey,
        ca: int | None,
    ) -> x509.Certificate:
        """Makes a certificate; `ca` is how many CAs may stand below it, None for no CA at all."""
        is_ca = ca is not None
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._valid_from)
            .not_valid_after(self._valid_until)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=ca), critical=True)
            .add_extension(_key_usage(ca=is_ca), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )


def _stored(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> StoredKey:
    return StoredKey(
        key=Hidden(_key_pem(key).decode()),
        certificate=certificate.public_bytes(Encoding.PEM).decode(),
    )


def _read(stored: StoredKey) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = load_pem_private_key(stored.key.encode(), password=None)
    certificate = x509.load_pem_x509_certificate(stored.certificate.encode())
    return cast("rsa.RSAPrivateKey", key), certificate


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common_name: str, organization_identifier: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "posten-signering sandbox"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, organization_identifier),
        ]
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
