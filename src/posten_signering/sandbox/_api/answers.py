"""The responses of the service: its XML messages (`direct.xsd`, `common.xsd`), and those that faults send."""

from datetime import datetime, timedelta, timezone
from http.client import responses

from aiohttp import web
from lxml import etree

from posten_signering.sandbox._api.faults import Fault, FaultKind
from posten_signering.sandbox._intake.messages import ManifestSigner
from posten_signering.sandbox._intake.xml import SERVICE_NAMESPACE, Element
from posten_signering.sandbox._state.job import Job, JobStatus, SignerStatus
from posten_signering.sandbox._state.state import Status
from posten_signering.sandbox._values.links import Links

_NORWAY = timezone(timedelta(hours=1))
_PAGE = """<!DOCTYPE html>
<html><head><title>{status} {phrase}</title></head>
<body><h1>{status} {phrase}</h1><hr><p>posten-signering-sandbox: an injected fault</p></body></html>
"""


def format_time(time: datetime) -> str:
    """A time in the service's format: ISO 8601 with milliseconds and an offset."""
    return time.astimezone(_NORWAY).isoformat(timespec="milliseconds")


def job_response(job: Job, links: Links) -> web.Response:
    """The message `direct-signature-job-response`.

    The signers are in the reverse order of the manifest, as in an example in the service's
    documentation. A client must find a signer by its identifier.
    """
    root = _root("direct-signature-job-response")
    _add_reference(root, job)
    _add(root, "signature-job-id", str(job.id))
    for signer, state in zip(job.manifest.signers, job.signers, strict=True):
        redirect = _add(root, "redirect-url", links.redirect(state.redirect_token))
        redirect.set("signer", signer.identifier)
    if not job.polled:
        _add(root, "status-url", links.status(job.sender, job.id))
    for position in reversed(range(len(job.signers))):
        _fill_signer(_add(root, "signer"), job, position, links)
    return _answer(root)


def signer_response(job: Job, position: int, links: Links) -> web.Response:
    """The message `direct-signer-response`."""
    root = _root("direct-signer-response")
    _fill_signer(root, job, position, links)
    return _answer(root)


def status_response(status: Status, links: Links) -> web.Response:
    """The message `direct-signature-job-status-response`."""
    job = status.job
    root = _root("direct-signature-job-status-response")
    _add_reference(root, job)
    _add(root, "signature-job-id", str(job.id))
    _add(root, "signature-job-status", status.job_status)
    for signer, state in zip(job.manifest.signers, status.signers, strict=True):
        element = _add(root, "status", state.status)
        element.set("signer", signer.identifier)
        element.set("since", format_time(state.since))
    if status.confirmable:
        _add(root, "confirmation-url", links.confirmation(job.sender, job.id, status.change))
    if status.deletable:
        _add(root, "delete-documents-url", links.documents(job.sender, job.id))
    if status.kept:
        for position, state in enumerate(status.signers):
            if state.status is SignerStatus.SIGNED:
                xades = _add(root, "xades-url", links.xades(job.sender, job.id, position))
                xades.set("signer", job.manifest.signers[position].identifier)
        if status.job_status is JobStatus.COMPLETED_SUCCESSFULLY:
            _add(root, "pades-url", links.pades(job.sender, job.id))
    return _answer(root)


def error_answer(status: int, code: str, message: str) -> web.Response:
    """The message `error`."""
    root = _root("error")
    _add(root, "error-code", code)
    _add(root, "error-message", message)
    _add(root, "error-type", "SERVER" if status >= 500 else "CLIENT")
    return _answer(root, status)


def replacement(fault: Fault) -> web.Response:
    """The response that a fault sends instead of the service's response."""
    if fault.kind is FaultKind.ERROR_DOCUMENT:
        return error_answer(
            fault.http_status,
            fault.code or "",
            "The sandbox sent this error because of an injected fault.",
        )
    unavailable = fault.kind is FaultKind.UNAVAILABLE
    status = 503 if unavailable else fault.http_status
    page = _PAGE.format(status=status, phrase=responses.get(status, "Error"))
    answer = web.Response(status=status, text=page, content_type="text/html")
    if unavailable:
        # Retry-After must be in whole seconds (RFC 9110, section 10.2.3).
        seconds = 1 if fault.seconds is None else fault.seconds
        answer.headers["Retry-After"] = str(round(seconds))
    return answer


def _fill_signer(element: Element, job: Job, position: int, links: Links) -> None:
    element.set("href", links.signer(job.sender, job.id, position))
    _add_identifier(element, job.manifest.signers[position])
    _add(element, "redirect-url", links.redirect(job.signers[position].redirect_token))


def _add_identifier(element: Element, signer: ManifestSigner) -> None:
    if signer.personal_identification_number is None:
        _add(element, "signer-identifier", signer.identifier)
    else:
        _add(element, "personal-identification-number", signer.identifier)


def _add_reference(root: Element, job: Job) -> None:
    if job.request.reference is not None:
        _add(root, "reference", job.request.reference)


def _root(name: str) -> Element:
    return etree.Element(f"{{{SERVICE_NAMESPACE}}}{name}", nsmap={None: SERVICE_NAMESPACE})


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    element = etree.SubElement(parent, f"{{{SERVICE_NAMESPACE}}}{name}")
    element.text = text
    return element


def _answer(root: Element, status: int = 200) -> web.Response:
    content = etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)
    return web.Response(status=status, body=content, content_type="application/xml")
