"""The control API: what a test in any language, or the overview page, asks of the sandbox over HTTP.

It has the endpoints below, a feed of changes, and the OpenAPI document of both. A request that fails is
answered with `{"error": "..."}`. The guard in front commits what a request changed.
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, partial
from inspect import isawaitable
from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, TypeAdapter, ValidationError, WithJsonSchema, with_config

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import Fault, PendingFault
from posten_signering.sandbox._control.control import Control, require_organization_number
from posten_signering.sandbox._control.openapi import (
    JSON,
    PREFIX,
    Endpoint,
    Problem,
    openapi_document,
)
from posten_signering.sandbox._control.overview import BrokerSnapshot, JobSnapshot, QueueSnapshot
from posten_signering.sandbox._state.job import Act
from posten_signering.sandbox._state.storage import to_json
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.refusal import Refusal, SandboxError

logger = logging.getLogger("posten_signering.sandbox")

Base64 = Annotated[str, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitUrl:
    """Where the signer's browser goes.

    Attributes:
        exit_url: With its `status_query_token`.
    """

    exit_url: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusQueryToken:
    """What a status is asked for with.

    Attributes:
        status_query_token: The value of the parameter `status_query_token`.
    """

    status_query_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """How far the sandbox's clock is moved on.

    Attributes:
        seconds: More than 0.
    """

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultNumber:
    """A fault that was added.

    Attributes:
        number: To remove it by.
    """

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Organization:
    """An organisation.

    Attributes:
        organization_number: Nine digits; any will do.
    """

    organization_number: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EnterpriseCertificateFile:
    """An enterprise certificate.

    Attributes:
        organization_number: Whose it is.
        pkcs12: A PKCS#12 file with the key, the certificate and the CAs above it.
        password: The file's password.
    """

    organization_number: str
    pkcs12: Base64 = field(repr=False)
    password: str = field(repr=False)


# The operations that `Control` does not have already. A docstring is the summary in the OpenAPI document.


def jobs(control: Control) -> tuple[JobSnapshot, ...]:
    """The jobs with their signers, newest first."""
    return control.overview().jobs


def job(control: Control, job_id: int) -> JobSnapshot:
    """One job."""
    for found in control.overview().jobs:
        if found.id == job_id:
            return found
    raise Refusal(404, "NOT_FOUND", f"There is no job {job_id}.")


def queues(control: Control) -> tuple[QueueSnapshot, ...]:
    """The polling queues, with leases and next permitted poll times."""
    return control.overview().queues


def requests(control: Control) -> tuple[RequestSnapshot, ...]:
    """The last requests to the API, newest first."""
    return control.activity.requests


def counters(control: Control) -> Mapping[str, OrganizationCounters]:
    """What the calls of each organisation have come to, by organisation number."""
    return control.activity.counters


def act(control: Control, job_id: int, number: int, what: Act) -> ExitUrl:
    """Acts as a signer, who need not have opened the redirect URL."""
    exit_url = control.state.act_as(job_id, number - 1, what, now=control.settings.now())
    return ExitUrl(exit_url=exit_url)


def status_query_token(control: Control, job_id: int, number: int) -> StatusQueryToken:
    """The token that the signer's exit URL carries, or will carry.

    A status that is asked for with it before the signer has finished is refused
    (SIGNING_CEREMONY_NOT_COMPLETED).
    """
    token = control.state.status_query_token(job_id, number - 1, now=control.settings.now())
    return StatusQueryToken(status_query_token=token)


def advance(control: Control, body: Advance) -> None:
    """Moves the sandbox's clock on. Signing times of containers are held against the old."""
    control.advance(body.seconds)


def faults(control: Control) -> tuple[PendingFault, ...]:
    """The faults that will act, oldest first."""
    return control.faults.pending


def add_fault(control: Control, body: Fault) -> FaultNumber:
    """Lets a fault happen from the next request on."""
    return FaultNumber(number=control.faults.add(body))


def remove_fault(control: Control, number: int) -> None:
    """Ends one fault."""
    if not control.faults.remove(number):
        raise Refusal(404, "NOT_FOUND", f"There is no fault {number}.")


def clear_faults(control: Control) -> None:
    """Ends all faults."""
    control.faults.clear()


async def issue(control: Control, body: Organization) -> EnterpriseCertificateFile:
    """The enterprise certificate of an organisation; the same for every call."""
    number = body.organization_number
    require_organization_number(number)
    issued = await control.workers.run(control.authority.enterprise_pkcs12, number)
    return EnterpriseCertificateFile(
        organization_number=number,
        pkcs12=b64encode(issued.content).decode(),
        password=issued.password,
    )


def authorize_broker(control: Control, body: BrokerSnapshot) -> None:
    """Permits the holder of a certificate to act for a sender."""
    control.authorize_broker(body.certificate_organization, body.sender)


def ca(control: Control) -> str:
    """The root certificate of everything in this sandbox."""
    return control.authority.root_pem.decode()


