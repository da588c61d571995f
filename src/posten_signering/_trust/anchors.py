"""Which CA certificates may vouch for the service: those whose fingerprints the environment pins.

Reads the files it is given; `fetch` alone uses the network. Candidates are hashed first, and only
what matches is ever parsed: public root stores hold certificates that make parsers complain.
"""

import base64
import binascii
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import anyio
import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from posten_signering._http.fetch import fetch_file
from posten_signering._http.transport import httpx_proxy
from posten_signering._trust.certificates import EnterpriseCertificate
from posten_signering._trust.environment import CertificateAuthority, Environment
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError, TransportError

_LOGGER = logging.getLogger("posten_signering")

# A CA certificate takes 1 to 2 KiB.
_LARGEST_FILE = 64 * 1024

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)

# How a certificate begins (RFC 5280, 4.1): a SEQUENCE in a SEQUENCE, then the version or the serial
# number. A key, a PKCS#7 and a PKCS#12 file begin otherwise.
_DER = re.compile(
    rb"\x30\x82(?P<length>..)\x30(?:\x82..|\x81.)(?:\xa0\x03\x02\x01|\x02)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrustAnchors:
    """CA certificates that may vouch for the service.

    Of the candidates only those are used whose SHA-256 fingerprint the environment pins, so test and
    production never mix. Candidates come from here, from the CA certificates in your own `.p12` and
    from certifi; the system's store is never used. An intermediate is enough: a chain need not reach
    its root.

    Attributes:
        candidates: Certificates in DER form.
        trusted: Certificates in DER form that are trusted whatever the environment pins.
    """

    candidates: tuple[bytes, ...] = ()
    trusted: tuple[bytes, ...] = ()

    @staticmethod
    def from_directory(path: str | Path) -> "TrustAnchors":
        """Every file of a directory, each with one or more certificates in PEM or DER form.

        Subdirectories and names that begin with a dot are passed over.

        Raises:
            ConfigurationError: It is no directory, a file can't be read, or files hold something
                else than certificates; each is named, since an anchor that is silently left out shows
                only much later.
        """
        try:
            files = sorted(each for each in Path(path).iterdir() if not each.name.startswith("."))
            files = [each for each in files if not each.is_dir()]
        except OSError as error:
            raise ConfigurationError(
                f"The directory of trust anchors {path} can't be read: {error.strerror}."
            ) from error
        return TrustAnchors.from_files(*files)

    @staticmethod
    def from_files(*paths: str | Path) -> "TrustAnchors":
        """The files given, each with one or more certificates in PEM or DER form.

        Raises:
            ConfigurationError: A file can't be read, or files hold no certificate; each is named.
        """
        found = {path: tuple(_certificates_in(_read(path))) for path in paths}
        empty = [str(path) for path, certificates in found.items() if not certificates]
        if empty:
            raise ConfigurationError(
                "Among the trust anchors are files that hold no certificate in PEM or DER form: "
                f"{', '.join(empty)}. Remove them, or give the files one by one (from_files)."
            )
        return TrustAnchors(candidates=tuple(each for group in found.values() for each in group))

    @staticmethod
    def from_pem(content: bytes) -> "TrustAnchors":
        """The certificates in a text in PEM form, as kept in a secret store.

        Raises:
            ConfigurationError: It holds no certificate.
        """
        found = tuple(_certificates_in(content))
        if not found:
            raise ConfigurationError("The trust anchors hold no certificate in PEM form.")
        return TrustAnchors(candidates=found)

    def trusting(self, *certificates: bytes | str | Path) -> "TrustAnchors":
        """These anchors, and certificates of your own choice that are trusted without a pin.

        Args:
            certificates: Each a file's path or its content, in PEM or DER form. Whoever holds the
                key of one can pass for the service, if the organisation number is right.

        Raises:
            ConfigurationError: One can't be read, or holds no certificate.
        """
        contents = [each if isinstance(each, bytes) else _read(each) for each in certificates]
        found = [tuple(_certificates_in(each)) for each in contents]
        if not all(found) or not all(_parsed(each) for group in found for each in group):
            raise ConfigurationError(
                "What is to be trusted is not a certificate in PEM or DER form."
            )
        return TrustAnchors(
            candidates=self.candidates,
            trusted=(*self.trusted, *(each for group in found for each in group)),
        )

    @staticmethod
    async def fetch(
        environment: Environment,
        *,
        proxy: str | None = None,
        timeout: timedelta = timedelta(seconds=10),  # noqa: ASYNC109 - a bound for each file, not for the call
    ) -> "TrustAnchors":
        """Downloads the environment's CA certificates from where their issuers publish them.

        Plain HTTP is usual there; the pinned fingerprints protect. What does not match is thrown
        away, what is missing is passed over with a log line at WARNING. Keep the result
        (`write_to`) rather than fetching at every start.

        Args:
            environment: Whose CA certificates.
            proxy: An http or https URL of a proxy, which may carry user and password.
            timeout: How long each file may take.

        Raises:
            ConfigurationError: None of them could be had, or the proxy's URL can't be used.
        """
        hidden = None if proxy is None else Secret(proxy)
        del proxy
        httpx_proxy(hidden)
        found: dict[str, bytes] = {}

        async def fetch_one(authority: CertificateAuthority, address: str) -> None:
            try:
                content = await fetch_file(
                    address, limit=_LARGEST_FILE, seconds=timeout.total_seconds(), proxy=hidden
                )
            except TransportError as error:
                _LOGGER.warning("%s was not fetched from %s: %s", authority.name, address, error)
                return
            matching = [
                each for each in _certificates_in(content) if _sha256(each) == authority.sha256
            ]
            if matching:
                found[authority.sha256] = matching[0]
            else:
                _LOGGER.warning(
                    "%s was not fetched: what is at %s has another fingerprint",
                    authority.name,
                    address,
                )

        async with anyio.create_task_group() as tasks:
            for authority in environment.authorities:
                if authority.published_at is not None:
                    tasks.start_soon(fetch_one, authority, authority.published_at)
        if not found:
            raise ConfigurationError(
                f"None of the CA certificates of {environment.name} could be fetched. "
                + _where_published(environment)
            )
        pins = [each.sha256 for each in environment.authorities]
        return TrustAnchors(candidates=tuple(found[pin] for pin in pins if pin in found))

    def write_to(self, directory: str | Path) -> None:
        """Writes each certificate to a file of its own, to be read with `from_directory`.

        Raises:
            ConfigurationError: The directory can't be made or written to.
        """
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
            for each in (*self.candidates, *self.trusted):
                Path(directory, f"{_sha256(each)[:16]}.cer").write_bytes(each)
        except OSError as error:
            raise ConfigurationError(
                f"The trust anchors can't be written to {directory}: {error.strerror}."
            ) from error

    def select(
        self, environment: Environment, *, certificate: EnterpriseCertificate | None
    ) -> tuple[bytes, ...]:
        """The anchors for an environment, in DER form, without doubles. Reads certifi's file.

        Raises:
            ConfigurationError: There is none. The message says where to get them.
        """
        own = () if certificate is None else certificate.others
        candidates = (
            *self.candidates,
            *(each.public_bytes(Encoding.DER) for each in own),
            *_public_authorities(),
        )
        pins = {each.sha256 for each in environment.authorities}
        pinned = [each for each in candidates if _sha256(each) in pins]
        anchors = tuple(dict.fromkeys((*pinned, *self.trusted)))
        if not anchors:
            raise ConfigurationError(
                f"There is no trust anchor for {environment.name}: none of the certificates given has "
                f"one of its fingerprints. {_where_published(environment)}"
            )
        return anchors

    def __repr__(self) -> str:
        return f"TrustAnchors({len(self.candidates)} candidates, {len(self.trusted)} trusted)"


def explain_untrusted(
    environment: Environment, anchors: Iterable[bytes], sent: Iterable[bytes]
) -> str:
    """Why a chain that the service sent leads to no anchor, and what to do, in words.

    Args:
        environment: The client's environment.
        anchors: Its trust anchors, in DER form.
        sent: The certificates that came from the other side, in DER form, its own first.
    """
    issuers = [each.issuer for each in map(_parsed, sent) if each is not None]
    known = [each.subject for each in map(_parsed, anchors) if each is not None]
    if not issuers:
        return f"Which issuer is missing can't be told. {_where_published(environment)}"
    if any(each in known for each in issuers):
        return (
            "Its issuer is among the trust anchors, so the certificate itself is at fault, or the "
            "clock of this machine, or the anchor is another one of the same name."
        )
    missing = [_common_name(each) for each in issuers]
    for name in missing:
        for authority in environment.authorities:
            if authority.name == name:
                return f"It lacked the anchor “{name}”. {_how_to_get(environment, authority)}"
    for other in (Environment.PRODUCTION, Environment.STAGING):
        if any(each.name in missing for each in other.authorities):
            return (
                f"Its issuer “{missing[0]}” belongs to {other.name}, and the client is set up for "
                f"{environment.name}: check the environment and the service root."
            )
    return (
        f"Its issuer “{missing[0]}” is not one of {environment.name}: check the service root, and "
        "whether something on the way opens TLS connections. An issuer that you know can be trusted "
        "by name: TrustAnchors.trusting(...)."
    )


def _how_to_get(environment: Environment, authority: CertificateAuthority) -> str:
    if authority.published_at is None:
        return (
            "Its issuer publishes it at no fixed address: ask the issuer for the certificate with "
            f"SHA-256 {authority.sha256}, and add the file to the TrustAnchors."
        )
    return (
        f"It is published at {authority.published_at}: add the file to the TrustAnchors, or use "
        f"`await TrustAnchors.fetch(...)` for {environment.name}."
    )


def _where_published(environment: Environment) -> str:
    published = [each for each in environment.authorities if each.published_at is not None]
    if not published:
        return "Name certificates that you know: TrustAnchors.trusting(...)."
    listed = ", ".join(f"{each.published_at} ({each.name})" for each in published)
    return (
        f"Get them with `await TrustAnchors.fetch(...)`, or as files for TrustAnchors.from_directory "
        f"from where they are published: {listed}."
    )


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The trust anchor {path} can't be read: {error.strerror}."
        ) from error


def _certificates_in(content: bytes) -> Iterator[bytes]:
    """The certificates in a file, in DER form; nothing where there is none."""
    der = _DER.match(content)
    if der is not None and len(content) == 4 + int.from_bytes(der["length"], "big"):
        yield content
    for match in _PEM.finditer(content):
        try:
            yield base64.b64decode(b"".join(match[1].split()), validate=True)
        except binascii.Error:
            continue


@cache
def _public_authorities() -> tuple[bytes, ...]:
    """The certificates of certifi, read once."""
    return tuple(_certificates_in(Path(certifi.where()).read_bytes()))


def _sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _common_name(name: x509.Name) -> str:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else name.rfc4514_string()
