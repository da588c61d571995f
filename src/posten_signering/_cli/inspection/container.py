"""Describes a container (ASiC-E): entries, manifest, signature. Performs no I/O."""

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_plus

from posten_signering._cli.inspection.report import Report, Row, Section, row, section
from posten_signering._cli.inspection.signatures import signature_rows, signatures_in
from posten_signering._cli.inspection.xml import Element, children, parse, text
from posten_signering._cli.inspection.xmldsig import Reference, SignatureFound, verified
from posten_signering.errors import ConfigurationError

MANIFEST = "manifest.xml"
SIGNATURES = "META-INF/signatures.xml"
MIMETYPE = "mimetype"

# The service accepts 10 MB of documents in a job.
_LARGEST_CONTENT = 64 * 1024 * 1024
_MOST_ENTRIES = 500
_DIRECTORY_ENTRY = b"PK\x01\x02"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1


def inspect_container(content: bytes) -> Report:
    """What is in a container, and whether its signature is right.

    Raises:
        ConfigurationError: It is not a ZIP file that can be inspected.
    """
    names, files = _entries(content)
    sections: list[Section] = []
    documents = [name for name in files if _is_outside(name)]
    found: list[SignatureFound] = []
    problems: list[Row] = []
    if SIGNATURES in files:
        root = parse(files[SIGNATURES], name=SIGNATURES)
        found = [
            verified(element, lambda uri: _file(files, uri)) for element in signatures_in(root)
        ]
        if len(found) != 1:
            problems.append(row("signatures", f"{len(found)}, but there must be one", good=False))
    else:
        problems.append(row("signature", f"the entry {SIGNATURES} is missing", good=False))
    sections.append(section("Entries", *_entry_rows(names, files, found)))
    sections.append(_manifest_section(files, documents))
    sections += [
        section(
            "Signature",
            *signature_rows(signature),
            *_missing_rows(signature),
            *_other_references(signature, files),
        )
        for signature in found
    ]
    if problems:
        sections.append(section("Problems", *problems))
    return Report(kind="a container (ASiC-E)", sections=tuple(sections))


def _entries(content: bytes) -> tuple[list[str], dict[str, bytes]]:
    """The names of all entries, and the content of each file by its name.

    Raises:
        ConfigurationError: The ZIP file is damaged, or larger than a container may be.
    """
    if content.count(_DIRECTORY_ENTRY) > _MOST_ENTRIES:
        raise ConfigurationError(
            f"The container has more than {_MOST_ENTRIES} entries, which are too many to inspect."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check(entries)
            files = {entry.orig_filename: _content(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError):
        files = None
        entries = list[zipfile.ZipInfo]()
    if files is None:
        raise ConfigurationError(
            "The ZIP file can't be read: it is cut off, or the length, the checksum or the compressed data "
            "of an entry is wrong."
        )
    # `filename` is cut off at a NUL, and on Windows it has slashes in place of backslashes.
    return [entry.orig_filename for entry in entries], files


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The content of an entry. One with more than its size in the directory has a wrong checksum."""
    with archive.open(entry) as file:
        # Without a limit, zipfile would decompress all of it before it looks at the size.
        return file.read(entry.file_size + 1)


def _check(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuses a ZIP bomb by the sizes in the directory. `_content` reads no more than these."""
    size = sum(entry.file_size for entry in entries)
    if size > _LARGEST_CONTENT:
        raise ConfigurationError(
            f"The container's entries have {size} bytes, which is too large to inspect. The service accepts "
            "at most 10 MB of documents."
        )
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise ConfigurationError(
            "An entry of the container is encrypted, which the service does not accept."
        )
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise ConfigurationError(
            "An entry of the container is compressed with a method other than deflate, so it is not "
            "inspected."
        )


def _is_outside(name: str) -> bool:
    """Whether the signature must cover the entry."""
    return not name.startswith("META-INF/") and name != MIMETYPE


def _file(files: Mapping[str, bytes], uri: str) -> bytes | None:
    """The file that a reference names, as it is written or form-URL-decoded."""
    return files.get(uri, files.get(unquote_plus(uri)))


def _entry_rows(
    names: Sequence[str], files: Mapping[str, bytes], signatures: Sequence[SignatureFound]
) -> list[Row]:
    references: dict[str, list[Reference]] = {}
    for signature in signatures:
        for reference in signature.references:
            name = reference.uri if reference.uri in files else unquote_plus(reference.uri)
            references.setdefault(name, []).append(reference)
    rows: list[Row] = []
    for name, content in files.items():
        size = f"{len(content)} bytes"
        if name in references:
            rows += [
                row(name, f"{size}, {reference.finding}", good=reference.matches)
                for reference in references[name]
            ]
        elif _is_outside(name):
            rows.append(row(name, f"{size}, not covered by the signature", good=False))
        elif name in {SIGNATURES, MIMETYPE}:
            rows.append(row(name, size))
        else:
            rows.append(row(name, f"{size}, not part of a container of the service", good=False))
    twice = [name for name, count in Counter(names).items() if count > 1]
    rows += [row(name, "there are several entries with this name", good=False) for name in twice]
    rows += [
        row(name, "the name leads out of the container", good=False)
        for name in names
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")
    ]
    return rows


def _missing_rows(signature: SignatureFound) -> list[Row]:
    """The properties that the service requires in a signature, and that it does not have."""
    required = {
        "signed properties": signature.properties_are_signed,
        "signing time": signature.signing_time,
        "certificate digest": signature.names_its_certificate,
    }
    return [row(name, "missing", good=False) for name, value in required.items() if value is None]


def _other_references(signature: SignatureFound, files: Mapping[str, bytes]) -> list[Row]:
    """The references to elements, and to files that are missing."""
    return [
        row(
            f"covers {reference.uri}",
            reference.finding if reference.uri.startswith("#") else "the file is missing",
            good=reference.matches if reference.uri.startswith("#") else False,
        )
        for reference in signature.references
        if _file(files, reference.uri) is None
    ]


def _manifest_section(files: Mapping[str, bytes], documents: Sequence[str]) -> Section:
    if MANIFEST not in files:
        return section("Manifest", row("manifest", f"the entry {MANIFEST} is missing", good=False))
    root = parse(files[MANIFEST], name=MANIFEST)
    named = {
        document.get("href", ""): text(document, "signering:title") or ""
        # The second is the older form, for a job with one document.
        for path in ("signering:documents/signering:document", "signering:document")
        for document in children(root, path)
    }
    present = {unquote_plus(name) if name not in documents else name for name in named}
    rows = [
        row("title", text(root, "signering:title") or "none"),
        row("sender", text(root, "signering:sender/signering:organization-number") or "not named"),
        *(
            row(
                f"document {name}",
                f"“{title}”" if _file(files, name) is not None else f"“{title}”, which is missing",
                good=_file(files, name) is not None,
            )
            for name, title in named.items()
        ),
        *(
            row(f"document {name}", "not named in the manifest", good=False)
            for name in documents
            if name != MANIFEST and name not in present
        ),
        *_signer_rows(root),
    ]
    return section("Manifest", *rows)


def _signer_rows(root: Element) -> list[Row]:
    """The signers. Their identity numbers and other identifiers are never shown."""
    signers = children(root, "signering:signer")
    rows = [row("signers", len(signers))]
    for number, signer in enumerate(signers, start=1):
        identifier = (
            "by identity number ***********"
            if text(signer, "signering:personal-identification-number") is not None
            else "by an identifier of the sender"
        )
        kind = text(signer, "signering:signature-type") or "the default signature type"
        rows.append(row(f"signer {number}", f"{identifier}, {kind}"))
    return rows
