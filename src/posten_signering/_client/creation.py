"""Creates a job: checks, signs and sends it. When that fails, the type of the error says whether the job exists."""

import asyncio
import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from secrets import token_hex
from typing import Any, BinaryIO, TypeVar, cast

import anyio
from anyio import to_thread

from posten_signering._container.body import StreamedBody, joined
from posten_signering._container.compression import Compression
from posten_signering._container.documents import Inspection, inspect
from posten_signering._container.layout import (
    MANIFEST_NAME,
    Layout,
    SignedFile,
    container_layout,
    multipart,
)
from posten_signering._container.pdf import trailer_length
from posten_signering._container.processors import BundleProcessor
from posten_signering._http.failures import causes
from posten_signering._session.session import Session
from posten_signering._values.job import (
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
    Sender,
)
from posten_signering._values.secret import Secret
from posten_signering._values.status import DirectJobResponse
from posten_signering._wire import messages, operations, rules
from posten_signering._wire.exchange import Request
from posten_signering.errors import (
    ApiError,
    CreateOutcomeUnknownError,
    InvalidJobError,
    TransportError,
)

T = TypeVar("T")

logger = logging.getLogger("posten_signering")

_MAX_PROCESSOR_THREADS = 4

# The texts of these libraries' exceptions quote values, which may be identity numbers or URLs.
_QUOTING_LIBRARIES = frozenset(
    {"h11", "httpcore", "httpx", "lxml", "pydantic", "pydantic_core", "xsdata", "xsdata_pydantic"}
)


# A job within these limits is checked in the event loop, in about 0.4 ms, and in less than 10 ms if it was made
# to be slow. The switch to a worker thread and back would take 0.1 to 0.3 ms.
_SMALL_DOCUMENTS = 64 * 1024  # bytes in total
_SMALL_TEXTS = 8 * 1024  # characters in total; the texts of a valid job have fewer
_SMALL_TRAILERS = 4 * 1024  # bytes in total; some take nearly a microsecond each
_FEW = 4  # documents, and signers

# One RSA signature takes 0.27 ms with a key of 2048 bits, 0.7 with 3072 and 1.4 with 4096 (medians, on one core).
# The rest of a signature takes less than 0.1 ms. In a worker thread it would not block the event loop, because
# OpenSSL releases the interpreter's lock, but the switch takes 0.1 to 0.3 ms.
_LARGEST_KEY_IN_LOOP = 3072


Sign = Callable[[Sequence[SignedFile], datetime], bytes]
"""Signs the files of a container with a signing time, and returns `META-INF/signatures.xml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedJob:
    """A job that breaks none of the rules that the client can check.

    Attributes:
        rendered: The XML messages of the job.
        inspection: The documents, and the result of reading them.
    """

    rendered: messages.JobMessages
    inspection: Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A signed job that can be sent.

    Attributes:
        container: The layout of the container.
        content_type: The media type of the request body.
        body: The layout of the request body.
    """

    container: Layout
    content_type: str
    body: Layout


def check(job: DirectJob, sender: Sender, compression: Compression) -> CheckedJob:
    """Checks every rule that the client can check. Reads the documents.

    Call it in a worker thread, unless the job is small.

    Raises:
        InvalidJobError: The job breaks rules. `violations` lists them. Values of a wrong type are
            reported alone, because the other checks can't read them.
    """
    of_types, of_fields = rules.part_violations(job, sender)
    if of_types:
        raise InvalidJobError(of_types)
    inspection = inspect(job.documents, compression=compression)
    rendered = messages.job_messages(job, sender, [entry.name for entry in inspection.entries])
    violations = rules.rule_violations(job, of_fields, rendered.faults)
    if violations or inspection.violations:
        raise InvalidJobError([*violations, *inspection.violations])
    return CheckedJob(rendered=rendered, inspection=inspection)


def is_small(job: DirectJob, sender: Sender) -> bool:
    """Whether checking a job takes so little time that it may run in the event loop.

    Never raises an error for a value of a wrong type, which `check` reports.
    """
    documents, signers = job.documents, job.signers
    if not (isinstance(documents, tuple) and isinstance(signers, tuple)):
        return False
    if max(len(documents), len(signers)) > _FEW:
        return False
    contents = [getattr(document, "content", None) for document in documents]
    in_memory = [content for content in contents if isinstance(content, bytes)]
    size = sum(map(len, in_memory))
    return (
        len(in_memory) == len(contents)  # only a worker thread may read a file
        and size <= _SMALL_DOCUMENTS
        and _length(job) + _length(sender) - size <= _SMALL_TEXTS
        and sum(map(trailer_length, in_memory)) <= _SMALL_TRAILERS
    )


# Returns the fields of a part of a job.
_FIELDS: dict[type, Callable[[Any], Iterable[object]]] = {
    part: attrgetter(*part.__dataclass_fields__)
    for part in (DirectJob, DirectSigner, Document, ExitUrls, Sender)
}


