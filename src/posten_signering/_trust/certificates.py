"""The sender's enterprise certificate and its private key. The only I/O is reading the given files.

No password or key shows in a repr, or in a local variable that a traceback could show.
"""

import re
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast, final

import anyio
import anyio.to_thread
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from posten_signering._http.tls import organization_number_of
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

_NEW_ONE = "Get a new one from its issuer."
_UNREADABLE = "The enterprise certificate's extensions can't be read."
_NOT_FOR_AUTHENTICATION = (
    "The enterprise certificate is not for authentication: its key usage lacks digitalSignature."
)
_ADVICE = {
    _UNREADABLE: _NEW_ONE,
    _NOT_FOR_AUTHENTICATION: (
        "The issuer delivers two .p12 files: use the one for authentication."
    ),
}
_SEVERAL_KEYS = (
    "There is also a suitable certificate with a different key, but only the first key of a PKCS#12 file "
    "can be used. Copy the other key to a file of its own: `keytool -list -keystore OLD` shows the "
    "aliases, and `keytool -importkeystore -srckeystore OLD -srcalias ALIAS -destkeystore NEW "
    "-deststoretype PKCS12` copies one. With from_pem, give that key as the private_key."
)

# The names of RFC 5280, 4.2.1.3, and the attributes of `x509.KeyUsage`.
_KEY_USES = (
    ("digitalSignature", "digital_signature"),
    ("nonRepudiation", "content_commitment"),
    ("keyEncipherment", "key_encipherment"),
    ("dataEncipherment", "data_encipherment"),
    ("keyAgreement", "key_agreement"),
    ("keyCertSign", "key_cert_sign"),
    ("cRLSign", "crl_sign"),
    ("encipherOnly", "encipher_only"),
    ("decipherOnly", "decipher_only"),
)

# The beginning of a PKCS#12 file (RFC 7292, 4): a SEQUENCE of the version, which is 3, and a SEQUENCE.
_PKCS12 = re.compile(
    rb"\x30(?:[\x00-\x80]|\x81(.)|\x82(..)|\x83(...)|\x84(....))\x02\x01\x03\x30", re.DOTALL
)

# Adding the filter of `_bundle` removes it for a moment, if it is there already.
_READING = threading.Lock()

