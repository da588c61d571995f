"""The endpoints of the control API, each described once: routes and OpenAPI document are made of them."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import Fault, PendingFault
from posten_signering.sandbox._control.control import Control
from posten_signering.sandbox._control.control_values import (
    Advance,
    EnterpriseCertificateFile,
    ExitUrl,
    FaultNumber,
    Organization,
    StatusQueryToken,
)
from posten_signering.sandbox._control.overview import (
    BrokerSnapshot,
    JobSnapshot,
    Overview,
    QueueSnapshot,
)
from posten_signering.sandbox._state.job import Act
from posten_signering.sandbox._values.refusal import Refusal

PREFIX = "/control"
JSON = "application/json"
PEM = "application/x-pem-file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        path: The parameters in its path.
        body: Its body, read as the endpoint's type; None where it takes none.
    """

    path: Mapping[str, str]
    body: Any

    def number(self, name: str) -> int:
        """A parameter of the path that is a number."""
        return int(self.path[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One endpoint.

    Attributes:
        method: The HTTP method.
        path: Below `PREFIX`; its parameters stand in braces.
        name: The operation's name.
        summary: What it does.
        call: Does it.
        body: The type of its body; None: it takes none.
        answer: The type of its answer; None: it has none.
        media_type: Of the answer.
    """

    method: str
    path: str
    name: str
    summary: str
    call: Callable[[Control, Asked], Awaitable[object]]
    body: Any = None
    answer: Any = None
    media_type: str = JSON


async def _overview(control: Control, _: Asked) -> Overview:
    return control.overview()


async def _jobs(control: Control, _: Asked) -> tuple[JobSnapshot, ...]:
    return control.overview().jobs


async def _job(control: Control, asked: Asked) -> JobSnapshot:
    for job in control.overview().jobs:
        if job.id == asked.number("job"):
            return job
    raise Refusal(404, "NOT_FOUND", f"There is no job {asked.number('job')}.")


async def _queues(control: Control, _: Asked) -> tuple[QueueSnapshot, ...]:
    return control.overview().queues


async def _requests(control: Control, _: Asked) -> tuple[RequestSnapshot, ...]:
    return control.activity.requests


async def _counters(control: Control, _: Asked) -> Mapping[str, OrganizationCounters]:
    return control.activity.counters


async def _act(control: Control, asked: Asked) -> ExitUrl:
    exit_url = await control.act_as(
        asked.number("job"), asked.number("signer"), Act(asked.path["act"])
    )
    return ExitUrl(exit_url=exit_url)


async def _status_query_token(control: Control, asked: Asked) -> StatusQueryToken:
    token = control.status_query_token(asked.number("job"), asked.number("signer"))
    return StatusQueryToken(status_query_token=token)


async def _expire(control: Control, asked: Asked) -> None:
    await control.expire(asked.number("job"))


async def _end_lease(control: Control, asked: Asked) -> None:
    await control.end_lease(asked.number("job"), asked.number("change"))


async def _delete_documents(control: Control, asked: Asked) -> None:
    await control.delete_documents(asked.number("job"))


async def _advance(control: Control, asked: Asked) -> None:
    await control.advance(asked.body.seconds)


async def _faults(control: Control, _: Asked) -> tuple[PendingFault, ...]:
    return control.faults.pending


async def _add_fault(control: Control, asked: Asked) -> FaultNumber:
    return FaultNumber(number=control.faults.add(asked.body))


async def _remove_fault(control: Control, asked: Asked) -> None:
    if not control.faults.remove(asked.number("fault")):
        raise Refusal(404, "NOT_FOUND", f"There is no fault {asked.number('fault')}.")


async def _clear_faults(control: Control, _: Asked) -> None:
    control.faults.clear()


async def _issue(control: Control, asked: Asked) -> EnterpriseCertificateFile:
    number = asked.body.organization_number
    issued = await control.issue(number)
    return EnterpriseCertificateFile(
        organization_number=number,
        pkcs12=b64encode(issued.content).decode(),
        password=issued.password,
    )


async def _authorize_broker(control: Control, asked: Asked) -> None:
    await control.authorize_broker(asked.body.certificate_organization, asked.body.sender)


async def _reset(control: Control, _: Asked) -> None:
    await control.reset()


async def _ca(control: Control, _: Asked) -> bytes:
    return control.authority.root_pem


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/overview",
        name="overview",
        summary="Everything that the sandbox shows of itself.",
        call=_overview,
        answer=Overview,
    ),
    Endpoint(
        method="GET",
        path="/jobs",
        name="jobs",
        summary="The jobs with their signers, newest first.",
        call=_jobs,
        answer=tuple[JobSnapshot, ...],
    ),
    Endpoint(
        method="GET",
        path="/jobs/{job}",
        name="job",
        summary="One job.",
        call=_job,
        answer=JobSnapshot,
    ),
    Endpoint(
        method="GET",
        path="/queues",
        name="queues",
        summary="The polling queues, with leases and next permitted poll times.",
        call=_queues,
        answer=tuple[QueueSnapshot, ...],
    ),
    Endpoint(
        method="GET",
        path="/requests",
        name="requests",
        summary="The last requests to the API, newest first.",
        call=_requests,
        answer=tuple[RequestSnapshot, ...],
    ),
    Endpoint(
        method="GET",
        path="/counters",
        name="counters",
        summary="What the calls of each organisation have come to, by organisation number.",
        call=_counters,
        answer=Mapping[str, OrganizationCounters],
    ),
    Endpoint(
        method="POST",
        path="/jobs/{job}/signers/{signer}/{act}",
        name="act",
        summary="Acts as a signer, who need not have opened the redirect URL.",
        call=_act,
        answer=ExitUrl,
    ),
    Endpoint(
        method="GET",
        path="/jobs/{job}/signers/{signer}/status-query-token",
        name="status_query_token",
        summary=(
            "The token that the signer's exit URL carries, or will carry: a status that is asked for"
            " with it before the signer has finished is refused (SIGNING_CEREMONY_NOT_COMPLETED)."
        ),
        call=_status_query_token,
        answer=StatusQueryToken,
    ),
    Endpoint(
        method="POST",
        path="/jobs/{job}/expire",
        name="expire",
        summary="Moves a job to the end of its lifetime.",
        call=_expire,
    ),
    Endpoint(
        method="POST",
        path="/jobs/{job}/changes/{change}/end-lease",
        name="end_lease",
        summary="Lets a status change that a poller has come back at once.",
        call=_end_lease,
    ),
    Endpoint(
        method="DELETE",
        path="/jobs/{job}/documents",
        name="delete_documents",
        summary="Deletes the documents of a job that has ended, as when the service's time is over.",
        call=_delete_documents,
    ),
    Endpoint(
        method="POST",
        path="/advance",
        name="advance",
        summary="Moves the sandbox's clock on. Signing times of containers are held against the old.",
        call=_advance,
        body=Advance,
    ),
    Endpoint(
        method="GET",
        path="/faults",
        name="faults",
        summary="The faults that will act, oldest first.",
        call=_faults,
        answer=tuple[PendingFault, ...],
    ),
    Endpoint(
        method="POST",
        path="/faults",
        name="add_fault",
        summary="Lets a fault happen from the next request on.",
        call=_add_fault,
        body=Fault,
        answer=FaultNumber,
    ),
    Endpoint(
        method="DELETE",
        path="/faults/{fault}",
        name="remove_fault",
        summary="Ends one fault.",
        call=_remove_fault,
    ),
    Endpoint(
        method="DELETE",
        path="/faults",
        name="clear_faults",
        summary="Ends all faults.",
        call=_clear_faults,
    ),
    Endpoint(
        method="POST",
        path="/enterprise-certificates",
        name="issue",
        summary="The enterprise certificate of an organisation; the same for every call.",
        call=_issue,
        body=Organization,
        answer=EnterpriseCertificateFile,
    ),
    Endpoint(
        method="POST",
        path="/brokers",
        name="authorize_broker",
        summary="Permits the holder of a certificate to act for a sender.",
        call=_authorize_broker,
        body=BrokerSnapshot,
    ),
    Endpoint(
        method="POST",
        path="/reset",
        name="reset",
        summary="Forgets everything but the certificates, and sets the clock right.",
        call=_reset,
    ),
    Endpoint(
        method="GET",
        path="/ca.pem",
        name="ca",
        summary="The root certificate of everything in this sandbox.",
        call=_ca,
        answer=str,
        media_type=PEM,
    ),
)