def _length(part: object) -> int:
    """The characters of all texts and the bytes of all documents in a part of a job."""
    if isinstance(part, (str, bytes)):
        return len(part)
    if isinstance(part, tuple):
        return sum(map(_length, cast("tuple[object, ...]", part)))
    fields = _FIELDS.get(type(part))
    if fields is not None:
        return sum(map(_length, fields(part)))
    return 0 if part is None else _SMALL_TEXTS + 1  # of an unknown type, so it may be large


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCreation:
    """Creates jobs for an open client.

    Attributes:
        session: Sends the request.
        sign: Signs the files of a container with the enterprise certificate.
        key_size: The size of the enterprise certificate's RSA key in bits.
        clock: Returns the current time as an aware datetime.
        compression: How documents are stored in the container.
        processors: The bundle processors. They are called in this order before a job is sent.
        limiter: Limits the worker threads.
        processor_limiter: Limits the worker threads of the processors. It is separate because a
            processor is the caller's code: a slow one must not delay other calls.
        turns: Limits what runs in the event loop.
    """

    session: Session
    sign: Sign
    key_size: int
    clock: Callable[[], datetime]
    compression: Compression
    processors: Sequence[BundleProcessor]
    limiter: anyio.CapacityLimiter
    processor_limiter: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(_MAX_PROCESSOR_THREADS)
    )
    turns: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(2, fast_acquire=True))

    async def create(self, root: str, job: DirectJob, sender: Sender) -> DirectJobResponse:
        """Checks, signs and sends a job.

        Raises:
            InvalidJobError: The job breaks rules; it was not created.
            CreateOutcomeUnknownError: The job may exist.
            Exception: Any other error: the job does not exist.
        """
        # Compressing 64 KiB takes more than a millisecond.
        small = self.compression is Compression.STORED and is_small(job, sender)
        checked = await self._call(partial(check, job, sender, self.compression), in_loop=small)
        # The job can exist only after the first bytes of the body were sent: headers create nothing.
        body_may_have_left = False

        def note_leaving() -> None:
            nonlocal body_may_have_left
            body_may_have_left = True

        async def add_body(request: Request) -> Request:
            quick = self.key_size <= _LARGEST_KEY_IN_LOOP
            prepared = await self._call(partial(self._prepare, checked), in_loop=quick)
            if self.processors:
                container, inspection = prepared.container, checked.inspection
                await to_thread.run_sync(
                    self._process, job, container, inspection, limiter=self.processor_limiter
                )
            body = StreamedBody(
                layout=prepared.body,
                inspection=checked.inspection,
                limiter=self.limiter,
                on_start=note_leaving,
            )
            headers = {**request.headers, "Content-Type": prepared.content_type}
            return replace(request, headers=headers, body=body)

        operation = operations.create(root, sender, reference=job.reference)
        try:
            return await self.session.send(operation, add_body)
        except asyncio.CancelledError:
            if body_may_have_left:
                logger.warning(
                    "Creating the job %s was cancelled while it was in flight: the job may exist. "
                    "Look for it before you create it again.",
                    "without a reference"
                    if job.reference is None
                    else f"with reference {job.reference!r}",
                )
            raise
        except Exception as error:
            unknown = _unknown_outcome(error, job, body_may_have_left=body_may_have_left)
            if unknown is None:
                raise
            cause = None if _may_quote_values(error) else error
        # Outside `except`, so that the error has no context that quotes values either.
        raise unknown from cause

    async def _call(self, function: Callable[[], T], *, in_loop: bool) -> T:
        """Calls a function in the event loop, or in a worker thread.

        The event loop runs at most two of these functions in each of its turns, so that many jobs at
        the same time do not block it.
        """
        if not in_loop:
            return await to_thread.run_sync(function, limiter=self.limiter)
        await self.turns.acquire()
        asyncio.get_running_loop().call_soon(self.turns.release)
        return function()

    def _prepare(self, checked: CheckedJob) -> PreparedJob:
        """Signs a job and lays out its body. Call it just before the job is sent.

        The service accepts a signing time within 5 seconds of its own clock. A call may wait longer
        than that for the rate budget or for a connection.
        """
        rendered, inspection = checked.rendered, checked.inspection
        manifest = SignedFile(
            name=MANIFEST_NAME,
            mime="application/xml",
            sha256=hashlib.sha256(rendered.manifest.reveal()).digest(),
        )
        now = self.clock()
        container = container_layout(
            inspection.entries,
            rendered.manifest,
            Secret(self.sign([*inspection.entries, manifest], now)),
            compression=inspection.compression,
            modified=now,
        )
        content_type, body = multipart(rendered.request, container, boundary=token_hex(16))
        return PreparedJob(container=container, content_type=content_type, body=body)

    def _process(self, job: DirectJob, layout: Layout, inspection: Inspection) -> None:
        container = Secret(joined(layout, inspection))

        def open_container() -> BinaryIO:
            return io.BytesIO(container.reveal())

        for processor in self.processors:
            processor(job, open_container)


def _unknown_outcome(
    error: Exception, job: DirectJob, *, body_may_have_left: bool
) -> CreateOutcomeUnknownError | None:
    """The error to raise in place of one that leaves the outcome open; None for every other error."""
    match error:
        case CreateOutcomeUnknownError() | InvalidJobError() | ApiError():
            return None
        case TransportError():
            unknown, reason = error.request_may_have_left, _reason(error)
        case _:
            # Nobody foresaw this error. Only a response of the service can rule out that the job exists.
            unknown = body_may_have_left
            reason = f"an unexpected {type(error).__name__} was raised"
    return CreateOutcomeUnknownError(reference=job.reference, reason=reason) if unknown else None


def _may_quote_values(error: Exception) -> bool:
    """Whether the text of the error, or of an error that led to it, may quote a value."""
    modules = (type(cause).__module__ for cause in causes(error))
    return not _QUOTING_LIBRARIES.isdisjoint(module.partition(".")[0] for module in modules)


def _reason(error: TransportError) -> str:
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]
