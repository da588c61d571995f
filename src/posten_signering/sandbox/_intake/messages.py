"""Reads the XML messages of a create: the request, and the container's manifest. Performs no I/O.

Every message is validated against `direct.xsd` before it is read. Reprs show no identity numbers, titles
or URLs.
"""

from dataclasses import dataclass, field

from posten_signering.sandbox._intake.exit_urls import exit_url_problem
from posten_signering.sandbox._intake.xml import Element, parse, validate
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle, broken_schema


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """The message `direct-signature-job-request`.

    Attributes:
        reference: The sender's own name for the job, or `None`.
        completion_url: The exit URL after the signer has signed.
        rejection_url: The exit URL after the signer has rejected the job.
        error_url: The exit URL after a failure.
        status_retrieval_method: `WAIT_FOR_CALLBACK` (the default in the schema) or `POLLING`.
        polling_queue: The name of the polling queue. `None`: the default queue.
    """

    reference: str | None = field(repr=False)
    completion_url: str = field(repr=False)
    rejection_url: str = field(repr=False)
    error_url: str = field(repr=False)
    status_retrieval_method: str
    polling_queue: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestSigner:
    """A signer (schema type `direct-signer`). Exactly one of the two identifiers is set.

    Attributes:
        personal_identification_number: The national identity number, 11 digits.
        signer_identifier: The sender's own name for the signer.
        signature_type: The value in the XML, or `None` if the element is absent.
        on_behalf_of: `SELF` (also if the element is absent) or `OTHER`.
    """

    personal_identification_number: str | None = field(repr=False)
    signer_identifier: str | None = field(repr=False)
    signature_type: str | None
    on_behalf_of: str

    @property
    def identifier(self) -> str:
        """The identifier that is set."""
        return self.personal_identification_number or self.signer_identifier or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestDocument:
    """One document to sign (schema type `direct-document`).

    Attributes:
        title: The title that the signer sees.
        href: The name of its entry in the container, as it is written in the manifest.
        mime: Its media type, as it is written in the manifest.
    """

    title: str = field(repr=False)
    href: str = field(repr=False)
    mime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The message `direct-signature-job-manifest`, in its current or its deprecated form.

    Attributes:
        signers: The signers, in the manifest's order.
        sender: The sender's organisation number.
        title: The job's title. In the deprecated form, the title of its only document.
        description: The message to the signers, or `None`.
        documents: The documents, in the manifest's order.
        required_authentication: `3`, `4`, or `None` if the element is absent.
        identifier_in_signed_documents: The value in the XML, or `None` if the element is absent.
    """

    signers: tuple[ManifestSigner, ...]
    sender: str
    title: str = field(repr=False)
    description: str | None = field(repr=False)
    documents: tuple[ManifestDocument, ...]
    required_authentication: str | None
    identifier_in_signed_documents: str | None


def read_job_request(content: Octets) -> JobRequest:
    """The values of the request (`direct-signature-job-request`) in the body of a create.

    Raises:
        Refusal: It is not well-formed, has a forbidden construct such as DOCTYPE, breaks the schema, or
            has an exit URL that no browser can follow.
    """
    root = _message(content, "The request", root_name="direct-signature-job-request")
    exit_urls = {
        name: _text(root, "exit-urls", name)
        for name in ("completion-url", "rejection-url", "error-url")
    }
    for name, url in exit_urls.items():
        problem = exit_url_problem(url)
        if problem is not None:
            raise broken_schema(f"The request: exit-urls/{name} {problem}")
    return JobRequest(
        reference=_optional_text(root, "reference"),
        completion_url=exit_urls["completion-url"],
        rejection_url=exit_urls["rejection-url"],
        error_url=exit_urls["error-url"],
        status_retrieval_method=_text(root, "status-retrieval-method") or "WAIT_FOR_CALLBACK",
        # One of the official clients can send an empty name. It means the default queue.
        polling_queue=_text(root, "polling-queue") or None,
    )


def check_signer_update_request(content: Octets) -> None:
    """Validates a request for a new redirect URL (`direct-signer-update-request`).

    Raises:
        Refusal: It is not well-formed, has a forbidden construct such as DOCTYPE, or breaks the schema.
    """
    _message(content, "The request", root_name="direct-signer-update-request")


def read_manifest(content: Octets) -> Manifest:
    """The values of `manifest.xml`.

    Raises:
        Refusal: It is not well-formed, has a forbidden construct such as DOCTYPE, breaks the schema, or
            has a signer with a blank identifier, or two with the same one.
    """
    root = _message(content, "manifest.xml", root_name="direct-signature-job-manifest")
    legacy = root.find("{*}document")
    # In the deprecated form, the only document has the title and the description of the job.
    title_parent = root if legacy is None else legacy
    documents = root.findall("{*}documents/{*}document") if legacy is None else [legacy]
    signers = tuple(
        ManifestSigner(
            personal_identification_number=_optional_text(signer, "personal-identification-number"),
            signer_identifier=_optional_text(signer, "signer-identifier"),
            signature_type=_optional_text(signer, "signature-type"),
            on_behalf_of=_text(signer, "on-behalf-of") or "SELF",
        )
        for signer in root.findall("{*}signer")
    )
    positions: dict[str, int] = {}
    for position, signer in enumerate(signers):
        # White space around an identifier does not count, because clients read responses without it.
        identifier = signer.identifier.strip()
        if not identifier:
            raise broken_bundle(
                f"manifest.xml: signer[{position}]/signer-identifier is only white space. Give the"
                " signer an identifier of your own."
            )
        earlier = positions.setdefault(identifier, position)
        if earlier != position:
            raise broken_bundle(
                f"manifest.xml: signer[{earlier}] and signer[{position}] have the same identifier."
                " Give every signer of the job a different identifier."
            )
    return Manifest(
        signers=signers,
        sender=_text(root, "sender", "organization-number"),
        title=_text(title_parent, "title"),
        description=_optional_text(title_parent, "description"),
        documents=tuple(
            ManifestDocument(
                title=_text(document, "title"),
                href=document.get("href", ""),
                mime=document.get("mime", ""),
            )
            for document in documents
        ),
        required_authentication=_optional_text(root, "required-authentication"),
        identifier_in_signed_documents=_optional_text(root, "identifier-in-signed-documents"),
    )


def _message(content: Octets, name: str, *, root_name: str) -> Element:
    root = parse(content, name=name, refuse=broken_schema)
    validate(root, name=name, root_name=root_name)
    return root


def _optional_text(element: Element, *path: str) -> str | None:
    """The text of the element at a path, or `None`. Validation has already checked the namespaces."""
    return element.findtext("/".join(f"{{*}}{name}" for name in path))


def _text(element: Element, *path: str) -> str:
    return _optional_text(element, *path) or ""
