"""The commands `trust-anchors list`, `fetch` and `verify`."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from posten_signering import (
    CertificateAuthority,
    EnterpriseCertificate,
    Environment,
    TrustAnchors,
)
from posten_signering._cli.options import DEFAULT_SERVICE, AsJson, ServiceOptions
from posten_signering._cli.output import Output
from posten_signering._cli.setup.authorities import Authority, at_hand, authorities_in
from posten_signering._cli.setup.marks import mark
from posten_signering._cli.setup.settings import Setting, given, known_installation, password, proxy
from posten_signering._cli.status import ExitStatus
from posten_signering.errors import ConfigurationError

trust_anchors = App(
    name="trust-anchors",
    help="Lists, downloads and checks the CA certificates that may vouch for the service.\n\n"
    "Example: posten-signering trust-anchors list --environment staging",
)


# What the message of a failed download names, and what a user of the command types.
_OPTIONS = {
    "read them with TrustAnchors.from_directory": "give their directory to --trust-anchors",
    "give its URL as `proxy`": "use --proxy-file or POSTEN_SIGNERING_PROXY",
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An authority of an environment.

    Attributes:
        name: The common name of its subject.
        issuer: The common name of its issuer; None if it is self-signed.
        sha256: The pinned fingerprint.
        published_at: Where the issuer publishes the certificate; None if nowhere.
        validity: Until when the certificate is valid, or that it is not at hand.
    """

    name: str
    issuer: str | None
    sha256: str
    published_at: str | None
    validity: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """An authority whose certificate was to be downloaded.

    Attributes:
        name: The common name of its subject.
        sha256: The pinned fingerprint.
        file: Where the certificate was written; None if it was not downloaded.
        problem: Why it was not downloaded; None if it was.
    """

    name: str
    sha256: str
    file: str | None
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A certificate in a file of trust anchors, or a file without one.

    Attributes:
        file: The path of the file.
        name: The common name of its subject; None if no environment pins it.
        sha256: Its fingerprint; None if there is no certificate.
        usable: Whether it is a valid trust anchor of the environment.
        expired: Whether it is a trust anchor of the environment that is not valid at present.
        finding: What it is, and its validity or why it is not used.
    """

    file: str
    name: str | None
    sha256: str | None
    usable: bool
    expired: bool
    finding: str


@trust_anchors.command(name="list")
def list_(*, service: ServiceOptions = DEFAULT_SERVICE, as_json: AsJson = False) -> None:
    """Lists the pinned trust anchors of the environment.

    Each has its SHA-256 fingerprint, its issuer, and the URL where it is published. Its validity is shown if the certificate is at hand: in certifi, in the file of --certificate, or in --trust-anchors.

    Example: posten-signering trust-anchors list --environment staging
    """
    settings = given(service)
    environment = known_installation(settings)
    at_hand = _at_hand(settings, environment)
    rows = listed(environment, at_hand, now=datetime.now(UTC))
    text = Text("\n").join(
        Text(
            f"{row.name}\n    SHA-256: {row.sha256}\n    issuer: {row.issuer or 'self-signed'}\n"
            f"    published at: {row.published_at or 'no fixed URL'}\n    {row.validity}"
        )
        for row in rows
    )
    Output(as_json=as_json).result([asdict(row) for row in rows], text)


@trust_anchors.command
async def fetch(
    directory: Path,
    /,
    *,
    sha256: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    service: ServiceOptions = DEFAULT_SERVICE,
    as_json: AsJson = False,
) -> int:
    """Downloads the trust anchors of the environment, and checks their fingerprints.

    The exit status is 1 if a certificate could not be downloaded that is published at a fixed URL.

    Example: posten-signering trust-anchors fetch anchors --environment staging

    Args:
        directory: Where the certificates are written, each to a file of its own.
        sha256: Download only the certificate whose fingerprint begins like this. May be repeated.
    """
    settings = given(service)
    environment = selected(known_installation(settings), sha256)
    output = Output(as_json=as_json)
    through = proxy(settings)
    anchors, failed = TrustAnchors(), False
    try:
        anchors = await TrustAnchors.fetch(environment, proxy=through.reveal())
        anchors.write_to(directory)
    except ConfigurationError as error:
        failed = True
        message = str(error)
        for in_python, option in _OPTIONS.items():
            message = message.replace(in_python, option)
        output.error(message)
    rows = fetched(environment, anchors, directory)
    text = Text("\n").join(
        _marked(f"{row.name}: {row.file or row.problem}", good=row.file is not None) for row in rows
    )
    output.result([asdict(row) for row in rows], text)
    published = {
        authority.sha256 for authority in environment.authorities if authority.published_at
    }
    complete = all(row.file is not None for row in rows if row.sha256 in published)
    return ExitStatus.SUCCESS if complete and not failed else ExitStatus.FAILURE


@trust_anchors.command
def verify(
    path: Path, /, *, service: ServiceOptions = DEFAULT_SERVICE, as_json: AsJson = False
) -> int:
    """Checks the files of a directory: which trust anchors they are, and whether they are valid.

    The exit status is 1 if no file is a trust anchor of the environment, or one is expired.

    Example: posten-signering trust-anchors verify anchors --environment staging

    Args:
        path: A directory with CA certificates, or one file.
    """
    environment = known_installation(given(service))
    now = datetime.now(UTC)
    rows = [row for file in _files(path) for row in verified(file, environment, now=now)]
    text = Text("\n").join(
        _marked(
            f"{row.file}: {row.finding}", good=row.usable if row.usable or row.expired else None
        )
        for row in rows
    )
    Output(as_json=as_json).result(
        [asdict(row) for row in rows], text or "The directory has no file."
    )
    good = any(row.usable for row in rows) and not any(row.expired for row in rows)
    return ExitStatus.SUCCESS if good else ExitStatus.FAILURE


def listed(
    environment: Environment, at_hand: Sequence[Authority], *, now: datetime
) -> list[Listed]:
    """The authorities of an environment.

    Args:
        environment: The environment.
        at_hand: The certificates that are at hand.
        now: The current time.
    """
    validity = {certificate.sha256: certificate.validity(now) for certificate in at_hand}
    return [
        Listed(
            name=authority.name,
            issuer=authority.issuer,
            sha256=authority.sha256,
            published_at=authority.published_at,
            validity=validity.get(authority.sha256, "not at hand, so its validity is not known"),
        )
        for authority in environment.authorities
    ]


def selected(environment: Environment, prefixes: Sequence[str]) -> Environment:
    """The environment with only the authorities whose fingerprints begin like this; all if none is given.

    Raises:
        ConfigurationError: No fingerprint begins like this.
    """
    if not prefixes:
        return environment
    chosen: list[CertificateAuthority] = []
    for prefix in prefixes:
        digits = prefix.replace(":", "").lower()
        matching = [
            authority
            for authority in environment.authorities
            if authority.sha256.startswith(digits)
        ]
        if not matching or not digits:
            raise ConfigurationError(
                f"No trust anchor of {environment.name} has a fingerprint that begins with the --sha256 "
                f"{prefix!r}. `posten-signering trust-anchors list` shows the fingerprints."
            )
        chosen += matching
    return replace(environment, authorities=list(dict.fromkeys(chosen)))


def fetched(environment: Environment, anchors: TrustAnchors, directory: Path) -> list[Fetched]:
    """What was downloaded and written to a directory, and what was not.

    Args:
        environment: The environment whose authorities were to be downloaded.
        anchors: What was downloaded.
        directory: Where it was written.
    """
    downloaded = {anchor.sha256 for anchor in authorities_in(anchors.candidates)}
    rows: list[Fetched] = []
    for authority in environment.authorities:
        file = problem = None
        if authority.sha256 in downloaded:
            file = str(directory / f"{authority.sha256[:16]}.cer")
        elif authority.published_at is None:
            problem = f"not downloaded, because it is published at no fixed URL. Ask its issuer for the certificate with SHA-256 {authority.sha256}"
        else:
            problem = f"not downloaded from {authority.published_at}"
        rows.append(
            Fetched(name=authority.name, sha256=authority.sha256, file=file, problem=problem)
        )
    return rows


def verified(file: Path, environment: Environment, *, now: datetime) -> list[Verified]:
    """The certificates in a file: what they are, and whether they can be used.

    Args:
        file: The path of a file.
        environment: The environment that they are for.
        now: The current time.
    """
    try:
        certificates = TrustAnchors.from_files(file).candidates
    except ConfigurationError:
        finding = "not used: it can't be read, or it has no certificate in PEM or DER form"
        return [
            Verified(
                file=str(file), name=None, sha256=None, usable=False, expired=False, finding=finding
            )
        ]
    return [_verified(file, der, environment, now) for der in certificates]


def _verified(file: Path, der: bytes, environment: Environment, now: datetime) -> Verified:
    sha256 = hashlib.sha256(der).hexdigest()
    owners = [
        known.name
        for known in (Environment.PRODUCTION, Environment.STAGING, environment)
        if sha256 in {authority.sha256 for authority in known.authorities}
    ]
    # Parsed only if it is pinned, because some public root certificates cause warnings.
    [anchor] = authorities_in([der]) if owners else [None]
    usable = expired = False
    if anchor is None:
        finding = f"not used: no environment pins its fingerprint {sha256}"
    elif environment.name in owners:
        finding = f"{anchor.name} of {environment.name}, {anchor.validity(now)}"
        usable = anchor.is_valid(now)
        expired = not usable
    else:
        finding = f"{anchor.name} of {owners[0]}, not used in {environment.name}"
    return Verified(
        file=str(file),
        name=None if anchor is None else anchor.name,
        sha256=sha256,
        usable=usable,
        expired=expired,
        finding=finding,
    )


def _files(path: Path) -> list[Path]:
    """The file, or the files that `TrustAnchors.from_directory` reads."""
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        return sorted(
            file for file in path.iterdir() if not file.name.startswith(".") and not file.is_dir()
        )
    except OSError as error:
        raise ConfigurationError(
            f"{path} can't be read: {error.strerror}. Check the path."
        ) from error


def _at_hand(settings: Mapping[str, Setting], environment: Environment) -> tuple[Authority, ...]:
    """The certificates of the environment in certifi, in the enterprise certificate's file and in the given ones.

    Raises:
        ConfigurationError: A given file can't be read.
    """
    given_anchors, certificate = TrustAnchors(), None
    if "trust_anchors" in settings:
        path = Path(settings["trust_anchors"].value.reveal())
        given_anchors = TrustAnchors.from_files(*_files(path))
    if "certificate" in settings:
        file = Path(settings["certificate"].value.reveal())
        certificate = EnterpriseCertificate.from_pkcs12(
            file, password=password(settings, ask_for=file).reveal()
        )
    return at_hand(given_anchors, environment, certificate)


def _marked(line: str, *, good: bool | None) -> Text:
    if good is None:
        return Text(f"- {line}")
    sign = mark(sys.stdout.encoding, good=good)
    return Text.assemble((sign, "green" if good else "red"), f" {line}")