_PRIVATE_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL
)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EnterpriseCertificate:
    """An enterprise certificate with its RSA private key.

    It authenticates the organisation to the service (TLS) and signs the documents that are sent
    (XAdES). A Norwegian issuer delivers two `.p12` files: use the one for authentication.

    Attributes:
        chain: For internal use: the certificate, then its known issuers.
        others: For internal use: every other certificate from the same source.
    """

    chain: tuple[x509.Certificate, ...]
    others: tuple[x509.Certificate, ...]
    _private_key: rsa.RSAPrivateKey = field(compare=False)

    @staticmethod
    def from_pkcs12(source: bytes | str | Path, *, password: str | None) -> "EnterpriseCertificate":
        """Reads a PKCS#12 file (`.p12`, `.pfx`) with AES, 3DES or legacy RC2 encryption.

        The certificates may be in any order. Blocks for about 40 ms: use `load_pkcs12` inside an event
        loop.

        Args:
            source: The file's path, or its content as bytes.
            password: The file's password; None when it has none.

        Raises:
            ConfigurationError: The file can't be read, the password is wrong or not text, the private
                key or its certificate is missing, the key is not RSA, or the certificate is not for
                authentication (key usage digitalSignature). Of a file with several keys, only the
                first can be used.
        """
        # The source is hidden too: it may be a key that is not encrypted.
        secret_source, secret = Secret(source), Secret(password)
        del source, password
        return read_pkcs12(secret_source, secret)

    @staticmethod
    def from_pem(
        certificates: bytes | Path, private_key: bytes | Path, *, password: str | None = None
    ) -> "EnterpriseCertificate":
        """Reads the certificate and the private key in PEM form.

        Args:
            certificates: The path of a file, or its content as bytes. It has the certificate and its
                issuers, in any order.
            private_key: The path of a file, or its content as bytes. It may be the same file.
            password: The key's password; None when it has none.

        Raises:
            ConfigurationError: For the same reasons as `from_pkcs12`.
        """
        # `certificates` is hidden too, because it may hold the key as well.
        public, key, secret = Secret(certificates), Secret(private_key), Secret(password)
        del certificates, private_key, password
        public_pem = _content(public, "The certificate's file")
        key_pem = _content(key, "The private key's file")
        return _assemble(_pem_key(key_pem, _encoded(secret)), _pem_certificates(public_pem))

    @property
    def organization_number(self) -> str | None:
        """The organisation number in the certificate's subject; None when there is none."""
        return organization_number_of(self.chain[0])

    @property
    def subject(self) -> str:
        """The certificate's subject as text (RFC 4514)."""
        return name_text(self.chain[0].subject)

    @property
    def organization_name(self) -> str | None:
        """The organisation's name in the certificate's subject; None when there is none."""
        names = self.chain[0].subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(names[0].value) if names else None

    @property
    def issuer(self) -> str:
        """The certificate's issuer as text (RFC 4514)."""
        return name_text(self.chain[0].issuer)

    @property
    def not_before(self) -> datetime:
        """When the certificate becomes valid."""
        return self.chain[0].not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When the certificate expires."""
        return self.chain[0].not_valid_after_utc

    @property
    def key_usage(self) -> tuple[str, ...]:
        """What the key may be used for, such as "digitalSignature" (RFC 5280, 4.2.1.3). Empty: everything."""
        try:
            usage = self.chain[0].extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            return ()
        # The values of the last two are defined only for a key that may be used for keyAgreement.
        uses = _KEY_USES if usage.key_agreement else _KEY_USES[:-2]
        return tuple(name for name, attribute in uses if getattr(usage, attribute))

    @property
    def sha256(self) -> str:
        """The SHA-256 fingerprint of the certificate in DER form, as 64 lower-case hexadecimal digits."""
        return self.chain[0].fingerprint(hashes.SHA256()).hex()

    def missing_issuer(self, anchors: Iterable[bytes] = ()) -> str | None:
        """The issuer whose certificate is missing from the chain, as text; None if the chain ends in a root.

        Args:
            anchors: CA certificates in DER form that may complete the chain, such as trust anchors.

        Raises:
            ValueError: An item of `anchors` is not a certificate in DER form.
        """
        _, missing = complete_chain(self, anchors)
        return missing

    def check(self, now: datetime) -> None:
        """Checks that the certificate is valid at a time.

        Args:
            now: The time to check, with a time zone.

        Raises:
            ConfigurationError: The certificate has expired, or is not valid yet.
        """
        if now > self.not_after:
            renewed = any(
                _is_for_other_key(certificate, self.chain[0])
                and certificate.not_valid_after_utc >= now
                for certificate in self.others
            )
            raise ConfigurationError(
                f"The enterprise certificate expired at {self.not_after.isoformat()}. "
                f"{_SEVERAL_KEYS if renewed else _NEW_ONE}"
            )
        if now < self.not_before:
            raise ConfigurationError(
                "The enterprise certificate is not valid before "
                f"{self.not_before.isoformat()}, but the clock says {now.isoformat()}. Check the "
                "clock of this machine."
            )

    def sign(self, data: bytes) -> bytes:
        """The signature of the data: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2)."""
        return self._private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def __repr__(self) -> str:
        return (
            f"EnterpriseCertificate(organization_number={self.organization_number!r}, "
            f"not_after={self.not_after.isoformat()!r})"
        )


def name_text(name: x509.Name) -> str:
    """A distinguished name for people (RFC 4514), with the name of the attribute that has no short name there."""
    return name.rfc4514_string({NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier"})


def key_size(certificate: EnterpriseCertificate) -> int:
    """The size of the RSA key in bits."""
    return cast("rsa.RSAPublicKey", certificate.chain[0].public_key()).key_size


SANDBOX_CA_ADVICE = (
    "A sandbox makes a new CA at each start, unless it keeps its data in a directory. Use the variables "
    "that it printed at its latest start (in Python: a new `sandbox.client_configuration()`), or start it "
    "with --directory (`Sandbox(directory=...)`), which keeps the CA."
)


def is_from_sandbox(certificate: x509.Certificate) -> bool:
    """Whether the CA of a sandbox issued the certificate, by the issuer's name."""
    issuers = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(issuer.value == "posten-signering sandbox" for issuer in issuers)


