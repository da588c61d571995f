"""Checks what a sender sends to create a job: the request, and the container of documents.

This module shares no code with the client, so a mistake of the client can't hide here. It is CPU-heavy
and performs no I/O: run it in a worker thread.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509

from posten_signering.sandbox._intake.certificates import (
    organization_number as organization_number_of,
)
from posten_signering.sandbox._intake.container import (
    MANIFEST,
    Container,
    entry_named,
    open_container,
)
from posten_signering.sandbox._intake.messages import (
    JobRequest,
    Manifest,
    read_job_request,
    read_manifest,
)
from posten_signering.sandbox._intake.multipart import split_body
from posten_signering.sandbox._intake.profile import check_package_signature
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle

PDF = "application/pdf"
TEXT = "text/plain"
_XML = "application/xml"

# A PDF may begin with white space and a byte order mark, within the first 1024 bytes.
_PDF_START = re.compile(rb"[ \t\r\n\f\0\xef\xbb\xbf]*%PDF-")
_PDF_HEADER = re.compile(rb"%PDF-1\.[1-7]")
_PDF_SEARCH_BYTES = 1024
# All control characters except those that are white space in Unicode.
_CONTROL_CHARACTER = re.compile("[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A request and a container that passed all checks. The repr shows no identity number and no content.

    Attributes:
        request: The values of the request.
        manifest: The values of the manifest.
        request_xml: The request's bytes.
        manifest_xml: The manifest's bytes.
        documents: The documents' bytes by the names of their entries, in the manifest's order.
        container: The container's bytes.
        organization_number: The organisation number in the certificate that signed the container, or
            `None`. A broker's differs from the sender's.
        certificates: The certificates of the signature's KeyInfo. The first one signed the container.
        signing_time: The signing time that the signature states.
    """

    request: JobRequest
    manifest: Manifest
    request_xml: Octets
    manifest_xml: Octets
    documents: Mapping[str, Octets]
    container: Octets
    organization_number: str | None
    certificates: tuple[x509.Certificate, ...] = field(repr=False)
    signing_time: datetime


def judge(
    *,
    content_type: str,
    body: bytes,
    organization_number: str,
    trusted: Sequence[x509.Certificate],
    now: Callable[[], datetime],
    advanced_by: timedelta = timedelta(0),
) -> Bundle:
    """The request and the container in the body of a create, if they pass all checks.

    Args:
        content_type: The header `Content-Type`, unchanged.
        body: The body, unchanged.
        organization_number: The sender's organisation number, from the URL of the request.
        trusted: The certificates of the CAs whose enterprise certificates may sign, roots or
            intermediates.
        now: The service's clock. It returns aware times and is read once.
        advanced_by: How far the sender's clock may be ahead of it, because the sandbox's time was
            advanced. The signing time must be by one of the two clocks.

    Raises:
        Refusal: The request or the container breaks the schema or the profile.
    """
    time = now()
    body = Octets(body)
    request_xml, container_bytes = split_body(content_type, body)
    request = read_job_request(request_xml)
    container = open_container(container_bytes)
    manifest = read_manifest(container.manifest)
    if manifest.sender != organization_number:
        raise broken_bundle(
            f"manifest.xml names the sender {manifest.sender}, but the URL of the request names"
            f" {organization_number}. Use the same organisation number in both."
        )
    documents = _documents(manifest, container)
    media_types = {MANIFEST: _XML}
    for (name, content), document in zip(documents.items(), manifest.documents, strict=True):
        media_types[name] = document.mime
        problem = _document_problem(document.mime, content)
        if problem is not None:
            raise broken_bundle(f"The document {name} {problem}")
    signature = check_package_signature(
        container.signatures,
        {**documents, MANIFEST: container.manifest},
        media_types,
        trusted=trusted,
        now=time,
        advanced_by=advanced_by,
    )
    return Bundle(
        request=request,
        manifest=manifest,
        request_xml=request_xml,
        manifest_xml=container.manifest,
        documents=documents,
        container=container_bytes,
        organization_number=organization_number_of(signature.certificates[0]),
        certificates=signature.certificates,
        signing_time=signature.signing_time,
    )


def _documents(manifest: Manifest, container: Container) -> dict[str, Octets]:
    documents: dict[str, Octets] = {}
    for document in manifest.documents:
        name = entry_named(document.href, container.documents)
        if name is None:
            raise broken_bundle(
                f"manifest.xml names the document {document.href}, which is not in the container."
                " Add it to the container, or correct its href."
            )
        if name in documents:
            raise broken_bundle(
                f"manifest.xml names the document {name} twice. Name every document once."
            )
        documents[name] = container.documents[name]
    for name in container.documents:
        if name not in documents:
            raise broken_bundle(
                f"The container has {name}, which manifest.xml does not name. Add it to manifest.xml,"
                " or remove it from the container."
            )
    return documents


def _document_problem(media_type: str, content: Octets) -> str | None:
    """Why a document can't be signed, as text that follows "The document X ". `None` if it can."""
    if not content:
        return "is empty. Send a document with content."
    if media_type == PDF:
        # Opening a PDF may take long, so a process does it: see `JobDocuments.check`.
        # "%PDF-" must be within the first 1024 bytes; the version may follow them.
        if _PDF_HEADER.search(content, 0, _PDF_SEARCH_BYTES + 3) is None:
            return "is not a PDF of version 1.1 to 1.7. Send a PDF of one of these versions."
        return None
    if media_type == TEXT:
        return _text_problem(content)
    return f"has the media type {media_type}. Send {PDF} or {TEXT}."


def _text_problem(content: Octets) -> str | None:
    """Why a text can't be signed. It can if its signers see all of its characters, and there are some."""
    if _PDF_START.match(content, 0, _PDF_SEARCH_BYTES):
        return f"is a PDF, but has the media type {TEXT}. Use {PDF}."
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "is not text in UTF-8. Encode the text as UTF-8."
    control = _CONTROL_CHARACTER.search(text)
    if control is not None:
        return (
            f"has the control character U+{ord(control[0]):04X}. Remove it, because nobody sees it."
        )
    if not text.replace("\ufeff", "").strip():
        return "is only white space. Send a document with content."
    return None
