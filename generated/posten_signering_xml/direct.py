from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict
from xsdata.models.datatype import XmlDateTime
from xsdata_pydantic.fields import field

from posten_signering_xml.common import (
    AccessibleByUrl,
    AuthenticationLevel,
    EmptyElement,
    IdentifierInSignedDocuments,
    Sender,
    SignatureType,
    SigningOnBehalfOf,
)
from posten_signering_xml.direct_legacy import LegacyDirectDocument

__NAMESPACE__ = "http://signering.posten.no/schema/v1"


class DirectDocument(BaseModel):
    """
    One of the documents to sign, a file in the container.

    Attributes:
        title: The title of the document, 1 to 80 characters, shown to the signers.
        href: The name of the document's file in the container, 4 to 100 characters.
        mime: The media type of the document, 1 to 100 characters: application/pdf or
            text/plain.
    """

    class Meta:
        name = "direct-document"

    model_config = ConfigDict(defer_build=True)
    title: str = field(
        metadata={
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "min_length": 1,
            "max_length": 80,
        }
    )
    href: str = field(
        metadata={
            "type": "Attribute",
            "min_length": 4,
            "max_length": 100,
        }
    )
    mime: str = field(
        metadata={
            "type": "Attribute",
            "min_length": 1,
            "max_length": 100,
        }
    )


class DirectSignatureJobStatus(Enum):
    """
    The status of a whole job.

    Attributes:
        IN_PROGRESS: At least one signer has not acted yet.
        COMPLETED_SUCCESSFULLY: All signers have signed.
        FAILED: The job has ended, and at least one signer has not signed.
    """

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    FAILED = "FAILED"


class ExitUrls(BaseModel):
    """
    The URLs to which the service redirects a signer's browser at the end.

    The service adds the query parameter status_query_token to the URL.

    Attributes:
        completion_url: The URL for a signer who has signed.
        rejection_url: The URL for a signer who has chosen not to sign.
        error_url: The URL for a signer who could not sign because of a technical error.
    """

    class Meta:
        name = "exit-urls"

    model_config = ConfigDict(defer_build=True)
    completion_url: str = field(
        metadata={
            "name": "completion-url",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "max_length": 500,
        }
    )
    rejection_url: str = field(
        metadata={
            "name": "rejection-url",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "max_length": 500,
        }
    )
    error_url: str = field(
        metadata={
            "name": "error-url",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "max_length": 500,
        }
    )


class SignerSpecificUrl(BaseModel):
    """
    A URL for one signer.

    Attributes:
        value:
        signer: Optional. The signer's personal identification number, or the sender's own
            identifier for the signer. It may be missing if the job has only one signer.
    """

    class Meta:
        name = "signer-specific-url"

    model_config = ConfigDict(defer_build=True)
    value: str = field(
        default="",
        metadata={
            "max_length": 500,
        },
    )
    signer: None | str = field(
        default=None,
        metadata={
            "type": "Attribute",
        },
    )


class SignerStatus(BaseModel):
    """
    The status of one signer.

    Attributes:
        value:
        signer: Optional. The signer's personal identification number, or the sender's own
            identifier for the signer. It may be missing if the job has only one signer.
        since: When the signer got this status.
    """

    class Meta:
        name = "signer-status"

    model_config = ConfigDict(defer_build=True)
    value: str = field(default="")
    signer: None | str = field(
        default=None,
        metadata={
            "type": "Attribute",
        },
    )
    since: XmlDateTime = field(
        metadata={
            "type": "Attribute",
        }
    )


class StatusRetrievalMethod(Enum):
    """
    How the sender gets the outcome of a job.

    Attributes:
        WAIT_FOR_CALLBACK: The sender waits until a signer's browser requests an exit URL,
            and then gets the status with the token in that URL.
        POLLING: The sender polls a queue for status changes of its jobs.
    """

    WAIT_FOR_CALLBACK = "WAIT_FOR_CALLBACK"
    POLLING = "POLLING"


