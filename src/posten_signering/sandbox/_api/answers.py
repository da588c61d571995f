"""The XML that the service answers, by `direct.xsd` and `common.xsd`. Performs no I/O."""

from datetime import datetime, timedelta, timezone

from lxml import etree

from posten_signering.sandbox._intake.messages import ManifestSigner
from posten_signering.sandbox._intake.xml import SERVICE_NAMESPACE, Element
from posten_signering.sandbox._state.job import Job, JobStatus, SignerStatus
from posten_signering.sandbox._state.state import Status
from posten_signering.sandbox._values.links import Links

_NORWAY = timezone(timedelta(hours=1))


def format_time(time: datetime) -> str:
    """A time as the service writes it: with an offset, in milliseconds."""
    return time.astimezone(_NORWAY).isoformat(timespec="milliseconds")


def job_response(job: Job, links: Links) -> bytes:
    """The message `direct-signature-job-response`.

    Signers come in the reverse of the manifest's order, as in an example of the service: clients
    must look them up by identifier.
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
    return _serialized(root)


def signer_response(job: Job, position: int, links: Links) -> bytes:
    """The message `direct-signer-response`."""
    root = _root("direct-signer-response")
    _fill_signer(root, job, position, links)
    return _serialized(root)


def status_response(status: Status, links: Links) -> bytes:
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
    return _serialized(root)


def error_document(code: str, message: str, error_type: str = "CLIENT") -> bytes:
    """The message `error`."""
    root = _root("error")
    _add(root, "error-code", code)
    _add(root, "error-message", message)
    _add(root, "error-type", error_type)
    return _serialized(root)


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


def _serialized(root: Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)
