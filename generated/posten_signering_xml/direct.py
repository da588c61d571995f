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
    One of the documents to sign: a file of the container.

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
        FAILED: No more will happen, and at least one signer has not signed.
    """

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    FAILED = "FAILED"


class ExitUrls(BaseModel):
    """
    Where the service sends a signer's browser when the signer is done.

    The query parameter status_query_token is added to the URL that is used.

    Attributes:
        completion_url: Where the browser goes after the signer has signed.
        rejection_url: Where the browser goes when the signer has chosen not to sign.
        error_url: Where the browser goes when something technical has failed.
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
    A URL that concerns one signer.

    Attributes:
        value:
        signer: Optional: which signer, by the personal identification number or the
            identifier that the job named it by. A job with a single signer may be without
            it.
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
    How far one signer has come.

    Attributes:
        value:
        signer: Optional: which signer, by the personal identification number or the
            identifier that the job named it by. A job with a single signer may be without
            it.
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
    How the sender learns the outcome of a job.

    Attributes:
        WAIT_FOR_CALLBACK: The sender waits until a signer's browser comes back by an exit
            URL, and asks with the token that it brings.
        POLLING: The sender asks at intervals for changes to any of its jobs.
    """

    WAIT_FOR_CALLBACK = "WAIT_FOR_CALLBACK"
    POLLING = "POLLING"


class DirectSignatureJobRequest(BaseModel):
    """
    Asks the service to create a signature job.

    It is sent together with the container of documents, whose manifest says who is to sign
    what.

    Attributes:
        reference: Optional: the sender's own name for the job, at most 50 characters. It
            comes back in every answer about the job, and must hold no personal data.
        exit_urls: Where the signers' browsers go afterwards. Required also when the sender
            learns the outcome by polling.
        status_retrieval_method: Optional: how the sender will learn the outcome.
            WAIT_FOR_CALLBACK when left out.
        polling_queue: Optional: the queue that holds the status changes of the job until
            they are polled for under the same name. The default queue when left out. It must
            hold no personal data.
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
    What has become of a job: the answer to a status request with a token from an exit URL, and
    to polling when a change was waiting.

    Attributes:
        reference: The sender's own name for the job, if it was created with one.
        signature_job_id: The number that the service gave the job.
        signature_job_status: The status of the whole job: what programs base their decisions
            on.
        status: The status of each signer.
        confirmation_url: Optional: where to confirm, by an empty POST, that this status has
            been taken care of. A polled change that is not confirmed comes back.
        delete_documents_url: Optional: where the documents of the job can be deleted. Left
            out while that is not possible.
        xades_url: Where to download the XAdES of each signer who has signed.
        pades_url: Optional: where to download the signed PDF.
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
    One who is to sign, named either by a personal identification number or by an identifier
    that the sender chooses.

    Attributes:
        personal_identification_number: The national identity number or D-number of the
            signer. Nobody else can then sign.
        signer_identifier: The sender's own identifier of the signer, unique within the job.
            It must hold no personal data.
        signature_type: Optional: the kind of signature. When left out, a public sender gets
            an authenticated one and a private sender an advanced one.
        on_behalf_of: Optional: whom the signer acts for. SELF when left out.
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
    The answer to a request for a new redirect URL.

    Attributes:
        signer_identifier: The sender's own identifier of the signer, if that is how the job
            named it.
        personal_identification_number: The national identity number or D-number of the
            signer, if that is how the job named it.
        redirect_url: Where the signer's browser is to be sent. It works once; ask for a new
            one for every visit.
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
    Asks for a new redirect URL for one signer.

    It is sent to the address of the signer.

    Attributes:
        redirect_url: Names what is to be made anew. It holds nothing.
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
    The file manifest.xml of the container: who signs, who asks, and which documents.

    Attributes:
        signer: Those who are to sign, 1 to 10. They may sign in any order.
        sender: The organisation that asks for the signatures.
        title: The title of the job, 1 to 80 characters, shown to the signers.
        description: Optional message to the signers, at most 220 characters.
        documents: The documents to sign.
        document: Deprecated: a single document, in place of title, description and
            documents.
        required_authentication: Optional: the lowest security level of the signers' e-ID. 4
            when left out.
        identifier_in_signed_documents: Optional: how the signed documents present the
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
            document: The documents in the order in which they are shown, 1 to 20.
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
    The answer to a request that created a job.

    Attributes:
        reference: The sender's own name for the job, if it was created with one.
        signature_job_id: The number that the service gave the job.
        redirect_url: Deprecated: the redirect URLs of all signers. Each signer below holds
            its own.
        status_url: Optional: where to ask for the status of the job with a token from an
            exit URL. A job whose outcome is polled for may be without it.
        signer: The signers, 1 to 10, not necessarily in the order of the manifest.
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