class DirectSignatureJobRequest(BaseModel):
    """
    The request to create a signature job.

    It is sent together with the container, whose manifest lists the signers and the documents.

    Attributes:
        reference: Optional. The sender's own name for the job, at most 50 characters. Every
            response about the job contains it. It must not contain personal data.
        exit_urls: The URLs to which the service redirects the signers' browsers at the end.
            They are required even if the sender polls for the outcome.
        status_retrieval_method: Optional. How the sender gets the outcome. The default is
            WAIT_FOR_CALLBACK.
        polling_queue: Optional. The name of the polling queue for the status changes of the
            job. The sender polls with the same name. Without it, the default queue is used.
            It must not contain personal data.
    """

    class Meta:
        name = "direct-signature-job-request"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    reference: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "max_length": 50,
        },
    )
    exit_urls: ExitUrls = field(
        metadata={
            "name": "exit-urls",
            "type": "Element",
        }
    )
    status_retrieval_method: None | StatusRetrievalMethod = field(
        default=None,
        metadata={
            "name": "status-retrieval-method",
            "type": "Element",
        },
    )
    polling_queue: None | str = field(
        default=None,
        metadata={
            "name": "polling-queue",
            "type": "Element",
        },
    )


class DirectSignatureJobStatusResponse(BaseModel):
    """
    The status of a job.

    It is the response to a status request with the token from an exit URL, and to a poll when
    the queue has a status change.

    Attributes:
        reference: The sender's own name for the job, if the job has one.
        signature_job_id: The id that the service gave the job.
        signature_job_status: The status of the whole job. Programs should decide by this
            status.
        status: The status of each signer.
        confirmation_url: Optional. The URL for confirming, with an empty POST, that this
            status has been handled. The polling queue redelivers a change until it is
            confirmed.
        delete_documents_url: Optional. The URL for deleting the documents of the job. It is
            missing while they can't be deleted.
        xades_url: The URLs for downloading the XAdES of each signer who has signed.
        pades_url: Optional. The URL for downloading the signed PDF.
    """

    class Meta:
        name = "direct-signature-job-status-response"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    reference: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "max_length": 50,
        },
    )
    signature_job_id: int = field(
        metadata={
            "name": "signature-job-id",
            "type": "Element",
        }
    )
    signature_job_status: DirectSignatureJobStatus = field(
        metadata={
            "name": "signature-job-status",
            "type": "Element",
        }
    )
    status: list[SignerStatus] = field(
        default_factory=list,
        metadata={
            "type": "Element",
            "min_occurs": 1,
            "max_occurs": 10,
        },
    )
    confirmation_url: None | str = field(
        default=None,
        metadata={
            "name": "confirmation-url",
            "type": "Element",
            "max_length": 500,
        },
    )
    delete_documents_url: None | str = field(
        default=None,
        metadata={
            "name": "delete-documents-url",
            "type": "Element",
            "max_length": 500,
        },
    )
    xades_url: list[SignerSpecificUrl] = field(
        default_factory=list,
        metadata={
            "name": "xades-url",
            "type": "Element",
            "max_occurs": 10,
        },
    )
    pades_url: None | str = field(
        default=None,
        metadata={
            "name": "pades-url",
            "type": "Element",
            "max_length": 500,
        },
    )


class DirectSigner(BaseModel):
    """
    A signer of the job, identified by a personal identification number or by the sender's own
    identifier.

    Attributes:
        personal_identification_number: The national identity number or D-number of the
            signer. Only this person can sign.
        signer_identifier: The sender's own identifier for the signer, unique within the job.
            It must not contain personal data.
        signature_type: Optional. The type of the signature. The default is an authenticated
            signature for public senders, and an advanced signature for private senders.
        on_behalf_of: Optional. Whom the signer acts for. The default is SELF.
    """

    class Meta:
        name = "direct-signer"

    model_config = ConfigDict(defer_build=True)
    personal_identification_number: None | str = field(
        default=None,
        metadata={
            "name": "personal-identification-number",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "pattern": r"[0-9]{11}",
        },
    )
    signer_identifier: None | str = field(
        default=None,
        metadata={
            "name": "signer-identifier",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "min_length": 1,
            "max_length": 80,
        },
    )
    signature_type: None | SignatureType = field(
        default=None,
        metadata={
            "name": "signature-type",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
        },
    )
    on_behalf_of: None | SigningOnBehalfOf = field(
        default=None,
        metadata={
            "name": "on-behalf-of",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
        },
    )


