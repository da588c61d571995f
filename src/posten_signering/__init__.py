"""Asyncio client for the direct flow of Posten signering, the Norwegian e-signature service.

    async with DirectClient(configuration) as client:
        created = await client.create(job)

The names are those of the service's documentation. See also `posten_signering.errors`,
`posten_signering.worker` for programs that poll, and `posten_signering.sandbox`, a local service for
development and tests.
"""

from importlib.metadata import version

from posten_signering._client.client import DirectClient
from posten_signering._client.downloads import DownloadStream
from posten_signering._client.polling import FailurePolicy, PollCounts, StatusChanges
from posten_signering._configuration import ClientConfiguration, Timeouts
from posten_signering._container.layout import Compression
from posten_signering._container.processors import BundleProcessor, DocumentBundleToDisk
from posten_signering._session.rate import InMemoryRateLimiter, RateLimiter
from posten_signering._session.retry import Retries
from posten_signering._session.shared_rate import SharedRateLimiter
from posten_signering._trust.anchors import TrustAnchors
from posten_signering._trust.certificates import EnterpriseCertificate, load_pkcs12
from posten_signering._trust.environment import CertificateAuthority, Environment
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
from posten_signering._wire.exchange import Body, Request, ResponseStream, TimeoutKind, Transport
from posten_signering._wire.urls import status_query_token_in

__version__ = version("posten-signering")

__all__ = [
    "AuthenticationLevel",
    "Body",
    "BundleProcessor",
    "CertificateAuthority",
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
    "ExitUrls",
    "FailurePolicy",
    "IdentifierInSignedDocuments",
    "InMemoryRateLimiter",
    "OnBehalfOf",
    "PollCounts",
    "RateLimiter",
    "Request",
    "ResponseStream",
    "Retries",
    "Secret",
    "Sender",
    "SharedRateLimiter",
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
    "load_pkcs12",
    "status_query_token_in",
]
