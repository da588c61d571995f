"""The trust anchors: the CA certificates whose fingerprints the environment lists. Only `fetch` uses the network.

A candidate is parsed only after its fingerprint has matched, because some public root certificates cause
parser warnings.
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
from importlib import import_module
from itertools import chain
from pathlib import Path

import anyio
import certifi
from anyio import to_thread
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from posten_signering._trust.certificates import (
    SANDBOX_CA_ADVICE,
    EnterpriseCertificate,
    is_from_sandbox,
    name_text,
)
from posten_signering._trust.environment import CertificateAuthority, Environment
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError, TransportError, TransportTimeoutError

_LOGGER = logging.getLogger("posten_signering")

# In bytes. A CA certificate has 1 to 2 KiB.
_LARGEST_FILE = 64 * 1024

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII
)

# The beginning of a certificate (RFC 5280, 4.1): a SEQUENCE in a SEQUENCE, then the version or the
# serial number. Keys, PKCS#7 files and PKCS#12 files begin differently.
_DER = re.compile(
    rb"\x30\x82(?P<length>..)\x30(?:\x82..|\x81.)(?:\xa0\x03\x02\x01|\x02)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrustAnchors:
    """CA certificates that may be trust anchors for the service.

    A candidate is used only if the environment lists its SHA-256 fingerprint, so that test and
    production are never mixed. Candidates are the certificates given here, the CA certificates in your
    `.p12` file, and those of certifi. The system's store is never used. An intermediate certificate is
    enough: its root is not needed.

    Attributes:
        candidates: Certificates in DER form.
        trusted: Certificates in DER form that are trusted without a pinned fingerprint.
    """

    candidates: tuple[bytes, ...] = ()
    trusted: tuple[bytes, ...] = ()

    @staticmethod
    def from_directory(path: str | Path) -> "TrustAnchors":
        """The certificates in a directory's files, in PEM or DER form.

        A file may have several certificates in PEM form. Subdirectories, and files whose names begin
        with a dot, are skipped.

        Raises:
            ConfigurationError: The directory or a file can't be read, or a file holds no certificate.
        """
        _check_is_path(path)
        try:
            entries = sorted(Path(path).iterdir())
            files = [
                entry for entry in entries if not entry.name.startswith(".") and not entry.is_dir()
            ]
        except OSError as error:
            raise ConfigurationError(
                f"The directory of trust anchors {path} can't be read: {error.strerror}. Check the path."
            ) from error
        return TrustAnchors.from_files(*files)

    @staticmethod
    def from_files(*paths: str | Path) -> "TrustAnchors":
        """The certificates in these files, in PEM or DER form.

        Raises:
            ConfigurationError: A file can't be read, or a file holds no certificate.
        """
        by_path = {path: tuple(_certificates_in(_read(path))) for path in paths}
        empty = [str(path) for path, certificates in by_path.items() if not certificates]
        if empty:
            # Not skipped: a missing trust anchor would cause a failure much later.
            raise ConfigurationError(
                "These files of trust anchors hold no certificate in PEM or DER form: "
                f"{', '.join(empty)}. Remove them, or list the other files in TrustAnchors.from_files."
            )
        return TrustAnchors(candidates=tuple(chain.from_iterable(by_path.values())))

    @staticmethod
    def from_pem(content: bytes) -> "TrustAnchors":
        """The certificates in PEM form in these bytes, for example from a secret store.

        Raises:
            ConfigurationError: The content is not bytes, or holds no certificate.
        """
        _check_is_bytes(content)
        certificates = tuple(_certificates_in(content))
        if not certificates:
            raise ConfigurationError(
                "The content given to TrustAnchors.from_pem holds no certificate. Give certificates in PEM form."
            )
        return TrustAnchors(candidates=certificates)

    def trusting(self, *certificates: bytes | str | Path) -> "TrustAnchors":
        """These trust anchors, and more certificates that are trusted without a pinned fingerprint.

        Trust only certificates that you know. With the key of a trusted CA certificate, anyone can
        issue a certificate that the client accepts as the service's.

        Args:
            certificates: The paths of files, or their content as bytes, in PEM or DER form.

        Raises:
            ConfigurationError: A file can't be read, or holds something other than certificates.
        """
        contents = [
            source if isinstance(source, bytes) else _read(source) for source in certificates
        ]
        groups = [tuple(_certificates_in(content)) for content in contents]
        trusted = tuple(chain.from_iterable(groups))
        if not all(groups) or not all(_parsed(der) for der in trusted):
            raise ConfigurationError(
                "An argument of TrustAnchors.trusting is not a certificate in PEM or DER form. Check "
                "each argument."
            )
        return TrustAnchors(candidates=self.candidates, trusted=(*self.trusted, *trusted))

    @staticmethod
    async def fetch(
        environment: Environment,
        *,
        proxy: str | None = None,
        timeout: timedelta = timedelta(seconds=10),  # noqa: ASYNC109 - a limit for each file, not for the call
    ) -> "TrustAnchors":
        """Downloads the environment's CA certificates from the URLs where their issuers publish them.

        The URLs may be plain HTTP, because the fingerprints are checked. Certificates that do not
        match or can't be downloaded are skipped, with a WARNING in the log. Save the result with
        `write_to`, instead of downloading at every start.

        Args:
            environment: The environment whose CA certificates are downloaded.
            proxy: The http or https URL of a proxy. It may contain user and password.
            timeout: The time limit for each file.

        Raises:
            ConfigurationError: No certificate could be downloaded, or the proxy's URL can't be used.
        """
        hidden = None if proxy is None else Secret(proxy)
        del proxy
        # Importing httpx would block the event loop for about 0.1 seconds.
        await to_thread.run_sync(import_module, "posten_signering._http.fetch")
        from posten_signering._http import fetch, transport  # noqa: PLC0415 - see above

        transport.httpx_proxy(hidden)
        by_sha256: dict[str, bytes] = {}
        unused_proxies: list[str] = []

        async def fetch_one(authority: CertificateAuthority, url: str) -> None:
            try:
                content = await fetch.fetch_file(
                    url, limit=_LARGEST_FILE, seconds=timeout.total_seconds(), proxy=hidden
                )
            except TransportError as error:
                _LOGGER.warning(
                    "The CA certificate %s could not be downloaded from %s: %s",
                    authority.name,
                    url,
                    error,
                )
                may_need_proxy = not error.request_may_have_left or isinstance(
                    error, TransportTimeoutError
                )
                if hidden is None and may_need_proxy:
                    unused_proxies.extend(filter(None, [transport.unused_proxy(url)]))
                return
            matching = [
                der for der in _certificates_in(content) if _sha256(der) == authority.sha256
            ]
            if matching:
                by_sha256[authority.sha256] = matching[0]
            else:
                _LOGGER.warning(
                    "The CA certificate %s was not accepted: the file at %s has a different fingerprint.",
                    authority.name,
                    url,
                )

        async with anyio.create_task_group() as tasks:
            for authority in environment.authorities:
                if authority.published_at is not None:
                    tasks.start_soon(fetch_one, authority, authority.published_at)
        if not by_sha256:
            hint = (
                f"The variable {unused_proxies[0]} is set, but is not used: if the URLs must be reached "
                "through that proxy, give its URL as `proxy`. "
                if unused_proxies
                else ""
            )
            raise ConfigurationError(
                f"None of the CA certificates of {environment.name} could be downloaded. The log "
                f"shows each failed download. {hint}{_how_to_download(environment)}"
            )
        in_order = [authority.sha256 for authority in environment.authorities]
        return TrustAnchors(
            candidates=tuple(by_sha256[sha256] for sha256 in in_order if sha256 in by_sha256)
        )

    def write_to(self, directory: str | Path) -> None:
        """Writes each certificate to its own file, for `from_directory` to read.

        The name of a file is the beginning of the certificate's SHA-256 fingerprint, with the ending `.cer`.

        Args:
            directory: The directory. It is created, with its parents, if it does not exist.

        Raises:
            ConfigurationError: The directory can't be created or written to.
        """
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
            for der in (*self.candidates, *self.trusted):
                Path(directory, f"{_sha256(der)[:16]}.cer").write_bytes(der)
        except OSError as error:
            raise ConfigurationError(
                f"The trust anchors can't be written to {directory}: {error.strerror}. Check that the "
                "path is a writable directory."
            ) from error

    def select(
        self, environment: Environment, *, certificate: EnterpriseCertificate | None
    ) -> tuple[bytes, ...]:
        """The trust anchors for an environment, in DER form, without duplicates. Reads certifi's file.

        Raises:
            ConfigurationError: There is no trust anchor. The message says where to get them.
        """
        own = () if certificate is None else certificate.others
        candidates = (
            *self.candidates,
            *(ca_certificate.public_bytes(Encoding.DER) for ca_certificate in own),
            *_certifi_certificates(),
        )
        fingerprints = {authority.sha256 for authority in environment.authorities}
        pinned = [der for der in candidates if _sha256(der) in fingerprints]
        anchors = tuple(dict.fromkeys((*pinned, *self.trusted)))
        if not anchors:
            note = unpinned(self, environment)
            raise ConfigurationError(
                f"There is no trust anchor for {environment.name}: no certificate has one of its "
                f"fingerprints. {'' if note is None else f'{note} '}{_where_to_get_anchors(environment)}"
            )
        return anchors

    def __repr__(self) -> str:
        return f"TrustAnchors({len(self.candidates)} candidates, {len(self.trusted)} trusted)"


def unpinned(given: TrustAnchors, environment: Environment) -> str | None:
    """A sentence about certificates of which the environment uses none; None if it uses one, or none was given."""
    fingerprints = {_sha256(der) for der in given.candidates}

    def pins(other: Environment) -> bool:
        return any(authority.sha256 in fingerprints for authority in other.authorities)

    if not fingerprints or pins(environment):
        return None
    owners = [other.name for other in (Environment.PRODUCTION, Environment.STAGING) if pins(other)]
    advice = f"They belong to {owners[0]}: c" if owners else "C"
    return (
        f"The TrustAnchors were given {len(fingerprints)} certificate(s), but {environment.name} uses none "
        f"of them, because their fingerprints are not pinned for it. {advice}heck the environment and the "
        "files."
    )


def explain_untrusted(
    environment: Environment,
    anchors: Iterable[bytes],
    sent: Iterable[bytes],
    *,
    expired: Iterable[bytes] = (),
    note: str | None = None,
) -> str:
    """The reason why a chain from the service ends in no trust anchor, and what to do.

    Args:
        environment: The client's environment.
        anchors: The client's trust anchors, in DER form.
        sent: The certificates that the service sent, in DER form, its own first.
        expired: Trust anchors that the client does not use because they have expired, in DER form.
        note: The result of `unpinned` for the client's TrustAnchors.
    """
    return f"{'' if note is None else f'{note} '}{_reason(environment, anchors, sent, expired)}"


def _reason(
    environment: Environment,
    anchors: Iterable[bytes],
    sent: Iterable[bytes],
    expired: Iterable[bytes],
) -> str:
    certificates = [certificate for certificate in map(_parsed, sent) if certificate is not None]
    issuers = [certificate.issuer for certificate in certificates]
    from_sandbox = any(map(is_from_sandbox, certificates))
    known, unused = _subjects(anchors), _subjects(expired)
    if not issuers:
        return f"The missing issuer is not known. {_where_to_get_anchors(environment)}"
    if any(issuer in known for issuer in issuers):
        return (
            "Its issuer is among the trust anchors, so check the clock of this machine, and whether "
            "the trust anchor is a different certificate with the same name. Otherwise the service's "
            f"certificate itself is not valid.{f' {SANDBOX_CA_ADVICE}' if from_sandbox else ''}"
        )
    for issuer in issuers:
        if issuer in unused:
            return (
                f"Its issuer “{_common_name(issuer)}” is a trust anchor that has expired, so the client does "
                "not use it. Add its successor to the TrustAnchors, or correct the clock of this machine."
            )
    missing = [_common_name(issuer) for issuer in issuers]
    return _reason_for_missing(environment, missing, from_sandbox=from_sandbox)


def _reason_for_missing(environment: Environment, missing: list[str], *, from_sandbox: bool) -> str:
    if from_sandbox:
        return (
            f"Its issuer “{missing[0]}” is the CA of a sandbox, and not one of the client's trust "
            f"anchors. {SANDBOX_CA_ADVICE}"
        )
    for name in missing:
        for authority in environment.authorities:
            if authority.name == name:
                return (
                    f"The trust anchor “{name}” is missing. {_how_to_get(environment, authority)}"
                )
    for other in (Environment.PRODUCTION, Environment.STAGING):
        if any(authority.name in missing for authority in other.authorities):
            return (
                f"Its issuer “{missing[0]}” belongs to {other.name}, but the client is configured for "
                f"{environment.name}. Check the environment and its service_root."
            )
    return (
        f"Its issuer “{missing[0]}” is not an authority of {environment.name}. Check the "
        "service_root, and whether a proxy or firewall decrypts TLS connections. If you know the "
        "issuer, trust it with TrustAnchors.trusting(...)."
    )


def _subjects(ders: Iterable[bytes]) -> list[x509.Name]:
    return [certificate.subject for certificate in map(_parsed, ders) if certificate is not None]


def _how_to_get(environment: Environment, authority: CertificateAuthority) -> str:
    if authority.published_at is None:
        return (
            "It is published at no fixed URL. Ask its issuer for the certificate with SHA-256 "
            f"{authority.sha256}, and add the file to the TrustAnchors."
        )
    return (
        f"It is published at {authority.published_at}. Add the file to the TrustAnchors, or use "
        f"`await TrustAnchors.fetch(...)` for {environment.name}."
    )


def _where_to_get_anchors(environment: Environment) -> str:
    if not _published(environment):
        return _how_to_download(environment)
    return f"Use `await TrustAnchors.fetch(...)`. {_how_to_download(environment, 'Or download')}"


def _how_to_download(environment: Environment, download: str = "Download") -> str:
    published = _published(environment)
    if not published:
        return "Give certificates that you trust to TrustAnchors.trusting(...)."
    return (
        f"{download} the files, for example with a browser, and read them with TrustAnchors.from_directory. "
        f"They are published at: {', '.join(published)}."
    )


def _published(environment: Environment) -> list[str]:
    return [
        f"{authority.published_at} ({authority.name})"
        for authority in environment.authorities
        if authority.published_at is not None
    ]


def _check_is_path(path: object) -> None:
    """The error for what is no path does not show it: it may be the content of a file, with a key."""
    if not isinstance(path, str | Path):
        raise ConfigurationError(
            f"A path of trust anchors is of type {type(path).__name__}. Give a str or a Path, or give the "
            "content as bytes to TrustAnchors.from_pem or TrustAnchors.trusting."
        )
    if "-----BEGIN" in str(path) or "\0" in str(path):
        raise ConfigurationError(
            "A path of trust anchors is the content of a file, or has a NUL character. Give the path, or "
            "give the content as bytes, for example text.encode(), to TrustAnchors.from_pem or "
            "TrustAnchors.trusting."
        )


def _check_is_bytes(content: object) -> None:
    if not isinstance(content, bytes):
        raise ConfigurationError(
            f"The content given to TrustAnchors.from_pem is of type {type(content).__name__}. Give "
            "bytes, for example text.encode()."
        )


def _read(path: str | Path) -> bytes:
    _check_is_path(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The trust anchor {path} can't be read: {error.strerror}. Check the path."
        ) from error


def _certificates_in(content: bytes) -> Iterator[bytes]:
    """The certificates in a file's content, in DER form."""
    der = _DER.match(content)
    if der is not None and len(content) == 4 + int.from_bytes(der["length"], "big"):
        yield content
    for match in _PEM.finditer(content):
        try:
            yield base64.b64decode(b"".join(match[1].split()), validate=True)
        except binascii.Error:
            continue


@cache
def _certifi_certificates() -> tuple[bytes, ...]:
    """The certificates of certifi in DER form, read once."""
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
    return str(names[0].value) if names else name_text(name)
