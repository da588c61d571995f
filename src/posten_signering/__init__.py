"""Asyncio client for the direct flow of Posten signering, the Norwegian e-signature service.

    async with DirectClient(configuration) as client:
        created = await client.create(job)

The names are those of the service's documentation. See also `posten_signering.errors`,
`posten_signering.worker` for programs that poll, and `posten_signering.sandbox`, a local service for
development and tests.
"""

from posten_signering._client.client import DirectClient
from posten_signering._client.downloads import DownloadStream
from posten_signering._client.polling import FailurePolicy, PollCounts, StatusChanges
from posten_signering._configuration.configuration import ClientConfiguration, Timeouts
from posten_signering._container.compression import Compression
from posten_signering._container.processors import BundleProcessor, DocumentBundleToDisk
from posten_signering._session.fleet import (
    Fleet,
    FleetContext,
    FleetMember,
    InMemoryFleet,
    PollTurn,
    QueueState,
)
from posten_signering._session.redis import RedisFleet
from posten_signering._session.retry import Retries
from posten_signering._trust.anchors import TrustAnchors
from posten_signering._trust.certificates import EnterpriseCertificate, load_pkcs12
from posten_signering._trust.environment import CertificateAuthority, Environment
from posten_signering._values.events import (
    CallEnded,
    CallRetried,
    CertificateExpiring,
    CertificateInUse,
    CertificateKind,
    ChangeConfirmed,
    ChangeDeadLettered,
    ChangeDelivered,
    ChangeReleased,
    Event,
    FleetAvailable,
    FleetUnavailable,
    HandlerEnded,
    HandlerResult,
    LeaseRunningOut,
    Observer,
    OrganizationBlocked,
    PollResult,
    QueuePolled,
    ReleaseReason,
    SenderUnavailable,
    WorkerStarted,
    WorkerStopped,
)
from posten_signering._values.job import (
    AuthenticationLevel,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    Sender,
    SignatureType,
    StatusRetrievalMethod,
)
from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    SignerStatus,
    StatusPoll,
)
from posten_signering._values.version import __version__ as __version__
from posten_signering._wire.exchange import Body, Request, ResponseStream, TimeoutKind, Transport
from posten_signering._wire.urls import status_query_token_in

__all__ = [
    "AuthenticationLevel",
    "Body",
    "BundleProcessor",
    "CallEnded",
    "CallRetried",
    "CertificateAuthority",
    "CertificateExpiring",
    "CertificateInUse",
    "CertificateKind",
    "ChangeConfirmed",
    "ChangeDeadLettered",
    "ChangeDelivered",
    "ChangeReleased",
    "ClientConfiguration",
    "Compression",
    "DirectClient",
    "DirectJob",
    "DirectJobResponse",
    "DirectJobStatus",
    "DirectJobStatusResponse",
    "DirectSigner",
    "DirectSignerResponse",
    "Document",
    "DocumentBundleToDisk",
    "DocumentType",
    "DownloadStream",
    "EnterpriseCertificate",
    "Environment",
    "Event",
    "ExitUrls",
    "FailurePolicy",
    "Fleet",
    "FleetAvailable",
    "FleetContext",
    "FleetMember",
    "FleetUnavailable",
    "HandlerEnded",
    "HandlerResult",
    "IdentifierInSignedDocuments",
    "InMemoryFleet",
    "LeaseRunningOut",
    "Observer",
    "OnBehalfOf",
    "OrganizationBlocked",
    "PollCounts",
    "PollResult",
    "PollTurn",
    "QueuePolled",
    "QueueState",
    "RedisFleet",
    "ReleaseReason",
    "Request",
    "ResponseStream",
    "Retries",
    "Secret",
    "Sender",
    "SenderUnavailable",
    "Signature",
    "SignatureType",
    "SignerStatus",
    "StatusChanges",
    "StatusPoll",
    "StatusRetrievalMethod",
    "TimeoutKind",
    "Timeouts",
    "Transport",
    "TrustAnchors",
    "WorkerStarted",
    "WorkerStopped",
    "load_pkcs12",
    "status_query_token_in",
]