ENDPOINTS = (
    Endpoint.of("GET", "/overview", Control.overview),
    Endpoint.of("GET", "/jobs", jobs),
    Endpoint.of("GET", "/jobs/{job}", job),
    Endpoint.of("GET", "/queues", queues),
    Endpoint.of("GET", "/requests", requests),
    Endpoint.of("GET", "/counters", counters),
    Endpoint.of("POST", "/jobs/{job}/signers/{signer}/{act}", act),
    Endpoint.of("GET", "/jobs/{job}/signers/{signer}/status-query-token", status_query_token),
    Endpoint.of("POST", "/jobs/{job}/expire", Control.expire),
    Endpoint.of("POST", "/jobs/{job}/changes/{change}/end-lease", Control.end_lease),
    Endpoint.of("DELETE", "/jobs/{job}/documents", Control.delete_documents),
    Endpoint.of("POST", "/advance", advance),
    Endpoint.of("GET", "/faults", faults),
    Endpoint.of("POST", "/faults", add_fault),
    Endpoint.of("DELETE", "/faults/{fault}", remove_fault),
    Endpoint.of("DELETE", "/faults", clear_faults),
    Endpoint.of("POST", "/enterprise-certificates", issue),
    Endpoint.of("POST", "/brokers", authorize_broker),
    Endpoint.of("POST", "/reset", Control.reset),
    Endpoint.of("GET", "/ca.pem", ca, media_type="application/x-pem-file"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlApi:
    """The control API.

    Attributes:
        control: What it offers.
        heartbeat: After this many seconds without a change the feed sends a comment, so that a dead
            connection is noticed.
    """

    control: Control
    heartbeat: float = 15.0

    def add_to(self, application: web.Application) -> None:
        """Adds every route, and closes the feeds when the application shuts down."""
        router = application.router
        for endpoint in ENDPOINTS:
            router.add_route(endpoint.method, endpoint.route, partial(self._handle, endpoint))
        router.add_route("GET", f"{PREFIX}/events", self._events)
        for path in (PREFIX, f"{PREFIX}/", f"{PREFIX}/openapi.json"):
            router.add_route("GET", path, self._openapi)
        for path in (PREFIX, PREFIX + "/{rest:.*}"):
            router.add_route("*", path, self._unknown)
        application.on_shutdown.append(self._end_feeds)

    async def _handle(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        try:
            return await self._answer(endpoint, request)
        except Refusal as refusal:
            return _problem(refusal.status, refusal.message)
        except SandboxError as error:
            return _problem(500, str(error))
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, "The body is too large.")
        except Exception:
            logger.exception("The control API failed: a mistake in the sandbox")
            return _problem(500, "The sandbox failed; its log tells why.")

    async def _answer(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        arguments = [kind(request.match_info[name]) for name, kind in endpoint.parameters.items()]
        if endpoint.body is not None:
            arguments.append(await _body(request, endpoint.body))
        answer = endpoint.call(self.control, *arguments)
        if isawaitable(answer):
            answer = await answer
        if endpoint.answer is None:
            return web.Response(status=204)
        if endpoint.media_type != JSON:
            return web.Response(body=answer.encode(), content_type=endpoint.media_type)
        return _json(answer)

    async def _openapi(self, _: web.Request) -> web.Response:
        return _json(_document())

    async def _unknown(self, _: web.Request) -> web.Response:
        return _problem(404, f"The control API has no such address: see {PREFIX}/openapi.json.")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        feed = self.control.feed
        try:
            await response.prepare(request)
            while not feed.closed:
                version = feed.version
                event = f'event: change\ndata: {{"version": {version}}}\n\n'
                await response.write(event.encode())
                while not await self._changes(version):
                    await response.write(b": still there\n\n")
        except ConnectionError:
            # The client has disconnected.
            pass
        return response

    async def _changes(self, version: int) -> bool:
        """Whether there was a change before the next heartbeat is due."""
        try:
            async with asyncio.timeout(self.heartbeat):
                await self.control.feed.wait(version)
        except TimeoutError:
            return False
        return True

    async def _end_feeds(self, _: web.Application) -> None:
        self.control.feed.close()


@cache
def _document() -> Mapping[str, Any]:
    return openapi_document(ENDPOINTS)


async def _body(request: web.Request, kind: type[Any]) -> object:
    if request.content_type != JSON:
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the body as {JSON}.")
    content = Octets(await request.read())
    try:
        return _READERS[kind].validate_json(content, strict=True)
    except ValidationError as error:
        reason = _reason(error, kind)
    # Raised outside `except`, so that pydantic's error is not its context: that quotes what was sent.
    raise Refusal(400, "BAD_REQUEST", reason)


_READERS = {
    endpoint.body: TypeAdapter[Any](with_config(ConfigDict(extra="forbid"))(endpoint.body))
    for endpoint in ENDPOINTS
    if endpoint.body is not None
}
"""Reads a body, by its type. Unknown fields are refused."""

_REPORTED_FIRST = {"unexpected_keyword_argument": 0, "missing": 1}
_TYPES = {
    "dataclass_type": "an object",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
}
"""pydantic's type of an error -> what the value must be."""


def _reason(error: ValidationError, kind: type[Any]) -> str:
    """Says what is wrong with a body, without quoting a value."""
    faults = error.errors(include_url=False, include_input=False)
    fault = min(faults, key=lambda fault: _REPORTED_FIRST.get(fault["type"], len(_REPORTED_FIRST)))
    name = str(fault["loc"][0]) if fault["loc"] else "the body"
    context = fault.get("ctx", {})
    match fault["type"]:
        case "json_invalid":
            return "The body is not JSON."
        case "unexpected_keyword_argument":
            known = ", ".join(field.name for field in fields(kind))
            return f"the body has no field '{masked(name)[:40]}'; it has: {known}."
        case "missing":
            return f"the body lacks {name}."
        case "value_error":
            return str(context["error"])
        case "enum":
            one_of = context["expected"].replace(" or ", ", ").replace("'", "")
            return f"{name} must be one of {one_of}."
        case wrong_type:
            return f"{name} must be {_TYPES.get(wrong_type, 'something else')}."


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(status=status, text=to_json(answer), content_type=JSON)


def _problem(status: int, error: str) -> web.Response:
    return _json(Problem(error=error), status)