def complete_chain(
    certificate: EnterpriseCertificate, anchors: Iterable[bytes]
) -> tuple[tuple[x509.Certificate, ...], str | None]:
    """The chain up to and including a root. Missing issuers are taken from the trust anchors.

    Args:
        certificate: The certificate at the beginning of the chain.
        anchors: Trust anchors in DER form.

    Returns:
        The chain, and the name of the issuer that is still missing. The name is None when the chain
        ends in a root.
    """
    candidates = [*certificate.others, *(x509.load_der_x509_certificate(der) for der in anchors)]
    chain = _chain(certificate.chain[0], candidates)
    return chain, None if _is_root(chain[-1]) else name_text(chain[-1].issuer)


def key_and_chain(
    certificate: EnterpriseCertificate,
    chain: Iterable[x509.Certificate],
    passphrase: Secret[bytes] | None,
) -> Secret[bytes]:
    """The private key and a chain in PEM. With a passphrase, the key is encrypted."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.reveal())
    return Secret(
        certificate._private_key.private_bytes(  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - only this module reads the key
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        + b"".join(issuer.public_bytes(serialization.Encoding.PEM) for issuer in chain)
    )


async def load_pkcs12(source: bytes | str | Path, *, password: str | None) -> EnterpriseCertificate:
    """Reads a PKCS#12 file in a worker thread, so that it does not block the event loop.

    Args:
        source: The file's path, or its content as bytes.
        password: The file's password; None when it has none.

    Raises:
        ConfigurationError: For the same reasons as `EnterpriseCertificate.from_pkcs12`.
    """
    # The source is hidden too: it may be a key that is not encrypted.
    secret_source, secret = Secret(source), Secret(password)
    del source, password
    return await anyio.to_thread.run_sync(read_pkcs12, secret_source, secret)


def _encoded(password: Secret[str | None]) -> Secret[bytes | None]:
    if password.reveal() is None:
        return Secret(None)
    if not isinstance(password.reveal(), str):
        raise ConfigurationError(
            f"The password is of type {type(password.reveal()).__name__}. Give it as text (str), or None "
            "when there is none."
        )
    # "replace", because the error of a strict `encode` would quote the password. It replaces only lone
    # surrogates, which are in no file's password.
    return Secret(cast("Secret[str]", password).reveal().encode(errors="replace"))


def _is_stripped(password: Secret[bytes | None]) -> bool:
    text = Secret((password.reveal() or b"").decode())
    return text.reveal() == text.reveal().strip()


def _hint_at_white_space(password: Secret[bytes | None]) -> str:
    if _is_stripped(password):
        return ""
    return (
        " The password begins or ends with white space, such as the line break at the end of a mounted "
        "secret. Remove it if it is not part of the password."
    )


def _content(source: Secret[bytes | str | Path], what: str) -> Secret[bytes]:
    """The content of a file, or the bytes themselves. No path is shown: it may be a key, by mistake."""
    if isinstance(source.reveal(), bytes):
        return cast("Secret[bytes]", source)
    if isinstance(source.reveal(), str | Path) and "-----BEGIN" in str(source.reveal()):
        raise ConfigurationError(
            f"{what} can't be read: it was given as text in PEM form, where a path or bytes are expected. "
            "Give the content as bytes, for example text.encode(), or the file's path. "
            "EnterpriseCertificate.from_pem reads PEM."
        )
    reason = "not a path or bytes"
    try:
        return Secret(Path(cast("Secret[str | Path]", source).reveal()).read_bytes())
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (TypeError, ValueError):
        pass
    raise ConfigurationError(
        f"{what} can't be read: {reason}. Check the path, or give the content as bytes, decoded if it is "
        "in Base64."
    )


def read_pkcs12(
    source: Secret[bytes | str | Path],
    secret_password: Secret[str | None],
    *,
    argument: str = "`password`",
) -> EnterpriseCertificate:
    """The result of `EnterpriseCertificate.from_pkcs12`.

    Args:
        source: The file's path, or its content as bytes.
        secret_password: The file's password.
        argument: The argument or variable that holds the password, for errors.

    Raises:
        ConfigurationError: For the same reasons as `EnterpriseCertificate.from_pkcs12`.
    """
    password = _encoded(secret_password)
    content = _content(source, "The PKCS#12 file")
    if b"\0" in (password.reveal() or b""):
        # The library panics, with an error that shows the password.
        raise ConfigurationError(
            f"{argument} has a NUL character (U+0000), which no PKCS#12 password can have. Check how "
            "the password was read, for example whether it is text in UTF-16."
        )
    try:
        bundle = _bundle(content, password)
    except (ValueError, UnsupportedAlgorithm):
        bundle = None
    if bundle is None:
        raise ConfigurationError(_fault_of_file(content) or _fault_of_password(password, argument))
    own = [] if bundle.cert is None else [bundle.cert]
    entries = [*own, *bundle.additional_certs]
    return _assemble(bundle.key, [entry.certificate for entry in entries])


def _fault_of_file(content: Secret[bytes]) -> str | None:
    """Why a file can't be read with any password; None if it looks like PKCS#12."""
    if b"-----BEGIN" in content.reveal():
        return (
            "The PKCS#12 file is in PEM form. Read it with EnterpriseCertificate.from_pem, or convert it "
            "with `openssl pkcs12 -export -in OLD -out NEW.p12`."
        )
    if content.reveal().lstrip().startswith(b"MI"):
        return (
            "The PKCS#12 file is in Base64. Decode it first, for example with `base64 -d` or with "
            "base64.b64decode."
        )
    if not content.reveal():
        return "The file is not PKCS#12: it is empty. Copy it again."
    beginning = _PKCS12.match(content.reveal())
    if beginning is None:
        return (
            "The file is not PKCS#12. Use the .p12 or .pfx file that the certificate's issuer delivered, "
            "which has the private key too."
        )
    length = int.from_bytes(next(filter(None, beginning.groups()), b""), "big")
    header = beginning.end() - len(b"\x02\x01\x03\x30")
    if len(content.reveal()) < header + length:
        return (
            f"The file is not PKCS#12 to its end: it has {len(content.reveal())} bytes, and the rest is "
            "missing. Copy it again."
        )
    return None