class DirectSignerResponse(AccessibleByUrl):
    """
    The response to a request for a new redirect URL.

    Attributes:
        signer_identifier: The sender's own identifier for the signer, if the job has it.
        personal_identification_number: The national identity number or D-number of the
            signer, if the job has it.
        redirect_url: The URL for the signer's browser. It works only once, so every further
            visit needs a new one.
    """

    class Meta:
        name = "direct-signer-response"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    signer_identifier: None | str = field(
        default=None,
        metadata={
            "name": "signer-identifier",
            "type": "Element",
            "min_length": 1,
            "max_length": 80,
        },
    )
    personal_identification_number: None | str = field(
        default=None,
        metadata={
            "name": "personal-identification-number",
            "type": "Element",
            "pattern": r"[0-9]{11}",
        },
    )
    redirect_url: str = field(
        metadata={
            "name": "redirect-url",
            "type": "Element",
            "max_length": 500,
        }
    )


class DirectSignerUpdateRequest(BaseModel):
    """
    The request for a new redirect URL for one signer.

    It is sent to the signer URL.

    Attributes:
        redirect_url: An empty element. Its presence requests a new redirect URL.
    """

    class Meta:
        name = "direct-signer-update-request"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    redirect_url: EmptyElement = field(
        metadata={
            "name": "redirect-url",
            "type": "Element",
        }
    )


class DirectSignatureJobManifest(BaseModel):
    """
    The file manifest.xml of the container.

    It names the signers, the sender and the documents.

    Attributes:
        signer: The signers, 1 to 10. They may sign in any order.
        sender: The organisation that requests the signatures.
        title: The title of the job, 1 to 80 characters, shown to the signers.
        description: Optional. A message to the signers, at most 220 characters.
        documents: The documents to sign.
        document: Deprecated. A single document instead of title, description and documents.
        required_authentication: Optional. The lowest security level of the signers' e-ID.
            The default is 4.
        identifier_in_signed_documents: Optional. How the signed documents identify the
            signers.
    """

    class Meta:
        name = "direct-signature-job-manifest"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    signer: list[DirectSigner] = field(
        default_factory=list,
        metadata={
            "type": "Element",
            "min_occurs": 1,
            "max_occurs": 10,
        },
    )
    sender: Sender = field(
        metadata={
            "type": "Element",
        }
    )
    title: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "min_length": 1,
            "max_length": 80,
        },
    )
    description: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "max_length": 220,
        },
    )
    documents: None | DirectSignatureJobManifest.Documents = field(
        default=None,
        metadata={
            "type": "Element",
        },
    )
    document: None | LegacyDirectDocument = field(
        default=None,
        metadata={
            "type": "Element",
        },
    )
    required_authentication: None | AuthenticationLevel = field(
        default=None,
        metadata={
            "name": "required-authentication",
            "type": "Element",
        },
    )
    identifier_in_signed_documents: None | IdentifierInSignedDocuments = field(
        default=None,
        metadata={
            "name": "identifier-in-signed-documents",
            "type": "Element",
        },
    )

    class Documents(BaseModel):
        """
        Attributes:
            document: The documents, 1 to 20. The signers see them in this order.
        """

        model_config = ConfigDict(defer_build=True)
        document: list[DirectDocument] = field(
            default_factory=list,
            metadata={
                "type": "Element",
                "min_occurs": 1,
                "max_occurs": 20,
            },
        )


class DirectSignatureJobResponse(BaseModel):
    """
    The response to a request that created a job.

    Attributes:
        reference: The sender's own name for the job, if it was created with one.
        signature_job_id: The number that the service gave the job.
        redirect_url: Deprecated. The redirect URLs of all signers. Each element signer has
            its own.
        status_url: Optional. The URL for getting the status of the job with the token from
            an exit URL. It may be missing if the job is polled.
        signer: The signers, 1 to 10. Their order may differ from the order in the manifest.
    """

    class Meta:
        name = "direct-signature-job-response"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    reference: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "max_length": 50,
        },
    )
    signature_job_id: int = field(
        metadata={
            "name": "signature-job-id",
            "type": "Element",
        }
    )
    redirect_url: list[SignerSpecificUrl] = field(
        default_factory=list,
        metadata={
            "name": "redirect-url",
            "type": "Element",
            "min_occurs": 1,
            "max_occurs": 10,
        },
    )
    status_url: None | str = field(
        default=None,
        metadata={
            "name": "status-url",
            "type": "Element",
            "max_length": 500,
        },
    )
    signer: list[DirectSignerResponse] = field(
        default_factory=list,
        metadata={
            "type": "Element",
            "min_occurs": 1,
            "max_occurs": 10,
        },
    )
