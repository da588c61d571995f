"""The values of a signature job: sender, documents, signers and exit URLs. Frozen, no I/O.

The constructors check nothing: `DirectClient.create` and `validate` check the whole job, by the rules of
the service's documentation ("Opprette oppdrag") and of `direct.xsd`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast


class SignatureType(StrEnum):
    """The type of signature that the signer must give (schema type `signature-type`)."""

    ADVANCED_SIGNATURE = "ADVANCED_ELECTRONIC_SIGNATURE"
    """Advanced electronic signature. The default, and only permitted value, for private senders."""

    AUTHENTICATED_SIGNATURE = "AUTHENTICATED_ELECTRONIC_SIGNATURE"
    """Authenticated electronic signature. For public senders only; it is their default."""


class AuthenticationLevel(StrEnum):
    """The security level of the e-ID that a signer must use (schema type `authentication-level`)."""

    THREE = "3"
    """Level 3 ("betydelig"). For public senders only."""

    FOUR = "4"
    """Level 4 ("høyt"). The default, and the only permitted level for private senders."""


class OnBehalfOf(StrEnum):
    """On whose behalf a signer signs (schema type `signing-on-behalf-of`)."""

    SELF = "SELF"
    """The signer signs for themselves. The default. The service may forward the signed document to the
    signer's digital mailbox."""

    OTHER = "OTHER"
    """The signer signs for someone else, such as a company. The service does not forward the document
    to the signer's own digital mailbox, and shows this to the signer."""


class IdentifierInSignedDocuments(StrEnum):
    """How the signed document identifies signers (schema type `identifier-in-signed-documents`).

    Private senders may use the first two. Public senders may use `DATE_OF_BIRTH_AND_NAME` and `NAME`
    only for authenticated signatures.
    """

    PERSONAL_IDENTIFICATION_NUMBER_AND_NAME = "PERSONAL_IDENTIFICATION_NUMBER_AND_NAME"
    """National identity number and name. The number appears only if the job names the signer by it."""

    DATE_OF_BIRTH_AND_NAME = "DATE_OF_BIRTH_AND_NAME"
    """Date of birth and name."""

    NAME = "NAME"
    """Name only."""


class StatusRetrievalMethod(StrEnum):
    """How the sender gets the job's status (schema type `status-retrieval-method`)."""

    WAIT_FOR_CALLBACK = "WAIT_FOR_CALLBACK"
    """With the token that the service adds to the exit URL of a returning signer. The default."""

    POLLING = "POLLING"
    """By polling the sender's queue. The job then has no status URL."""


class DocumentType(StrEnum):
    """The media type of a document in the container."""

    PDF = "application/pdf"
    """PDF 1.1 to 1.7 or PDF/A, without password protection."""

    TEXT = "text/plain"
    """Plain text, which must be in UTF-8: no message of the service can name a different encoding.

    It may begin with a byte order mark. It must not be only white space, and its only control characters
    may be white space such as tabs, line ends and form feeds: signers would not see others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The organisation that requests signatures. Two senders with equal attributes are equal.

    Attributes:
        organization_number: Nine digits. It differs from the certificate's number when a broker sends
            jobs on behalf of the organisation.
        polling_queue: Name of the queue that receives the status changes of the sender's jobs. None or
            an empty string means the default queue. Use one name for each integration, without
            personal data.
    """

    organization_number: str
    polling_queue: str | None = None

    def __post_init__(self) -> None:
        # None and "" both mean the default queue. Senders of the same queue must be equal.
        object.__setattr__(self, "polling_queue", self.polling_queue or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document to sign.

    Attributes:
        title: 1 to 80 characters, shown to the signer.
        content: The document's bytes, or the path of a file. `create` may read a file twice. It must
            not change in between.
        type: PDF (the default) or plain text.
    """

    title: str = field(repr=False)
    content: bytes | Path = field(repr=False)
    type: DocumentType = DocumentType.PDF


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSigner:
    """A person who must sign. Set exactly one of the two identifiers.

    Attributes:
        personal_identification_number: National identity number or D-number, 11 digits.
        custom_identifier: Your own identifier for the signer, 1 to 80 characters, unique in the job. The
            service then learns who signs from the signer's e-ID. It must not contain personal data,
            such as an e-mail address or an identity number.
        signature_type: None means the default: advanced for private senders, authenticated for public
            senders.
        on_behalf_of: None means the service's default, `OnBehalfOf.SELF`.
    """

    personal_identification_number: str | None = field(default=None, repr=False)
    custom_identifier: str | None = field(default=None, repr=False)
    signature_type: SignatureType | None = None
    on_behalf_of: OnBehalfOf | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitUrls:
    """The URLs that the service redirects the signer's browser to, each at most 500 characters.

    All three are required, also for polled jobs. Each is an http or https URL with a host, or begins with
    the scheme of your own app and `:/` (`com.example.app:/signed`). Characters that RFC 3986 does not
    allow in a URL must be percent-encoded. The service appends the query parameter
    `status_query_token` to the URL that it uses. The URLs must not contain personal data, because
    servers and proxies log them.

    Attributes:
        completion: Used after the signer has signed.
        rejection: Used after the signer has rejected the job.
        error: Used after a technical failure.
    """

    completion: str = field(repr=False)
    rejection: str = field(repr=False)
    error: str = field(repr=False)

    @classmethod
    def single(cls, url: str) -> "ExitUrls":
        """Exit URLs that are all the same, for an app that needs no URL for each outcome.

        Whichever way the signing ended, the status says what happened. The service adds the query parameter
        `status_query_token` as usual. It is `ExitUrls.singleExitUrl` of the official Java client.

        Args:
            url: Used after the signer has signed or rejected, and after a technical failure.
        """
        return cls(completion=url, rejection=url, error=url)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJob:
    """A signature job of the direct flow: documents, their signers, and the exit URLs.

    Attributes:
        title: 1 to 80 characters, shown to the signers.
        documents: 1 to 20 documents of at most 10,485,760 bytes in total. A job of a public sender with
            advanced signatures may have only one document.
        signers: 1 to 10 signers with unique identifiers.
        exit_urls: The URLs that the service redirects the signers' browsers to.
        reference: Your own text for the job, at most 50 characters. Every response repeats it. It
            appears in e-mails, so it must not contain personal data.
        description: A message to the signers, at most 220 characters.
        sender: The sender of this job. None means `ClientConfiguration.sender`.
        authentication_level: None means the service's default, level 4.
        identifier_in_signed_documents: None means the service's default.
        status_retrieval_method: None means the service's default, `WAIT_FOR_CALLBACK`.
    """

    title: str = field(repr=False)
    documents: Sequence[Document]
    signers: Sequence[DirectSigner]
    exit_urls: ExitUrls
    reference: str | None = None
    description: str | None = field(default=None, repr=False)
    sender: Sender | None = None
    authentication_level: AuthenticationLevel | None = None
    identifier_in_signed_documents: IdentifierInSignedDocuments | None = None
    status_retrieval_method: StatusRetrievalMethod | None = None

    def __post_init__(self) -> None:
        # Copy the lists, so that the job stays the same when the caller changes them later.
        for name in ("documents", "signers"):
            items = getattr(self, name)
            if isinstance(items, Iterable):  # `validate` reports any other value
                object.__setattr__(self, name, tuple(cast("Iterable[object]", items)))
