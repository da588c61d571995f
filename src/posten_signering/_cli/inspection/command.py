"""The command `inspect`: recognises a file by its content, and describes it."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.text import Text

from posten_signering import Secret, TrustAnchors
from posten_signering._cli.inspection.certificates import (
    inspect_certificates,
    inspect_pkcs12,
    is_certificate,
)
from posten_signering._cli.inspection.container import inspect_container
from posten_signering._cli.inspection.report import Report
from posten_signering._cli.inspection.signatures import inspect_xml
from posten_signering._cli.options import DEFAULT_SERVICE, AsJson, ServiceOptions
from posten_signering._cli.output import Output
from posten_signering._cli.setup.marks import mark
from posten_signering._cli.setup.settings import (
    Setting,
    given,
    installation,
    password,
    password_source,
)
from posten_signering._cli.status import ExitStatus
from posten_signering.errors import ConfigurationError

_LARGEST_FILE = 64 * 1024 * 1024


def inspect(
    file: Path, /, *, service: ServiceOptions = DEFAULT_SERVICE, as_json: AsJson = False
) -> int:
    """Shows what is in a file, and whether it is valid.

    The file may be an enterprise certificate (.p12), a certificate in PEM or DER form, a container (ASiC-E), a signed PDF (PAdES), or the XAdES of a signer. It is recognised by its content. Nothing is sent. Identity numbers are masked. The exit status is 1 if something in the file is wrong, and 2 if the file can't be read.

    Example: posten-signering inspect company.p12 --environment staging

    Args:
        file: The file.
    """
    settings = given(service)
    content = _content(file)
    now = datetime.now(UTC)
    if (kind := _kind(content)) == "pkcs12":
        secret = password(settings, ask_for=file)
        try:
            report = inspect_pkcs12(
                content,
                secret,
                environment=installation(settings) if "environment" in settings else None,
                given_anchors=_given_anchors(settings),
                now=now,
            )
        except ConfigurationError as error:  # it names an argument in Python
            source = password_source(settings)
            message = str(error).replace("`password`", source)
            raise ConfigurationError(message[:1].upper() + message[1:]) from None
    elif kind == "certificates":
        report = inspect_certificates(content, now=now)
    elif kind == "container":
        report = inspect_container(content.reveal())
    elif kind == "pdf":
        from posten_signering._cli.inspection.pades import (  # noqa: PLC0415 - it imports pyHanko, which takes a second
            inspect_pdf,
        )

        report = inspect_pdf(content.reveal())
    else:
        report = inspect_xml(content.reveal())
    Output(as_json=as_json).result(
        {"kind": kind, "good": report.good, "sections": asdict(report)["sections"]},
        _text(report),
    )
    return ExitStatus.SUCCESS if report.good else ExitStatus.FAILURE


def _content(file: Path) -> Secret[bytes]:
    """The content of the file, hidden, because it may be a private key.

    Raises:
        ConfigurationError: The file can't be read, or is too large.
    """
    try:
        with file.open("rb") as stream:
            content = Secret(stream.read(_LARGEST_FILE + 1))
    except OSError as error:
        raise ConfigurationError(
            f"The file {file} can't be read: {error.strerror}. Check the path."
        ) from error
    if len(content.reveal()) > _LARGEST_FILE:
        raise ConfigurationError(
            f"The file {file} has more than {_LARGEST_FILE // 1024**2} MiB, which is too large to inspect."
        )
    return content


def _kind(content: Secret[bytes]) -> str:
    """What the file is, by its content.

    Raises:
        ConfigurationError: It is nothing that this command knows.
    """
    start = Secret(content.reveal()[:1024])
    if start.reveal().startswith(b"PK"):
        return "container"
    if b"%PDF-" in start.reveal():
        return "pdf"
    if b"-----BEGIN" in content.reveal():
        return "certificates"
    if start.reveal().startswith(b"\x30"):
        return "certificates" if is_certificate(content) else "pkcs12"
    if start.reveal().removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "xml"
    raise ConfigurationError(
        "The file is not recognised. It must be a PKCS#12 file, a certificate in PEM or DER form, a "
        "container (ASiC-E), a PDF or an XML file."
    )


def _given_anchors(settings: Mapping[str, Setting]) -> TrustAnchors:
    if "trust_anchors" not in settings:
        return TrustAnchors()
    path = Path(settings["trust_anchors"].value.reveal())
    return TrustAnchors.from_directory(path) if path.is_dir() else TrustAnchors.from_files(path)


def _text(report: Report) -> Text:
    text = Text(f"This is {report.kind}.")
    for section in report.sections:
        text.append(f"\n\n{section.title}")
        for row in section.rows:
            sign, style = "  ", ""
            if row.good is not None:
                sign = f"{mark(sys.stdout.encoding, good=row.good)} "
                style = "green" if row.good else "red"
            text.append("\n").append(sign, style).append(f"{row.name}: {row.value}")
    return text
