"""The client: one short method for each operation of the service. Its life is in `lifecycle`."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from posten_signering._client.creation import check
from posten_signering._client.downloads import DownloadStream, Progress
from posten_signering._client.lifecycle import ClientLife
from posten_signering._client.polling import FailurePolicy, StatusChanges
from posten_signering._values.job import DirectJob, Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    StatusPoll,
    url_of,
)
from posten_signering._wire import operations

logger = logging.getLogger("posten_signering")


class DirectClient(ClientLife):
    """A client of the direct flow. Create one for the life of your application, and share it.

    Enter it with `async with`: that is when the certificate is checked and TLS is set up. Operations
    may run side by side, in any task. Those that follow a URL of the service take the response that
    holds the URL, or the URL itself as text if you stored it earlier.

    Every operation but `validate` raises `ClientStateError` outside `async with`; `TransportError` when
    no response came, or it was cut off; `ApiError` when the service refused; `UnexpectedResponseError`
    when the response can't be read; and, if it follows a URL, `UntrustedUrlError` when the URL is not
    one of the service's API. Each operation lists only what it raises besides.

    Args:
        configuration: How to reach the service, and as whom.
    """

    # Creating a job

    async def create(self, job: DirectJob) -> DirectJobResponse:
        """Creates a signature job.

        Files are read now, twice; nothing may write to them meanwhile. Is never repeated by itself:
        the service has no key by which it would know a second request for the first.

        Raises:
            InvalidJobError: The job breaks rules of the service; nothing was sent, or, for a
                `DocumentChangedError`, not all.
            SenderNotSpecifiedError: Neither the job nor the configuration names a sender.
            CreateOutcomeUnknownError: The request was sent, but no clear answer came: the job may
                exist.
            TransportError: No connection could be made; the job does not exist.
            ApiError: The service refused; the job does not exist.
        """
        creation = self._open().creation
        return await creation.create(self._root, job, self._sender(job.sender))

    def validate(self, job: DirectJob) -> None:
        """Does the checks of `create`, and sends nothing. Reads the documents, and blocks meanwhile.

        Raises:
            InvalidJobError: The job breaks rules of the service; all of them are told.
            SenderNotSpecifiedError: Neither the job nor the configuration names a sender.
        """
        check(job, self._sender(job.sender), self._configuration.compression)

    async def request_new_redirect_url(
        self, signer: DirectSignerResponse | str
    ) -> DirectSignerResponse:
        """Asks for a fresh redirect URL: one for every time a signer's browser is sent away.

        Args:
            signer: The signer of a response, or a signer URL that was stored. Mind that the redirect
                URL is another one: that one is for the browser.
        """
        url = url_of(signer, "signer_url")
        del signer
        return await self._send(operations.new_redirect_url(self._root, url))

    # Learning its status

    async def get_status(
        self, job: DirectJobResponse | str, status_query_token: str
    ) -> DirectJobStatusResponse:
        """Asks for a job's status, with the token that a signer brought back to an exit URL.

        Args:
            job: The created job, or its status URL that was stored.
            status_query_token: The query parameter of that name in the exit URL.

        Raises:
            StatusUrlMissingError: The job is polled.
            InvalidStatusQueryTokenError: The token is not one of this job.
            SigningCeremonyNotCompletedError: The signer has not finished.
        """
        token = Secret(status_query_token)
        del status_query_token
        url = url_of(job, "status_url")
        del job
        return await self._send(operations.status(self._root, url, token))

    async def get_status_change(self, *, sender: Sender | None = None) -> StatusPoll:
        """Polls a queue once. Mind `StatusPoll.wait`; `status_changes` does so by itself.

        A change that is delivered is hidden from other polls for 10 minutes, and then comes back
        unless it was confirmed.

        Args:
            sender: Whose queue; the configuration's sender when None.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
            TooEagerPollingError: Polled before the permitted time; when this client knows it
                beforehand, nothing is sent.
            RateLimitedError: The organisation makes too many calls.
            TransportError: No answer came; a change may have been delivered into the void, and will
                come back.
        """
        opened, sender = self._open(), self._sender(sender)
        operation = operations.poll(self._root, sender)
        return await opened.schedule.poll(sender, partial(opened.session.send, operation))

    def status_changes(
        self, *, sender: Sender | None = None, failure_policy: FailurePolicy | None = None
    ) -> StatusChanges:
        """The changes of a queue as they come, in `async for`; waits as long as the service asks.

        Args:
            sender: Whose queue; the configuration's sender when None.
            failure_policy: How long to go on when polls fail in passing; for ever when None.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
        """
        opened, sender = self._open(), self._sender(sender)
        return StatusChanges(
            send=partial(opened.session.send, operations.poll(self._root, sender)),
            sender=sender,
            schedule=opened.schedule,
            failure_policy=failure_policy or FailurePolicy(),
            time=opened.time,
        )

    async def confirm(self, status: DirectJobStatusResponse | str) -> None:
        """Tells the service that a status change has been dealt with: it does not come back.

        Do so after the result is stored: once the last change is confirmed, the service may remove
        what belongs to the job. Does nothing for a status without a confirmation URL.

        Args:
            status: The status change, or its confirmation URL that was stored.
        """
        self._open()
        if not isinstance(status, str) and status.confirmation_url is None:
            logger.info("The status has no confirmation URL: there is nothing to confirm.")
            return
        url = url_of(status, "confirmation_url")
        del status
        await self._send(operations.confirm(self._root, url))

    # Getting the signed documents

    async def get_pades(self, status: DirectJobStatusResponse | str) -> bytes:
        """Downloads the signed PDF of a job into memory.

        Args:
            status: The job's status, or its PAdES URL that was stored.

        Raises:
            SignedDocumentMissingError: There is none yet.
        """
        url = url_of(status, "pades_url")
        del status
        return await self._send(operations.pades(self._root, url))

    async def download_pades(
        self,
        status: DirectJobStatusResponse | str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Downloads the signed PDF of a job to a file, which appears when it is whole.

        Args:
            status: The job's status, or its PAdES URL that was stored.
            path: Where; a file that is there is replaced.
            progress: Called with the bytes that were written, and those expected in all (None where
                the service does not say).

        Returns:
            The number of bytes.

        Raises:
            OSError: The file can't be written.
            SigningError: As `get_pades`.
        """
        url = url_of(status, "pades_url")
        del status
        return await self._to_file(operations.pades(self._root, url), path, progress)

    @asynccontextmanager
    async def open_pades(
        self, status: DirectJobStatusResponse | str
    ) -> AsyncGenerator[DownloadStream]:
        """Streams the signed PDF of a job: `async with client.open_pades(status) as stream`.

        The stream is an async iterator of chunks of bytes, with a `content_length`.

        Args:
            status: The job's status, or its PAdES URL that was stored.

        Raises:
            SigningError: As `get_pades`; a `TransportError` also while reading.
        """
        url = url_of(status, "pades_url")
        del status
        async with self._open().session.open(operations.pades(self._root, url)) as stream:
            yield DownloadStream(stream)

    async def get_xades(self, signature: Signature | str) -> bytes:
        """Downloads a signer's XAdES into memory.

        Args:
            signature: A signature of the job's status, or its XAdES URL that was stored.

        Raises:
            SignedDocumentMissingError: The signer has not signed.
        """
        url = url_of(signature, "xades_url")
        del signature
        return await self._send(operations.xades(self._root, url))

    async def download_xades(
        self,
        signature: Signature | str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Downloads a signer's XAdES to a file, which appears when it is whole.

        Args:
            signature: A signature of the job's status, or its XAdES URL that was stored.
            path: Where; a file that is there is replaced.
            progress: As in `download_pades`.

        Returns:
            The number of bytes.

        Raises:
            OSError: The file can't be written.
            SigningError: As `get_xades`.
        """
        url = url_of(signature, "xades_url")
        del signature
        return await self._to_file(operations.xades(self._root, url), path, progress)

    @asynccontextmanager
    async def open_xades(self, signature: Signature | str) -> AsyncGenerator[DownloadStream]:
        """Streams a signer's XAdES: `async with client.open_xades(signature) as stream`.

        Args:
            signature: A signature of the job's status, or its XAdES URL that was stored.

        Raises:
            SigningError: As `get_xades`; a `TransportError` also while reading.
        """
        url = url_of(signature, "xades_url")
        del signature
        async with self._open().session.open(operations.xades(self._root, url)) as stream:
            yield DownloadStream(stream)

    # Afterwards

    async def delete_documents(self, status: DirectJobStatusResponse | str) -> None:
        """Deletes a job's documents from the service.

        Args:
            status: The job's status, or its delete-documents URL that was stored.

        Raises:
            DocumentsNotDeletableError: The service does not offer it now.
        """
        url = url_of(status, "delete_documents_url")
        del status
        await self._send(operations.delete_documents(self._root, url))

    async def check_access(self, *, sender: Sender | None = None) -> str:
        """Asks the service who it takes the certificate's holder for: its own sentence.

        Args:
            sender: On whose behalf; the configuration's sender when None.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
            NotAuthorizedError: The organisation has no access.
            BrokerNotAuthorizedError: It may not act for the sender.
        """
        return await self._send(operations.access(self._root, self._sender(sender)))
