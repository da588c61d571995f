"""The HTTP endpoints of the service. They turn requests into calls of the state, and results into responses.

The rules of jobs and queues are in `_state`. The endpoints follow "Direct flow" in the service's
documentation. No URL or body is logged.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from aiohttp import web
from cryptography import x509

from posten_signering.sandbox._api.answers import job_response, signer_response, status_response
from posten_signering.sandbox._api.connection import certificate_organization
from posten_signering.sandbox._api.exchange import (
    NEXT_PERMITTED_POLL_TIME,
    Exchanges,
    current_exchange,
)
from posten_signering.sandbox._api.faults import Operation
from posten_signering.sandbox._intake.judge import Bundle, judge
from posten_signering.sandbox._intake.messages import check_signer_update_request
from posten_signering.sandbox._signed.documents import JobDocuments
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.queues import Outcome, QueueName
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._values import links
from posten_signering.sandbox._values.clock import AdvancedClock
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.links import Links
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings
from posten_signering.sandbox._values.workers import Workers

logger = logging.getLogger("posten_signering.sandbox")


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """The service behind the API.

    Attributes:
        settings: Times and limits.
        clock: The clock that signing times of containers are compared with. They may also be by the
            clock that it wraps, because `advance` can't move the clock of a sender in another process.
        exchanges: Handles every request before and after its endpoint.
        state: Jobs and queues.
        access: Decides who may call.
        documents: The documents of the jobs.
        links: Makes the URLs in responses.
        trusted: The CAs whose enterprise certificates may sign containers.
        workers: The threads in which bundles are validated.
        received: Called with every created job and the bundle that it arrived in.
    """

    settings: Settings
    clock: AdvancedClock
    exchanges: Exchanges
    state: State
    access: Access
    documents: JobDocuments
    links: Links
    trusted: Sequence[x509.Certificate]
    workers: Workers
    received: Callable[[Job, Bundle], None]

    def application(self) -> web.Application:
        """The aiohttp application with all endpoints of the service."""
        application = self.exchanges.application()
        for method, path, operation, handler in (
            ("GET", links.ORGANIZATION, Operation.CHECK_ACCESS, self._check_access),
            ("POST", links.JOBS, Operation.CREATE, self._create),
            ("GET", links.JOBS, Operation.POLL, self._poll),
            ("GET", links.STATUS, Operation.STATUS, self._status),
            ("POST", links.SIGNER, Operation.NEW_REDIRECT_URL, self._renew_redirect),
            ("GET", links.PADES, Operation.PADES, self._pades),
            ("GET", links.XADES, Operation.XADES, self._xades),
            ("POST", links.CONFIRMATION, Operation.CONFIRM, self._confirm),
            ("DELETE", links.DOCUMENTS, Operation.DELETE_DOCUMENTS, self._delete_documents),
        ):
            resource = links.API + path
            application.router.add_route(method, resource, handler, name=operation.value)
        return application

    # The endpoints.

    async def _check_access(self, request: web.Request) -> web.Response:
        holder, sender = certificate_organization(request), _sender(request)
        text = f"You are Sandbox Enterprise, organisation number {holder}"
        if holder != sender:
            text += f", operating on behalf of organisation number {sender}"
        return web.Response(text=text)

    async def _create(self, request: web.Request) -> web.Response:
        body = Octets(await current_exchange().body())
        # As in the service, the request takes effect even if the client leaves now.
        bundle = await current_exchange().until_reset(partial(self._judged, request, body))
        # The sender or its broker may sign the container, just as either may send the request.
        self.access.authorize(bundle.organization_number, _sender(request))
        job = self.state.create(
            _sender(request), bundle.request, bundle.manifest, now=self.settings.now()
        )
        self.documents.keep(job, bundle)
        self.received(job, bundle)
        logger.info("Created job %d with %d signers", job.id, len(job.signers))
        return job_response(job, self.links)

    async def _judged(self, request: web.Request, body: Octets) -> Bundle:
        bundle = await self.workers.run(
            judge,
            content_type=request.headers.get("Content-Type", ""),
            body=body,
            organization_number=_sender(request),
            trusted=self.trusted,
            now=self.clock.given,
            advanced_by=timedelta(seconds=self.clock.ahead),
        )
        await self.documents.check(bundle)
        return bundle

    async def _poll(self, request: web.Request) -> web.Response:
        # An empty parameter means the default queue, as does a missing one.
        name = request.query.get(links.POLLING_QUEUE) or None
        poll, status = self.state.poll(_sender(request), name, now=self.settings.now())
        too_early = poll.outcome is Outcome.TOO_EARLY
        queue = QueueName(sender=_sender(request), name=name)
        current_exchange().record_poll(queue, poll.next_permitted, too_early=too_early)
        if too_early:
            raise Refusal(
                429,
                "TOO_EAGER_POLLING",
                "The queue was polled before its next permitted poll time: wait until the time in"
                f" the header {NEXT_PERMITTED_POLL_TIME}.",
            )
        if status is None:
            return web.Response(status=204)
        return status_response(status, self.links)

    async def _status(self, request: web.Request) -> web.Response:
        status = self.state.status(
            _sender(request),
            _job_id(request),
            Hidden(request.query.get(links.STATUS_QUERY_TOKEN, "")),
            now=self.settings.now(),
        )
        return status_response(status, self.links)

    async def _renew_redirect(self, request: web.Request) -> web.Response:
        body = Octets(await current_exchange().body())
        # The official C# client sends no body here.
        if body:
            check_signer_update_request(body)
        position = _position(request)
        job = self.state.renew_redirect(
            _sender(request), _job_id(request), position, now=self.settings.now()
        )
        return signer_response(job, position, self.links)

    async def _confirm(self, request: web.Request) -> web.Response:
        change = request.query.get(links.CHANGE)
        if change is not None and re.fullmatch("[0-9]{1,19}", change) is None:
            message = f"Job {_job_id(request)} has no status change with the number in the URL."
            raise Refusal(404, "NOT_FOUND", message)
        self.state.confirm(
            _sender(request),
            _job_id(request),
            None if change is None else int(change),
            now=self.settings.now(),
        )
        return web.Response(status=204)

    async def _delete_documents(self, request: web.Request) -> web.Response:
        job_id = _job_id(request)
        self.state.delete_documents(_sender(request), job_id, now=self.settings.now())
        self.documents.delete(job_id)
        return web.Response(status=204)

    async def _pades(self, request: web.Request) -> web.Response:
        job = self.state.job_to_download(
            _sender(request), _job_id(request), None, now=self.settings.now()
        )
        content = await self.documents.pades(job)
        return web.Response(body=content, content_type="application/octet-stream")

    async def _xades(self, request: web.Request) -> web.Response:
        position = _position(request)
        job = self.state.job_to_download(
            _sender(request), _job_id(request), position, now=self.settings.now()
        )
        content = await self.documents.xades(job, position)
        return web.Response(body=content, content_type="application/xml")


def _sender(request: web.Request) -> str:
    return request.match_info["organization"]


def _job_id(request: web.Request) -> int:
    return int(request.match_info["job"])


def _position(request: web.Request) -> int:
    return int(request.match_info["signer"]) - 1