def _fault_of_password(password: Secret[bytes | None], name: str) -> str:
    """Why the password does not open a file that looks like PKCS#12."""
    if password.reveal() is None:
        return (
            f"The PKCS#12 file can't be opened without a password, and {name} is not set. Set it to the "
            "file's password."
        )
    if not password.reveal():
        return (
            f"The PKCS#12 file can't be opened with an empty password, and {name} is empty. Set it to the "
            "file's password."
        )
    if (password.reveal() or b"").endswith((b"\n", b"\r")):
        return (
            f"{name} ends in a line break, and does not open the PKCS#12 file. Remove the line break, such "
            "as the one at the end of a mounted secret, unless it is part of the password."
        )
    if re.fullmatch(rb"([\"']).*\1", password.reveal() or b"", re.DOTALL):
        return (
            f"{name} is in quotation marks, and does not open the PKCS#12 file. Remove them, unless they are "
            "part of the password. Docker does not remove those in an env file."
        )
    if not _is_stripped(password):
        return (
            f"{name} begins or ends with white space, and does not open the PKCS#12 file. Remove the white "
            "space, unless it is part of the password."
        )
    return (
        f"{name} does not open the PKCS#12 file: the password is wrong, or the file is damaged, or OpenSSL's "
        "configuration forbids its encryption. Check the password and the file."
    )


def _bundle(
    content: Secret[bytes], password: Secret[bytes | None]
) -> pkcs12.PKCS12KeyAndCertificates:
    """Reads a PKCS#12 file without the library's warning that the file is in BER form, as some issuers make it.

    The filter stays. `warnings.catch_warnings` would restore all filters of the process, and so undo
    what other threads do in the meantime. The filter affects only warnings of this module.
    """
    with _READING:
        warnings.filterwarnings(
            "ignore", r"PKCS#12 bundle could not be parsed as DER", UserWarning, re.escape(__name__)
        )
        return pkcs12.load_pkcs12(content.reveal(), password.reveal())


