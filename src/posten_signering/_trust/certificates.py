"""The sender's enterprise certificate and its private key.

Reads the files it is given, and performs no other I/O. No password and no key ever shows in a repr
or in a local variable of a frame that an exception can leave.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast, final

import anyio
import anyio.to_thread
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from posten_signering._http.tls import organization_number_of
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

_LOGGER = logging.getLogger("posten_signering")

_EXPIRES_SOON = timedelta(days=30)

_PRIVATE_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EnterpriseCertificate:
    """An enterprise certificate with its RSA private key.

    It authenticates the organisation to the service (TLS) and signs what is sent (XAdES). Of the two
    `.p12` files that a Norwegian issuer delivers, this is the one for authentication.

    Attributes:
        chain: For the package itself: the certificate, then its issuers as far as they are known.
        others: For the package itself: every certificate that came along with it.
    """

    chain: tuple[x509.Certificate, ...]
    others: tuple[x509.Certificate, ...]
    _private_key: rsa.RSAPrivateKey = field(compare=False)

    @staticmethod
    def from_pkcs12(source: bytes | str | Path, *, password: str | None) -> "EnterpriseCertificate":
        """Reads a PKCS#12 file (`.p12`, `.pfx`): AES, 3DES or legacy RC2, chain in any order.

        Blocks for about 40 ms; `load_pkcs12` is for use inside an event loop.

        Args:
            source: The file's path, or its content as bytes.
            password: The file's password; None when it has none.

        Raises:
            ConfigurationError: The file can't be read, the password is wrong, it holds no private
                key with its certificate, the key is not RSA, or the certificate is not for
                authentication (key usage digitalSignature).
        """
        secret = _encoded(password)
        del password
        return _from_pkcs12(source, secret)

    @staticmethod
    def from_pem(
        certificates: bytes | Path, private_key: bytes | Path, *, password: str | None = None
    ) -> "EnterpriseCertificate":
        """Reads the certificate, with its issuers in any order, and the private key in PEM form.

        Args:
            certificates: The certificates: a file's path, or its content as bytes.
            private_key: The key: a file's path (it may be the same file), or its content as bytes.
            password: The key's password; None when it has none.

        Raises:
            ConfigurationError: As `from_pkcs12`.
        """
        # The certificates' file too may hold the key.
        public, key, secret = Secret(certificates), Secret(private_key), _encoded(password)
        del certificates, private_key, password
        public_pem = _content(public, "The certificate's file")
        key_pem = _content(key, "The private key's file")
        return _assemble(_pem_key(key_pem, secret), _pem_certificates(public_pem))

    @property
    def organization_number(self) -> str | None:
        """The organisation that the certificate was issued to; None when its subject names none."""
        return organization_number_of(self.chain[0])

    @property
    def subject(self) -> str:
        """The certificate's subject as text (RFC 4514)."""
        return self.chain[0].subject.rfc4514_string()

    @property
    def not_valid_before(self) -> datetime:
        """When the certificate becomes valid."""
        return self.chain[0].not_valid_before_utc

    @property
    def not_valid_after(self) -> datetime:
        """When the certificate expires."""
        return self.chain[0].not_valid_after_utc

    def check(self, now: datetime) -> None:
        """Refuses a certificate that is not valid at the time given; warns 30 days before its end.

        The warning is a log line at WARNING of the logger `posten_signering`.

        Raises:
            ConfigurationError: It has expired, or is not valid yet.
        """
        if now > self.not_valid_after:
            raise ConfigurationError(
                f"The enterprise certificate expired at {self.not_valid_after.isoformat()}: get a new "
                "one from its issuer."
            )
        if now < self.not_valid_before:
            raise ConfigurationError(
                "The enterprise certificate is not valid before "
                f"{self.not_valid_before.isoformat()}, and the clock says {now.isoformat()}."
            )
        if self.not_valid_after - now < _EXPIRES_SOON:
            _LOGGER.warning(
                "The enterprise certificate of organisation %s expires at %s",
                self.organization_number,
                self.not_valid_after.isoformat(),
            )

    def sign(self, data: bytes) -> bytes:
        """The signature over the data: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2)."""
        return self._private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def complete_chain(
        self, anchors: Iterable[bytes]
    ) -> tuple[tuple[x509.Certificate, ...], str | None]:
        """The chain up to and including a root, with missing links taken from the trust anchors.

        Args:
            anchors: Certificates in DER form.

        Returns:
            The chain, leaf first, and the name of the issuer that is still missing: None when the
            chain ends in a root.
        """
        pool = [*self.others, *(x509.load_der_x509_certificate(each) for each in anchors)]
        chain = _chain(self.chain[0], pool)
        return chain, None if _is_root(chain[-1]) else chain[-1].issuer.rfc4514_string()

    def pem(
        self, chain: Iterable[x509.Certificate], passphrase: Secret[bytes] | None
    ) -> Secret[bytes]:
        """For the TLS set-up: the private key and a chain in PEM, encrypted if there is a passphrase."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase.reveal())
        return Secret(
            self._private_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
            + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
        )

    def __repr__(self) -> str:
        return (
            f"EnterpriseCertificate(organization_number={self.organization_number!r}, "
            f"not_valid_after={self.not_valid_after.isoformat()!r})"
        )


async def load_pkcs12(source: bytes | str | Path, *, password: str | None) -> EnterpriseCertificate:
    """`EnterpriseCertificate.from_pkcs12` in a worker thread, for use inside an event loop.

    Args:
        source: The file's path, or its content as bytes.
        password: The file's password; None when it has none.

    Raises:
        ConfigurationError: As `EnterpriseCertificate.from_pkcs12`.
    """
    secret = _encoded(password)
    del password
    return await anyio.to_thread.run_sync(_from_pkcs12, source, secret)


def _encoded(password: str | None) -> Secret[bytes | None]:
    # No file has a password with a lone surrogate; a strict `encode` would quote it in its error.
    return Secret(None if password is None else password.encode(errors="replace"))


def _content(source: Secret[bytes | Path] | Secret[bytes | str | Path], what: str) -> Secret[bytes]:
    """What a file holds, or the bytes themselves. A path may be a key that was given by mistake."""
    if isinstance(source.reveal(), bytes):
        return cast("Secret[bytes]", source)
    reason = "not a path"
    try:
        return Secret(Path(cast("Secret[str | Path]", source).reveal()).read_bytes())
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (TypeError, ValueError):
        pass
    raise ConfigurationError(f"{what} can't be read: {reason}.")


def _from_pkcs12(
    source: bytes | str | Path, password: Secret[bytes | None]
) -> EnterpriseCertificate:
    content = _content(Secret(source), "The PKCS#12 file")
    try:
        bundle = pkcs12.load_pkcs12(content.reveal(), password.reveal())
    except (ValueError, UnsupportedAlgorithm):
        bundle = None
    if bundle is None:
        raise ConfigurationError(
            "The enterprise certificate can't be read: the password is wrong, or it is not a PKCS#12 "
            "file (or one in a form that OpenSSL is set up to refuse)."
        )
    own = [] if bundle.cert is None else [bundle.cert]
    return _assemble(bundle.key, [each.certificate for each in [*own, *bundle.additional_certs]])


def _pem_certificates(content: Secret[bytes]) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content.reveal())
    except ValueError:
        if b"-----BEGIN CERTIFICATE-----" not in content.reveal():
            return []
    raise ConfigurationError("One of the certificates in PEM form can't be read.")


def _pem_key(content: Secret[bytes], password: Secret[bytes | None]) -> object:
    count = len(_PRIVATE_KEY.findall(content.reveal()))
    if count > 1:
        raise ConfigurationError(f"There are {count} private keys; give exactly one.")
    if count == 0:
        return None
    try:
        return serialization.load_pem_private_key(content.reveal(), password.reveal())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise ConfigurationError(
        "The private key can't be read: the password is wrong or missing, there is a password for a "
        "key without one, or the key has another form."
    )


def _assemble(key: object, certificates: Sequence[x509.Certificate]) -> EnterpriseCertificate:
    if key is None:
        raise ConfigurationError("The enterprise certificate comes without a private key.")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            "The enterprise certificate's key is not an RSA key; the service takes no other."
        )
    own = [each for each in certificates if _has_key(each, key.public_key())]
    if not own:
        raise ConfigurationError("There is no certificate that belongs to the private key.")
    # A key may have been certified more than once, for signing or encryption alone among others.
    fit = [each for each in own if _usage_fault(each) is None]
    leaf = max(fit or own, key=lambda each: each.not_valid_after_utc)
    fault = _usage_fault(leaf)
    if fault is not None:
        raise ConfigurationError(fault)
    others = tuple(each for each in certificates if each != leaf)
    return EnterpriseCertificate(chain=_chain(leaf, others), others=others, _private_key=key)


def _has_key(certificate: x509.Certificate, key: rsa.RSAPublicKey) -> bool:
    try:
        return certificate.public_key() == key
    except (ValueError, UnsupportedAlgorithm):
        return False


def _usage_fault(certificate: x509.Certificate) -> str | None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None  # RFC 5280, 4.2.1.3: without the extension the key's use is not restricted
    except ValueError:
        return "The enterprise certificate's extensions can't be read."
    if usage.digital_signature:
        return None
    return (
        "The enterprise certificate is not for authentication (its key usage lacks "
        "digitalSignature). The issuer delivers two .p12 files: use the one for authentication."
    )


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _chain(
    leaf: x509.Certificate, pool: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The shortest way to a root; where none leads to one, as far as the ways go."""
    # More than one, where an authority's key was certified by several others.
    chain: tuple[x509.Certificate, ...] = (leaf,)
    ways = deque[tuple[x509.Certificate, ...]]([chain])
    met = {leaf}
    while ways and not _is_root(chain[-1]):
        chain = ways.popleft()
        issuers = [each for each in pool if each not in met and _issued(chain[-1], each)]
        met.update(issuers)
        ways.extend((*chain, each) for each in issuers)
    return chain


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
