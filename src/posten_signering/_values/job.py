"""What a sender sends: a job with its documents, signers and exit URLs. Frozen values, no I/O.

Nothing is checked here: `DirectClient.create` and `validate` check a whole job. The rules are those of the
service's documentation ("Opprette oppdrag") and of `direct.xsd`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast


class SignatureType(StrEnum):
    """How strong a signature is asked for (schema type `signature-type`)."""

    ADVANCED_SIGNATURE = "ADVANCED_ELECTRONIC_SIGNATURE"
    """An advanced electronic signature. The only kind for private senders, and their default."""

    AUTHENTICATED_SIGNATURE = "AUTHENTICATED_ELECTRONIC_SIGNATURE"
    """An authenticated electronic signature. For public senders only, and their default."""


class AuthenticationLevel(StrEnum):
    """The security level of the e-ID that a signer must use (schema type `authentication-level`)."""

    THREE = "3"
    """Level 3 ("betydelig"). For public senders only."""

    FOUR = "4"
    """Level 4 ("høyt"). The only level for private senders, and everyone's default."""


class OnBehalfOf(StrEnum):
    """On whose behalf a signer signs (schema type `signing-on-behalf-of`)."""

    SELF = "SELF"
    """For themselves: the default. The signed document may go to their digital mailbox."""

    OTHER = "OTHER"
    """For somebody else, such as a company. The document is not forwarded to the signer's own
    digital mailbox, and the signer is told so."""


class IdentifierInSignedDocuments(StrEnum):
    """How signers are shown in the signed document (schema type `identifier-in-signed-documents`).

    Private senders choose between the first two. `DATE_OF_BIRTH_AND_NAME` and `NAME` are open to
    public senders for authenticated signatures only.
    """

    PERSONAL_IDENTIFICATION_NUMBER_AND_NAME = "PERSONAL_IDENTIFICATION_NUMBER_AND_NAME"
    """National identity number and name; the number shows only for a signer addressed by it."""

    DATE_OF_BIRTH_AND_NAME = "DATE_OF_BIRTH_AND_NAME"
    """Date of birth and name."""

    NAME = "NAME"
    """Name only."""


class StatusRetrievalMethod(StrEnum):
    """How the sender will learn a job's status (schema type `status-retrieval-method`)."""

    WAIT_FOR_CALLBACK = "WAIT_FOR_CALLBACK"
    """By the token that the signer brings back to an exit URL: the default."""

    POLLING = "POLLING"
    """By polling the sender's queue. Such a job has no status URL."""


class DocumentType(StrEnum):
    """What a document is: its media type in the container."""

    PDF = "application/pdf"
    """PDF 1.1 to 1.7 or PDF/A, without a password."""

    TEXT = "text/plain"
    """Plain text in UTF-8. No message tells another encoding, and a signed document that is read in
    the wrong one says something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The organisation that asks for signatures. A value: equal when its parts are.

    Attributes:
        organization_number: Nine digits. It differs from the certificate's when a broker sends on
            the organisation's behalf.
        polling_queue: Name of the queue that the status changes of the sender's jobs go to. None, or
            empty text, is the default queue. Use one name for each integration; it must hold no
            personal data.
    """

    organization_number: str
    polling_queue: str | None = None

    def __post_init__(self) -> None:
        # The default queue has no name on the wire, so both ways to say so are one value.
        object.__setattr__(self, "polling_queue", self.polling_queue or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document to sign.

    Attributes:
        title: 1 to 80 characters, shown to the signer.
        content: The document's bytes, or the path of a file. A file is read when the job is created,
            twice, and must not change between.
        type: PDF, the default, or plain text.
    """

    title: str = field(repr=False)
    content: bytes | Path = field(repr=False)
    type: DocumentType = DocumentType.PDF


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSigner:
    """One who is asked to sign. Give exactly one of the two identifiers.

    Attributes:
        personal_identification_number: National identity number or D-number, 11 digits.
        custom_identifier: An identifier of the sender's own, 1 to 80 characters, unique in the job.
            The service then learns who signs from the e-ID that is used. It must hold no personal
            data: an e-mail address or an identity number does not belong here.
        signature_type: None: the sender's default (private: advanced; public: authenticated).
        on_behalf_of: None: the service's default, `OnBehalfOf.SELF`.
    """

    personal_identification_number: str | None = field(default=None, repr=False)
    custom_identifier: str | None = field(default=None, repr=False)
    signature_type: SignatureType | None = None
    on_behalf_of: OnBehalfOf | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitUrls:
    """Where the signer's browser is sent afterwards, each at most 500 characters.

    All three are required, for polled jobs too. The service appends the query parameter
    `status_query_token` to the one that is used. They must hold no personal data: an address that is
    opened stands in the logs of every server on the way.

    Attributes:
        completion: After the signer has signed.
        rejection: After the signer chose to reject.
        error: After a technical failure.
    """

    completion: str = field(repr=False)
    rejection: str = field(repr=False)
    error: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJob:
    """A signature job of the direct flow: who signs what, and where they go afterwards.

    Attributes:
        title: 1 to 80 characters, shown to the signers.
        documents: 1 to 20 documents of at most 10,485,760 bytes in all. Public senders may ask for
            advanced signatures on one document only.
        signers: 1 to 10 signers, no two with the same identifier.
        exit_urls: Where the signers' browsers are sent.
        reference: The sender's own text, at most 50 characters, given back in every response. It
            appears in e-mails and must hold no personal data.
        description: A message to the signers, at most 220 characters.
        sender: Goes before the client's default sender.
        authentication_level: None: the service's default, level 4.
        identifier_in_signed_documents: None: the service's default.
        status_retrieval_method: None: the service's default, `WAIT_FOR_CALLBACK`.
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
        # A list that the caller goes on filling must not change a frozen value.
        for name in ("documents", "signers"):
            given = getattr(self, name)
            if isinstance(given, Iterable):  # the check of a job tells what is none
                object.__setattr__(self, name, tuple(cast("Iterable[object]", given)))
