"""The control API: HTTP endpoints for tests in any language and for the overview page.

The endpoints below are served and described in the OpenAPI document. The response to a failed request is
`{"error": "..."}`. The middleware `guard` commits what a request changed.
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, partial
from inspect import isawaitable
from typing import Annotated, Any, Literal, cast

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    with_config,
)

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import Fault, PendingFault
from posten_signering.sandbox._control.control import LONGEST_ADVANCE, Control
from posten_signering.sandbox._control.openapi import (
    EVENT_STREAM,
    JSON,
    PREFIX,
    Endpoint,
    Problem,
    openapi_document,
)
from posten_signering.sandbox._control.overview import (
    BrokerSnapshot,
    JobSnapshot,
    OrganizationNumber,
    QueueSnapshot,
)
from posten_signering.sandbox._state.job import Act
from posten_signering.sandbox._state.storage import to_json
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.refusal import Refusal, SandboxError

logger = logging.getLogger("posten_signering.sandbox")

Base64 = Annotated[str, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitUrl:
    """The exit URL that the service redirects the signer's browser to.

    Attributes:
        exit_url: The URL, including its `status_query_token`.
    """

    exit_url: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusQueryToken:
    """The token that a sender needs to request the status.

    Attributes:
        status_query_token: The value of the query parameter `status_query_token`.
    """

    status_query_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """How far to move the sandbox's clock forward.

    Attributes:
        seconds: The number of seconds: more than 0, at most one year.
    """

    seconds: Annotated[float, Field(gt=0, le=LONGEST_ADVANCE)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultNumber:
    """The number of an added fault.

    Attributes:
        number: Removes the fault: `DELETE /control/faults/{number}`.
    """

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Organization:
    """An organisation.

    Attributes:
        organization_number: Any nine digits.
    """

    organization_number: OrganizationNumber


@dataclass(frozen=True, kw_only=True, slots=True)
class EnterpriseCertificateFile:
    """An enterprise certificate.

    Attributes:
        organization_number: The organisation that the certificate is issued to.
        pkcs12: A PKCS#12 file with the private key, the certificate and its chain.
        password: The password of the file.
    """

    organization_number: OrganizationNumber
    pkcs12: Base64 = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """The number of changes so far.

    Attributes:
        version: A number that grows with every change.
    """

    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeEvent:
    """One Server-Sent Event.

    Attributes:
        event: The type of the event.
        data: The number of changes so far, as JSON text.
    """

    event: Literal["change"]
    data: Json[Version]


# The operations without a method in `Control`. Their docstrings are the summaries in the OpenAPI document.


def jobs(control: Control) -> tuple[JobSnapshot, ...]:
    """All jobs with their signers, newest first."""
    return control.overview().jobs


def job(control: Control, job_id: int) -> JobSnapshot:
    """One job."""
    for snapshot in control.overview().jobs:
        if snapshot.id == job_id:
            return snapshot
    raise Refusal(404, "NOT_FOUND", f"There is no job {job_id}.")


def queues(control: Control) -> tuple[QueueSnapshot, ...]:
    """The polling queues, with leases and next permitted poll times."""
    return control.overview().queues


def requests(control: Control) -> tuple[RequestSnapshot, ...]:
    """The last requests to the API, newest first."""
    return control.activity.requests


def counters(control: Control) -> Mapping[str, OrganizationCounters]:
    """The calls, refusals and early polls of each organisation, by organisation number."""
    return control.activity.counters


def act(control: Control, job_id: int, number: int, act: Act) -> ExitUrl:
    """Signs, rejects or fails as a signer. The redirect URL does not have to be opened first."""
    exit_url = control.state.act_as(job_id, number - 1, act, now=control.settings.now())
    return ExitUrl(exit_url=exit_url)


def status_query_token(control: Control, job_id: int, number: int) -> StatusQueryToken:
    """The status query token in the signer's exit URL, also before the signer has finished.

    Until then, the service refuses a status request with this token
    (SIGNING_CEREMONY_NOT_COMPLETED).
    """
    token = control.state.status_query_token(job_id, number - 1, now=control.settings.now())
    return StatusQueryToken(status_query_token=token)


def advance(control: Control, body: Advance) -> None:
    """Moves the sandbox's clock forward.

    Signing times of containers may be by the clock before it was moved, or by the moved clock.
    """
    control.advance(body.seconds)


def faults(control: Control) -> tuple[PendingFault, ...]:
    """The pending faults, oldest first."""
    return control.faults.pending


def add_fault(control: Control, body: Fault) -> FaultNumber:
    """Adds a fault, which happens from the next request on."""
    return FaultNumber(number=control.faults.add(body))


def remove_fault(control: Control, number: int) -> None:
    """Removes a fault."""
    if not control.faults.remove(number):
        raise Refusal(404, "NOT_FOUND", f"There is no pending fault {number}.")


def clear_faults(control: Control) -> None:
    """Removes all faults."""
    control.faults.clear()


async def issue(control: Control, body: Organization) -> EnterpriseCertificateFile:
    """The enterprise certificate of an organisation. Every call returns the same certificate."""
    number = body.organization_number
    issued = await control.workers.run(control.authority.enterprise_pkcs12, number)
    return EnterpriseCertificateFile(
        organization_number=number,
        pkcs12=b64encode(issued.content).decode(),
        password=issued.password,
    )


def authorize_broker(control: Control, body: BrokerSnapshot) -> None:
    """Allows the organisation in a certificate to act for a sender."""
    control.authorize_broker(body.certificate_organization, body.sender)


def ca(control: Control) -> str:
    """The root CA certificate of this sandbox, which all its certificates chain up to."""
    return control.authority.root_pem.decode()


def events(control: Control) -> ChangeEvent:
    """Reports every change, as Server-Sent Events: the first when the client connects.

    Between events there are comment lines, so that a client notices a dead connection.
    """
    return ChangeEvent(event="change", data=Version(version=control.feed.version))


def openapi(_: Control) -> Mapping[str, Any]:
    """This document."""
    return _document()


def root(_: Control) -> Mapping[str, Any]:
    """The same document as `/control/openapi.json`."""
    return _document()


ENDPOINTS = (
    Endpoint.of("GET", "", root),
    Endpoint.of("GET", "/openapi.json", openapi),
    Endpoint.of("GET", "/overview", Control.overview),
    Endpoint.of("GET", "/events", events, media_type=EVENT_STREAM),
    Endpoint.of("GET", "/jobs", jobs, gives={"job": "/0/id", "signer": "/0/signers/0/number"}),
    Endpoint.of("GET", "/jobs/{job}", job, gives={"signer": "/signers/0/number"}),
    Endpoint.of(
        "GET",
        "/queues",
        queues,
        gives={"job": "/0/changes/0/job_id", "change": "/0/changes/0/number"},
    ),
    Endpoint.of("GET", "/requests", requests),
    Endpoint.of("GET", "/counters", counters),
    Endpoint.of("POST", "/jobs/{job}/signers/{signer}/{act}", act, refusals=(409,)),
    Endpoint.of("GET", "/jobs/{job}/signers/{signer}/status-query-token", status_query_token),
    Endpoint.of("POST", "/jobs/{job}/expire", Control.expire, refusals=(409,)),
    Endpoint.of("POST", "/jobs/{job}/changes/{change}/end-lease", Control.end_lease),
    Endpoint.of("DELETE", "/jobs/{job}/documents", Control.delete_documents, refusals=(409,)),
    Endpoint.of("POST", "/advance", advance, refusals=(409,), example={"seconds": 600}),
    Endpoint.of("GET", "/faults", faults, gives={"fault": "/0/number"}),
    Endpoint.of(
        "POST",
        "/faults",
        add_fault,
        gives={"fault": "/number"},
        example={"kind": "server_error", "status": 502, "times": 3},
    ),
    Endpoint.of("DELETE", "/faults/{fault}", remove_fault),
    Endpoint.of("DELETE", "/faults", clear_faults),
    Endpoint.of(
        "POST",
        "/enterprise-certificates",
        issue,
        example={"organization_number": "987654321"},
    ),
    Endpoint.of(
        "POST",
        "/brokers",
        authorize_broker,
        example={"certificate_organization": "987654321", "sender": "123456789"},
    ),
    Endpoint.of("POST", "/reset", Control.reset),
    Endpoint.of("GET", "/ca.pem", ca, media_type="application/x-pem-file"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlApi:
    """The control API.

    Attributes:
        control: The actions that the endpoints call.
        heartbeat: The feed sends a comment after this many seconds without a change. Otherwise a dead
            connection would go unnoticed.
        body_timeout: A request is refused when its body has not arrived after this many seconds.
    """

    control: Control
    heartbeat: float = 15.0
    body_timeout: float = 30.0

    def add_to(self, application: web.Application) -> None:
        """Adds every route, and closes the feeds when the application shuts down."""
        api = web.Application(middlewares=[_explain])
        for endpoint in ENDPOINTS:
            if endpoint.media_type == EVENT_STREAM:
                api.router.add_route(endpoint.method, endpoint.route, self._events)
                continue
            handler = partial(self._answer, endpoint)
            api.router.add_route(endpoint.method, endpoint.route, handler)
            if endpoint.method == "GET":
                api.router.add_head(endpoint.route, handler)
        api.router.add_get("/", partial(self._answer, ENDPOINTS[0]))
        api.on_shutdown.append(self._end_feeds)
        application.add_subapp(PREFIX, api)

    async def _answer(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        arguments = [kind(request.match_info[name]) for name, kind in endpoint.parameters.items()]
        if endpoint.body is not None:
            arguments.append(await self._body(request, endpoint.body))
        answer = endpoint.call(self.control, *arguments)
        if isawaitable(answer):
            answer = await answer
        if endpoint.answer is None:
            return web.Response(status=204)
        if endpoint.media_type != JSON:
            return web.Response(body=answer.encode(), content_type=endpoint.media_type)
        return _json(answer)

    async def _body(self, request: web.Request, kind: type[Any]) -> object:
        if request.content_type != JSON or "Content-Encoding" in request.headers:
            raise Refusal(
                415,
                "UNSUPPORTED_MEDIA_TYPE",
                f"The body must be JSON: set Content-Type to {JSON}, and no Content-Encoding.",
            )
        try:
            async with asyncio.timeout(self.body_timeout):
                content = Octets(await request.read())
        except TimeoutError:
            raise Refusal(
                408,
                "REQUEST_TIMEOUT",
                f"The body did not arrive within {self.body_timeout:g} seconds: send all of it at once.",
            ) from None
        except web.HTTPRequestEntityTooLarge:
            raise Refusal(
                413, "TOO_LARGE", f"The body is larger than {request.client_max_size} bytes."
            ) from None
        except (web.RequestPayloadError, ConnectionError):
            raise Refusal(
                400,
                "BAD_REQUEST",
                "The body is incomplete, or its chunks are malformed.",
            ) from None
        try:
            return _READERS[kind].validate_json(content, strict=True)
        except ValidationError as error:
            reason = _reason(error, kind)
        # Raised outside `except`: otherwise pydantic's error, which quotes the body, would be its `__context__`.
        raise Refusal(400, "BAD_REQUEST", reason)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
        )
        try:
            await response.prepare(request)
            while not self.control.feed.closed:
                change = events(self.control)
                text = f"event: {change.event}\ndata: {to_json(change.data)}\n\n"
                await response.write(text.encode())
                while not await self._changes(change.data.version):
                    await response.write(b": heartbeat\n\n")
        except ConnectionError:
            # The client has disconnected.
            pass
        return response

    async def _changes(self, version: int) -> bool:
        """Waits for a change. Returns False when the next heartbeat is due first."""
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


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Responds to a failed request with the reason."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _problem(refusal.status, refusal.message)
    except SandboxError as error:
        return _problem(500, str(error))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        problem = f"This path does not support {request.method}. It supports: {allowed}."
        return _problem(405, problem, Allow=allowed)
    except web.HTTPNotFound:
        problem = (
            "The control API has no such path, or a number in it is out of range:"
            f" see {PREFIX}/openapi.json."
        )
        return _problem(404, problem)
    except Exception:
        logger.exception("A control API request failed because of a bug in the sandbox")
        message = "The request failed because of a bug in the sandbox: see the sandbox's log."
        return _problem(500, message)


def _with_whole_numbers(body: object) -> object:
    """The body with 1 in place of 1.0: JSON does not tell them apart, but pydantic does."""
    if not isinstance(body, dict):
        return body
    values = cast("dict[str, object]", body)
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in values.items()
    }


def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    """The adapter that validates bodies of a type. It refuses unknown fields, NaN and Infinity."""
    closed = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))(kind)
    form: Any = Annotated[closed, BeforeValidator(_with_whole_numbers)]
    return TypeAdapter(form)


_READERS = {
    endpoint.body: _reader(endpoint.body) for endpoint in ENDPOINTS if endpoint.body is not None
}
_REPORTED_FIRST = {"unexpected_keyword_argument": 0, "missing": 1}


def _reason(error: ValidationError, kind: type[Any]) -> str:
    """What is wrong with a body, without the values in it."""
    problems = error.errors(include_url=False, include_input=False)
    problem = min(
        problems,
        key=lambda problem: _REPORTED_FIRST.get(problem["type"], len(_REPORTED_FIRST)),
    )
    name = str(problem["loc"][0]) if problem["loc"] else "The body"
    context = problem.get("ctx", {})
    match problem["type"]:
        case "unexpected_keyword_argument":
            known = ", ".join(field.name for field in fields(kind))
            return f"The body has an unknown field '{masked(name)[:40]}'. Its fields are: {known}."
        case "missing":
            return f"The body has no field {name}: add it."
        case "value_error":
            return str(context["error"])
        case _:
            return f"{name}: {problem['msg']}."


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(status=status, text=to_json(answer), content_type=JSON)


def _problem(status: int, error: str, **headers: str) -> web.Response:
    answer = _json(Problem(error=error), status)
    answer.headers.update(headers)
    return answer
