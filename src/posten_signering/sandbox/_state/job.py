"""One job, and how signers, the sender and time change it: functions from job to job. Pure.

The rules are those of the service's documentation ("Endring av signeringsoppdrag", "Lagring") and of
`direct.xsd`; a transition that they forbid raises the `Refusal` that the service answers with.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote, urlsplit, urlunsplit

from posten_signering.sandbox._intake.messages import JobRequest, Manifest
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.links import STATUS_QUERY_TOKEN
from posten_signering.sandbox._values.refusal import Refusal

POLLING = "POLLING"


class JobStatus(StrEnum):
    """The wire's values of schema type `direct-signature-job-status`."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    FAILED = "FAILED"


class SignerStatus(StrEnum):
    """The wire's values of a signer's status that this service gives."""

    WAITING = "WAITING"
    SIGNED = "SIGNED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    NOT_APPLICABLE = "NOT_APPLICABLE"


class Act(StrEnum):
    """What a signer can do on the service's pages."""

    SIGN = "sign"
    REJECT = "reject"
    FAIL = "fail"


_LEADS_TO = {
    Act.SIGN: SignerStatus.SIGNED,
    Act.REJECT: SignerStatus.REJECTED,
    Act.FAIL: SignerStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerState:
    """How far one signer has come, and since when."""

    status: SignerStatus
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """One signer of a job; the manifest says at the same position who it is.

    Attributes:
        state: How far the signer has come.
        redirect_token: Opens the signer's pages once. Earlier tokens of this signer no longer work.
        status_query_token: A part of the exit URL; the sender asks for the status with it.
    """

    state: SignerState
    redirect_token: Hidden = field(repr=False)
    status_query_token: Hidden = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A signature job.

    Attributes:
        id: Its number at the service.
        sender: The organisation number of the sender.
        created: When it was created.
        request: What was asked for.
        manifest: Who is to sign which documents.
        signers: The state of each, in the manifest's order.
        confirmed: Whether the sender has confirmed the outcome of a job that is not polled.
        deleted: Whether the documents are deleted.
    """

    id: int
    sender: str
    created: datetime
    request: JobRequest
    manifest: Manifest
    signers: tuple[Signer, ...]
    confirmed: bool = False
    deleted: bool = False

    @property
    def polled(self) -> bool:
        """Whether its status changes go to a polling queue; it then has no status URL."""
        return self.request.status_retrieval_method == POLLING

    @property
    def states(self) -> tuple[SignerState, ...]:
        """How far the signers have come, in the manifest's order."""
        return tuple(signer.state for signer in self.signers)

    @property
    def status(self) -> JobStatus:
        """The state of the whole job."""
        states = {state.status for state in self.states}
        if SignerStatus.WAITING in states:
            return JobStatus.IN_PROGRESS
        if states == {SignerStatus.SIGNED}:
            return JobStatus.COMPLETED_SUCCESSFULLY
        return JobStatus.FAILED

    @property
    def latest_change(self) -> datetime:
        """When a signer's state last changed. For a job that has ended, this is its end."""
        return max(state.since for state in self.states)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerOf:
    """One signer of one job.

    Attributes:
        job_id: The job.
        position: Which of its signers, from 0, in the manifest's order.
    """

    job_id: int
    position: int


def act(job: Job, position: int, what: Act, *, now: datetime) -> Job:
    """A signer signs, rejects or fails. Rejecting and failing end the job for the others.

    Raises:
        Refusal: The signer has finished already, or the job has ended.
    """
    require_waiting(job, position)
    statuses = [state.status for state in job.states]
    if what is not Act.SIGN:
        statuses = _all_that_wait(statuses, SignerStatus.NOT_APPLICABLE)
    statuses[position] = _LEADS_TO[what]
    return _with_statuses(job, statuses, now)


def require_waiting(job: Job, position: int) -> None:
    """Checks that a signer can still act.

    Raises:
        Refusal: The signer has finished already, or the job has ended.
    """
    status = job.signers[position].state.status
    if status is SignerStatus.WAITING:
        return
    if status in {SignerStatus.NOT_APPLICABLE, SignerStatus.EXPIRED}:
        reason = "the job has ended for this signer"
    else:
        reason = "this signer has finished"
    raise Refusal(409, "SIGNER_HAS_FINISHED", f"Job {job.id}: {reason}, with the status {status}.")


def renew_redirect(job: Job, position: int, redirect_token: Hidden) -> Job:
    """Gives a signer a new redirect URL; the earlier one stops working.

    Raises:
        Refusal: The signer has nothing left to do.
    """
    require_waiting(job, position)
    signers = list(job.signers)
    signers[position] = replace(signers[position], redirect_token=redirect_token)
    return replace(job, signers=tuple(signers))


def expire(job: Job, *, now: datetime) -> Job:
    """Ends the job because its lifetime is over: signers who have not acted are EXPIRED.

    Raises:
        Refusal: The job has ended already.
    """
    if job.status is not JobStatus.IN_PROGRESS:
        raise Refusal(
            409, "JOB_HAS_ENDED", f"Job {job.id} has ended before, with the status {job.status}."
        )
    statuses = [state.status for state in job.states]
    return _with_statuses(job, _all_that_wait(statuses, SignerStatus.EXPIRED), now)


def confirm(job: Job) -> Job:
    """The sender confirms the outcome of a job that is not polled.

    Raises:
        Refusal: The job has no outcome yet, or it is confirmed already.
    """
    if not awaits_confirmation(job):
        raise Refusal(404, "NOT_FOUND", f"Job {job.id} has nothing that awaits a confirmation.")
    return replace(job, confirmed=True)


def awaits_confirmation(job: Job) -> bool:
    """Whether a job that is not polled has an outcome that the sender has not confirmed."""
    return not (job.polled or job.confirmed or job.status is JobStatus.IN_PROGRESS)


def delete_documents(job: Job, *, now: datetime, deletable_after: timedelta) -> Job:
    """The sender deletes the documents of a completed job.

    Raises:
        Refusal: The documents are deleted already, or can't be deleted now.
    """
    if job.deleted:
        raise Refusal(404, "NOT_FOUND", f"The documents of job {job.id} are deleted already.")
    if not deletable(job, now=now, deletable_after=deletable_after):
        raise Refusal(
            409,
            "DOCUMENTS_NOT_DELETABLE",
            f"The documents of job {job.id} can't be deleted now: everybody must have signed,"
            f" and {deletable_after} must have gone by since.",
        )
    return replace(job, deleted=True)


def deletable(job: Job, *, now: datetime, deletable_after: timedelta) -> bool:
    """Whether the sender may delete the documents now ("Lagring": completed jobs, 24 hours on)."""
    return (
        not job.deleted
        and job.status is JobStatus.COMPLETED_SUCCESSFULLY
        and now >= job.latest_change + deletable_after
    )


def documents_kept(job: Job, *, now: datetime, available_for: timedelta) -> bool:
    """Whether the service still has the documents of the job."""
    if job.deleted:
        return False
    return job.status is JobStatus.IN_PROGRESS or now < job.latest_change + available_for


def exit_url(job: Job, position: int, what: Act) -> str:
    """Where the signer's browser goes, with the signer's `status_query_token` as query parameter."""
    address = {
        Act.SIGN: job.request.completion_url,
        Act.REJECT: job.request.rejection_url,
        Act.FAIL: job.request.error_url,
    }[what]
    parts = urlsplit(address)
    token = f"{STATUS_QUERY_TOKEN}={quote(job.signers[position].status_query_token, safe='')}"
    query = f"{parts.query}&{token}" if parts.query else token
    return urlunsplit(parts._replace(query=query))


def _all_that_wait(statuses: list[SignerStatus], end: SignerStatus) -> list[SignerStatus]:
    return [end if status is SignerStatus.WAITING else status for status in statuses]


def _with_statuses(job: Job, statuses: list[SignerStatus], now: datetime) -> Job:
    signers = [
        signer
        if status is signer.state.status
        else replace(signer, state=SignerState(status=status, since=now))
        for signer, status in zip(job.signers, statuses, strict=True)
    ]
    return replace(job, signers=tuple(signers))
