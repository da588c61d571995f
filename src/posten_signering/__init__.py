"""Asyncio client for the direct flow of Posten signering, the Norwegian e-signature service.

    async with DirectClient(configuration) as client:
        created = await client.create(job)

Whoever knows the service's documentation finds every step of the direct flow here under the same
words. Errors are in `posten_signering.errors`, a service to develop against is in
`posten_signering.sandbox`.
"""

from importlib.metadata import version

from posten_signering._bundle import BundleProcessor, DocumentBundleToDisk
from posten_signering._certificates import EnterpriseCertificate, load_pkcs12
from posten_signering._client import DirectClient
from posten_signering._configuration import ClientConfiguration, Timeouts
from posten_signering._downloads import DownloadStream
from posten_signering._environment import CertificateAuthority, Environment
from posten_signering._job import (
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
from posten_signering._polling import Persistence, PollCounts, StatusChanges
from posten_signering._rate import InMemoryRateLimiter, RateLimiter
from posten_signering._retry import Retries
from posten_signering._shared_rate import SharedRateLimiter
from posten_signering._status import (
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    SignerStatus,
    StatusPoll,
)
from posten_signering._trust import TrustAnchors
from posten_signering._web import status_query_token_in
from posten_signering._wire.asice import Compression
from posten_signering._wire.exchange import Body, Patience, Request, ResponseStream, Transport

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
    "IdentifierInSignedDocuments",
    "InMemoryRateLimiter",
    "OnBehalfOf",
    "Patience",
    "Persistence",
    "PollCounts",
    "RateLimiter",
    "Request",
    "ResponseStream",
    "Retries",
    "Sender",
    "SharedRateLimiter",
    "Signature",
    "SignatureType",
    "SignerStatus",
    "StatusChanges",
    "StatusPoll",
    "StatusRetrievalMethod",
    "Timeouts",
    "Transport",
    "TrustAnchors",
    "load_pkcs12",
    "status_query_token_in",
]