def _pem_certificates(content: Secret[bytes]) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content.reveal())
    except ValueError:
        if b"-----BEGIN CERTIFICATE-----" not in content.reveal():
            return []
    raise ConfigurationError(
        "One of the certificates in PEM form can't be read. Check that the file is complete."
    )


def _pem_key(content: Secret[bytes], password: Secret[bytes | None]) -> object:
    count = len(_PRIVATE_KEY.findall(content.reveal()))
    if count > 1:
        raise ConfigurationError(f"The private_key has {count} private keys. Give exactly one.")
    if count == 0:
        return None
    try:
        # An empty password means none, as for PKCS#12.
        return serialization.load_pem_private_key(content.reveal(), password.reveal() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise ConfigurationError(
        "The private key can't be read: the password is wrong or missing, a password was given for a "
        "key without one, or the key's form is not supported. Check the key and the password."
        f"{_hint_at_white_space(password)}"
    )


def _assemble(key: object, certificates: Sequence[x509.Certificate]) -> EnterpriseCertificate:
    if key is None:
        raise ConfigurationError(
            "The enterprise certificate has no private key. Use a PKCS#12 file that has one, or give it "
            "as the private_key of EnterpriseCertificate.from_pem."
        )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            "The enterprise certificate's key is not an RSA key. The service accepts only RSA keys."
        )
    own = [certificate for certificate in certificates if _has_key(certificate, key.public_key())]
    if not own:
        raise ConfigurationError(
            "No certificate belongs to the private key. Add the certificate that was issued for it."
        )
    # One key may have several certificates, for example one for authentication and one for encryption.
    suitable = [certificate for certificate in own if _usage_problem(certificate) is None]
    leaf = max(suitable or own, key=lambda certificate: certificate.not_valid_after_utc)
    problem = _usage_problem(leaf)
    others = tuple(certificate for certificate in certificates if certificate != leaf)
    if problem is not None:
        different_keys = any(_is_for_other_key(certificate, leaf) for certificate in others)
        raise ConfigurationError(
            f"{problem} {_SEVERAL_KEYS if different_keys else _ADVICE[problem]}"
        )
    return EnterpriseCertificate(chain=_chain(leaf, others), others=others, _private_key=key)


def _has_key(certificate: x509.Certificate, key: rsa.RSAPublicKey) -> bool:
    try:
        return certificate.public_key() == key
    except (ValueError, UnsupportedAlgorithm):
        return False


def _usage_problem(certificate: x509.Certificate) -> str | None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None  # RFC 5280, 4.2.1.3: without the extension, every use of the key is allowed
    except ValueError:
        return _UNREADABLE
    if usage.digital_signature:
        return None
    return _NOT_FOR_AUTHENTICATION


def _is_for_other_key(certificate: x509.Certificate, leaf: x509.Certificate) -> bool:
    """Whether it is the same organisation's certificate for authentication, with a different key.

    Of a PKCS#12 file with several keys, the library gives only the first. It gives the certificates of
    all.
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        return (
            usage.digital_signature
            and not usage.key_cert_sign
            and certificate.public_key() != leaf.public_key()
            and organization_number_of(certificate) == organization_number_of(leaf)
        )
    except (x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm):
        return False


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _chain(
    leaf: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The shortest chain from the leaf to a root. Without a root, the longest chain that was found.

    This is a breadth-first search, because several authorities may have certified the same issuer.
    """
    chain: tuple[x509.Certificate, ...] = (leaf,)
    queue = deque[tuple[x509.Certificate, ...]]([chain])
    visited = {leaf}
    while queue and not _is_root(chain[-1]):
        chain = queue.popleft()
        issuers = [
            candidate
            for candidate in candidates
            if candidate not in visited and _issued(chain[-1], candidate)
        ]
        visited.update(issuers)
        queue.extend((*chain, issuer) for issuer in issuers)
    return chain


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
