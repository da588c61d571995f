"""Creating a job: check, sign, send; and what is known of it when that fails.

`check` reads documents; it and `_prepare` are for a worker thread.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from secrets import token_hex
from typing import BinaryIO

import anyio
from anyio import to_thread

from posten_signering._container.body import StreamedBody, joined
from posten_signering._container.documents import Inspection, inspect
from posten_signering._container.layout import (
    MANIFEST_NAME,
    Compression,
    Layout,
    SignedFile,
    container_layout,
    multipart,
)
from posten_signering._container.processors import BundleProcessor
from posten_signering._session.session import Session
from posten_signering._values.job import DirectJob, DocumentType, Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import DirectJobResponse
from posten_signering._wire import messages, operations, rules
from posten_signering._wire.exchange import Request
from posten_signering.errors import CreateOutcomeUnknownError, InvalidJobError, TransportError

logger = logging.getLogger("posten_signering")

_PROCESSORS_AT_ONCE = 4


Sign = Callable[[Sequence[SignedFile], datetime], bytes]
"""Makes `META-INF/signatures.xml` over the files of a container, at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedJob:
    """A job that breaks no rule that can be checked here.

    Attributes:
        rendered: Its messages.
        inspection: Its documents, and what was found when they were read.
    """

    rendered: messages.JobMessages
    inspection: Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A signed job that can be sent.

    Attributes:
        container: The layout of the container.
        content_type: Of the request's body.
        body: The layout of the request's body.
    """

    container: Layout
    content_type: str
    body: Layout


def check(job: DirectJob, sender: Sender, compression: Compression) -> CheckedJob:
    """Checks every rule that can be checked here. Reads the job's documents.

    Raises:
        InvalidJobError: The job breaks rules; all of them are listed.
    """
    if misshapen := rules.shape(job, sender):
        raise InvalidJobError(misshapen)
    # The type may have been given as its text.
    documents = [replace(document, type=DocumentType(document.type)) for document in job.documents]
    inspection = inspect(documents, compression=compression)
    rendered = messages.job_messages(job, sender, [entry.name for entry in inspection.entries])
    broken = rules.broken(job, sender, [rendered.request, rendered.manifest])
    if broken or inspection.violations:
        raise InvalidJobError([*broken, *inspection.violations])
    return CheckedJob(rendered=rendered, inspection=inspection)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCreation:
    """Creates jobs for an open client, and says by type what is known when no clear response comes.

    Attributes:
        session: Sends the create.
        sign: Signs the files of a container with the enterprise certificate.
        clock: The time now, aware.
        compression: How documents are stored in the container.
        processors: Called with each job and its finished container before it is sent, in order.
        limiter: For work in threads.
        processing: For processors. They are the caller's code: however long one takes, it holds up no
            other call.
    """

    session: Session
    sign: Sign
    clock: Callable[[], datetime]
    compression: Compression
    processors: Sequence[BundleProcessor]
    limiter: anyio.CapacityLimiter
    processing: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(_PROCESSORS_AT_ONCE)
    )

    async def create(self, root: str, job: DirectJob, sender: Sender) -> DirectJobResponse:
        """Checks, signs and sends a job.

        Raises:
            InvalidJobError: The job breaks rules; it was not created.
            CreateOutcomeUnknownError: The job may exist.
            SigningError: Any other error: the job does not exist.
        """
        checked = await to_thread.run_sync(
            check, job, sender, self.compression, limiter=self.limiter
        )
        # Headers alone make no job: it may exist from the first bytes of the body on.
        body_has_left = False

        def leaving() -> None:
            nonlocal body_has_left
            body_has_left = True

        async def carrying_body(request: Request) -> Request:
            prepared = await to_thread.run_sync(self._prepare, checked, limiter=self.limiter)
            if self.processors:
                container, inspection = prepared.container, checked.inspection
                await to_thread.run_sync(
                    self._process, job, container, inspection, limiter=self.processing
                )
            body = StreamedBody(
                layout=prepared.body,
                inspection=checked.inspection,
                limiter=self.limiter,
                leaving=leaving,
            )
            headers = {**request.headers, "Content-Type": prepared.content_type}
            return replace(request, headers=headers, body=body)

        operation = operations.create(root, sender, reference=job.reference)
        try:
            return await self.session.send(operation, carrying_body)
        except CreateOutcomeUnknownError:
            raise
        except TransportError as error:
            if not error.request_may_have_left:
                raise
            raise CreateOutcomeUnknownError(
                reference=job.reference, reason=_reason(error)
            ) from error
        except anyio.get_cancelled_exc_class():
            if body_has_left:
                logger.warning(
                    "Creating the job %s was cancelled while it was in flight: the job may exist.",
                    "without a reference"
                    if job.reference is None
                    else f"with reference {job.reference!r}",
                )
            raise

    def _prepare(self, checked: CheckedJob) -> PreparedJob:
        """Signs a job and lays out its body. To be done when it is about to be sent.

        The service accepts a signing time within 5 seconds of its own clock, and a call may wait longer
        than that for its turn.
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


def _reason(error: TransportError) -> str:
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]
