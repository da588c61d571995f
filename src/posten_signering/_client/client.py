"""The client: one short method for each operation of the service. `lifecycle` opens and closes it."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from posten_signering._client.downloads import DownloadStream, Progress
from posten_signering._client.lifecycle import ClientLifecycle
from posten_signering._client.polling import FailurePolicy, StatusChanges
from posten_signering._values.arguments import require
from posten_signering._values.job import DirectJob, Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    StatusPoll,
    optional_url_of,
    url_of,
)
from posten_signering._wire import operations

logger = logging.getLogger("posten_signering")


class DirectClient(ClientLifecycle):
    """A client for the direct flow of Posten signering.

    Create one client when your application starts, and share it. Enter it with `async with`: this
    checks the certificate and prepares TLS, but sends nothing. Tasks may call operations
    concurrently, all in the event loop that entered the client: a client belongs to that loop, its
    thread and its process. An operation that follows a URL of the service takes the response that contains
    the URL, or the URL as text if you stored it earlier.

    The client retries transient failures (see `Retries`). It never retries a poll, and it retries
    `create` only if no byte of the request can have reached the service.

    Every operation except `validate` may raise these errors of `posten_signering.errors`. A method
    lists only the errors that it raises in addition.

    - `ArgumentTypeError`: An argument has a wrong type, such as a `DirectJobResponse` in place of a
      `DirectJobStatusResponse`. Nothing was sent. `validate` raises it too.
    - `ClientStateError`: The client is not open, or the caller runs in a different event loop, thread
      or process. Nothing was sent. Call operations inside `async with`, in the same event loop.
    - `TransportError`: No complete response arrived. `TransportTimeoutError` means that the network
      was silent for longer than a timeout of the configuration. `TlsError` means that the client or
      the service did not accept the other's certificate.
    - `ApiError`: The service refused the request. `RateLimitedError` means that the service blocks
      the organisation for some time, because it made more than 10 calls in a second.
    - `UnexpectedResponseError`: The response can't be read.
    - `UntrustedUrlError`: The URL to follow does not belong to the configured service. Nothing was
      sent.

    Args:
        configuration: Which service to call, and the certificate and sender to use.
    """

    # Methods delete an argument once a `Secret` holds it: a traceback may show local variables, and a caller
    # may pass a value of any type.

    # Creating a job

    async def create(self, job: DirectJob) -> DirectJobResponse:
        """Creates a signature job.

        Reads every file to check it, and again to send it. Do not change a file until this method
        returns. The client retries a transient failure only as long as no byte of the request can have
        left, for example when it gets no connection. After that it does not retry, because the service
        has no idempotency key.

        Returns:
            The created job, with its signers and their redirect URLs.

        Raises:
            InvalidJobError: The job breaks rules of the service and was not created. `violations`
                lists the broken rules. A `DocumentChangedError` means that a file changed after it
                was checked.
            SenderNotSpecifiedError: Neither the job nor the configuration names a sender.
            CreateOutcomeUnknownError: The request was sent, but the response does not say whether
                the job was created, or no response came. The job may exist.
            TransportError: The service received nothing of the request. The job does not exist.
            ApiError: The service refused the job. The job does not exist.
        """
        creation = self._open().creation
        return await creation.create(self._root, job, self._sender_of(job))

    def validate(self, job: DirectJob) -> None:
        """Checks a job as `create` does, but sends nothing.

        Reads the documents, and blocks until it has read them. The client need not be open.

        Raises:
            InvalidJobError: The job breaks rules of the service. `violations` lists the broken rules.
            SenderNotSpecifiedError: Neither the job nor the configuration names a sender.
        """
        from posten_signering._client.creation import check  # noqa: PLC0415 - imports the XML libraries and httpx

        check(job, self._sender_of(job), self._configuration.compression)

    async def request_new_redirect_url(
        self, signer: DirectSignerResponse | str
    ) -> DirectSignerResponse:
        """Requests a new redirect URL for a signer.

        A redirect URL works once. Request a new one every time you redirect the signer's browser.

        Args:
            signer: A signer from a response, or the signer URL that you stored. This is not the
                redirect URL, which is for the signer's browser only.

        Returns:
            The signer, with the new `redirect_url`.

        Raises:
            UntrustedUrlError: The URL is not one of the service's API, for example because it is the
                redirect URL. Nothing was sent.
            ApiError: The service refused the request, for example because the signer has finished.
        """
        hidden = Secret(signer)
        del signer
        url = url_of(hidden, "signer_url")
        return await self._send(operations.new_redirect_url(self._root, url))

    # Getting its status

    async def get_status(
        self, job: DirectJobResponse | str, status_query_token: str
    ) -> DirectJobStatusResponse:
        """Gets the status of a job, with the token that the service added to an exit URL.

        Args:
            job: The created job, or the status URL that you stored.
            status_query_token: The value of this query parameter in the exit URL to which the service
                redirected a signer.

        Raises:
            StatusUrlMissingError: The job has no status URL, because it was created for polling.
            InvalidStatusQueryTokenError: The token does not belong to this job.
            SigningCeremonyNotCompletedError: The signer has not finished yet.
        """
        token = Secret(status_query_token)
        del status_query_token
        require("status_query_token", token, "text", str)
        hidden = Secret(job)
        del job
        url = url_of(hidden, "status_url")
        return await self._send(operations.status(self._root, url, token))

    async def get_status_change(self, *, sender: Sender | None = None) -> StatusPoll:
        """Polls a queue once.

        Wait for `StatusPoll.wait` before the next poll. `status_changes` does this for you.

        The service hides a delivered change from other polls for 10 minutes. Then it delivers the
        change again, unless it was confirmed. This includes a change in a lost response
        (`TransportError`).

        Args:
            sender: The sender whose queue to poll. None: the configuration's sender.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
            TooEagerPollingError: It is before the next permitted poll time. Nothing was sent if the
                client already knew that time (`polled` is False).
        """
        opened, sender = self._open(), self._sender(sender)
        return await opened.schedule.poll(sender)

    def status_changes(
        self, *, sender: Sender | None = None, failure_policy: FailurePolicy | None = None
    ) -> StatusChanges:
        """Returns an async iterator over the status changes of a queue. See `StatusChanges`.

        Args:
            sender: The sender whose queue to poll. None: the configuration's sender.
            failure_policy: When the iterator raises instead of polling again after a transient
                failure. None: never.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
        """
        opened, sender = self._open_elsewhere(), self._sender(sender)
        failure_policy = FailurePolicy() if failure_policy is None else failure_policy
        require("failure_policy", Secret(failure_policy), "a FailurePolicy", FailurePolicy)
        return StatusChanges(
            sender=sender,
            schedule=opened.schedule,
            failure_policy=failure_policy,
            time=opened.time,
            loop=opened.loop,
        )

    async def confirm(self, status: DirectJobStatusResponse | str) -> None:
        """Confirms a status change, so that the service does not deliver it again.

        Confirm after you have stored the result: once the last change of a job is confirmed, the
        service may make the job's documents unavailable. Does nothing for a status without a
        confirmation URL.

        Args:
            status: The status change, or the confirmation URL that you stored.

        Raises:
            TransportError: No response arrived, also after the retries. The change may be confirmed or
                not. If it is not, the service delivers it again.
            ApiError: The service refused the confirmation.
        """
        self._open()
        hidden = Secret(status)
        del status
        url = optional_url_of(hidden, "confirmation_url")
        if url is None:
            logger.info("The status has no confirmation URL, so there is nothing to confirm.")
            return
        await self._send(operations.confirm(self._root, url))

    # Getting the signed documents

    async def get_pades(self, status: DirectJobStatusResponse | str) -> bytes:
        """Downloads the signed PDF of a job into memory, up to `ClientConfiguration.max_bytes_in_memory`.

        Args:
            status: The status of the job, or the PAdES URL that you stored.

        Raises:
            SignedDocumentMissingError: The job has no signed PDF, because not every signer has signed.
            UnexpectedResponseError: The document is larger. `download_pades` and `open_pades` have no
                limit.
        """
        hidden = Secret(status)
        del status
        url = url_of(hidden, "pades_url")
        return await self._send(operations.pades(self._root, url))

    async def download_pades(
        self,
        status: DirectJobStatusResponse | str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Downloads the signed PDF of a job to a file.

        The file appears at `path` only when the download is complete and its content is on the disk. Where
        the file system can't flush a directory, a WARNING is logged once for the directory.

        Args:
            status: The status of the job, or the PAdES URL that you stored.
            path: The path of the file. An existing file is replaced.
            progress: Called after each MiB and at the end, with the number of bytes written and the
                expected total (None if the service does not say). A retry starts again at zero.

        Returns:
            The size of the file in bytes.

        Raises:
            OSError: The file can't be written. When its directory does not exist or can't be written
                to, or the path is a directory, nothing is requested.
            SignedDocumentMissingError: As for `get_pades`.
        """
        hidden = Secret(status)
        del status
        url = url_of(hidden, "pades_url")
        return await self._to_file(operations.pades(self._root, url), path, progress)

    @asynccontextmanager
    async def open_pades(
        self, status: DirectJobStatusResponse | str
    ) -> AsyncGenerator[DownloadStream]:
        """Streams the signed PDF of a job: `async with client.open_pades(status) as stream`.

        The stream is an async iterator of chunks of bytes, with a `content_length`. The client retries
        until the response begins, but not while you read the stream: see `DownloadStream`.

        Args:
            status: The status of the job, or the PAdES URL that you stored.

        Raises:
            SignedDocumentMissingError: As for `get_pades`.
        """
        hidden = Secret(status)
        del status
        url = url_of(hidden, "pades_url")
        opened = self._open()
        async with opened.session.open(operations.pades(self._root, url)) as stream:
            yield DownloadStream(stream, opened.loop)

    async def get_xades(self, signature: Signature | str) -> bytes:
        """Downloads the XAdES signature of a signer into memory, as `get_pades` does.

        Args:
            signature: A signature from the status of the job, or the XAdES URL that you stored.

        Raises:
            SignedDocumentMissingError: The signer has no XAdES, because they have not signed.
            UnexpectedResponseError: As for `get_pades`.
        """
        hidden = Secret(signature)
        del signature
        url = url_of(hidden, "xades_url")
        return await self._send(operations.xades(self._root, url))

    async def download_xades(
        self,
        signature: Signature | str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Downloads the XAdES signature of a signer to a file, as `download_pades` does.

        Args:
            signature: A signature from the status of the job, or the XAdES URL that you stored.
            path: The path of the file. An existing file is replaced.
            progress: As for `download_pades`.

        Returns:
            The size of the file in bytes.

        Raises:
            OSError: As for `download_pades`.
            SignedDocumentMissingError: As for `get_xades`.
        """
        hidden = Secret(signature)
        del signature
        url = url_of(hidden, "xades_url")
        return await self._to_file(operations.xades(self._root, url), path, progress)

    @asynccontextmanager
    async def open_xades(self, signature: Signature | str) -> AsyncGenerator[DownloadStream]:
        """Streams the XAdES signature of a signer, as `open_pades` does.

        Args:
            signature: A signature from the status of the job, or the XAdES URL that you stored.

        Raises:
            SignedDocumentMissingError: As for `get_xades`.
        """
        hidden = Secret(signature)
        del signature
        url = url_of(hidden, "xades_url")
        opened = self._open()
        async with opened.session.open(operations.xades(self._root, url)) as stream:
            yield DownloadStream(stream, opened.loop)

    # Other operations

    async def delete_documents(self, status: DirectJobStatusResponse | str) -> None:
        """Deletes the documents of a job from the service.

        Args:
            status: The status of the job, or the delete-documents URL that you stored.

        Raises:
            DocumentsNotDeletableError: The documents can't be deleted now. The service permits it 24
                hours after every signer has signed, at the earliest.
        """
        hidden = Secret(status)
        del status
        url = url_of(hidden, "delete_documents_url")
        await self._send(operations.delete_documents(self._root, url))

    async def check_access(self, *, sender: Sender | None = None) -> str:
        """Checks that the service accepts the certificate, and that it may act for the sender.

        Args:
            sender: The sender to check access for. None: the configuration's sender.

        Returns:
            The service's own sentence, which names the organisation that it sees in the certificate.

        Raises:
            SenderNotSpecifiedError: Neither the call nor the configuration names a sender.
            NotAuthorizedError: The certificate's organisation has no access to the service.
            BrokerNotAuthorizedError: The certificate's organisation may not act for the sender.
        """
        return await self._send(operations.access(self._root, self._sender(sender)))
