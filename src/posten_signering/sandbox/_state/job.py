"""A job, and pure functions that return the job after a change by a signer, the sender or time.

The rules are from the service's documentation ("Endring av signeringsoppdrag", "Lagring") and
`direct.xsd`. A transition that they forbid raises the service's `Refusal`.
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
    """The status of a job: the values of schema type `direct-signature-job-status`."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    FAILED = "FAILED"


class SignerStatus(StrEnum):
    """The status of a signer: those values of the schema that the sandbox uses."""

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


_STATUS_AFTER = {
    Act.SIGN: SignerStatus.SIGNED,
    Act.REJECT: SignerStatus.REJECTED,
    Act.FAIL: SignerStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerState:
    """The status of one signer, and the time of its last change."""

    status: SignerStatus
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """One signer of a job. The manifest identifies the signer, at the same position in its list.

    Attributes:
        state: The signer's status.
        redirect_token: Opens the signer's pages, in one browser. The signer's earlier tokens no longer
            work.
        status_query_token: A part of the exit URL. The sender needs it to get the status.
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
        request: The request that created it.
        manifest: The signers, and the documents that they sign.
        signers: The state of each signer, in the manifest's order.
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
        """Whether its status changes go to a polling queue. If so, it has no status URL."""
        return self.request.status_retrieval_method == POLLING

    @property
    def states(self) -> tuple[SignerState, ...]:
        """The states of the signers, in the manifest's order."""
        return tuple(signer.state for signer in self.signers)

    @property
    def status(self) -> JobStatus:
        """The status of the whole job."""
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
    """Identifies one signer of one job.

    Attributes:
        job_id: The job.
        position: The signer's position in the manifest, from 0.
    """

    job_id: int
    position: int


def act(job: Job, position: int, action: Act, *, now: datetime) -> Job:
    """A signer signs, rejects or fails. Rejecting or failing also ends the job for the other signers.

    Raises:
        Refusal: The signer has finished already, or the job has ended.
    """
    require_waiting(job, position)
    statuses = [state.status for state in job.states]
    if action is not Act.SIGN:
        statuses = _replace_waiting(statuses, SignerStatus.NOT_APPLICABLE)
    statuses[position] = _STATUS_AFTER[action]
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
        Refusal: The signer has finished already, or the job has ended.
    """
    require_waiting(job, position)
    signers = list(job.signers)
    signers[position] = replace(signers[position], redirect_token=redirect_token)
    return replace(job, signers=tuple(signers))


def expire(job: Job, *, now: datetime) -> Job:
    """Ends the job because its lifetime is over. Signers who have not acted become EXPIRED.

    Raises:
        Refusal: The job has ended already.
    """
    if job.status is not JobStatus.IN_PROGRESS:
        raise Refusal(
            409, "JOB_HAS_ENDED", f"Job {job.id} has ended already, with the status {job.status}."
        )
    statuses = [state.status for state in job.states]
    return _with_statuses(job, _replace_waiting(statuses, SignerStatus.EXPIRED), now)


def confirm(job: Job) -> Job:
    """The sender confirms the outcome of a job that is not polled.

    Raises:
        Refusal: The job has no outcome yet, or it is confirmed already.
    """
    if not awaits_confirmation(job):
        raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no outcome to confirm.")
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
            f"The documents of job {job.id} can't be deleted now: every signer must have signed,"
            f" and {deletable_after} must have passed since then.",
        )
    return replace(job, deleted=True)


def deletable(job: Job, *, now: datetime, deletable_after: timedelta) -> bool:
    """Whether the sender may delete the documents now.

    "Lagring": only those of a completed job, from 24 hours after its completion.
    """
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


def exit_url(job: Job, position: int, action: Act) -> str:
    """The exit URL for the signer's browser, with `status_query_token` as a query parameter."""
    url = {
        Act.SIGN: job.request.completion_url,
        Act.REJECT: job.request.rejection_url,
        Act.FAIL: job.request.error_url,
    }[action]
    parts = urlsplit(url)
    token = f"{STATUS_QUERY_TOKEN}={quote(job.signers[position].status_query_token, safe='')}"
    query = f"{parts.query}&{token}" if parts.query else token
    return urlunsplit(parts._replace(query=query))


def _replace_waiting(statuses: list[SignerStatus], new: SignerStatus) -> list[SignerStatus]:
    return [new if status is SignerStatus.WAITING else status for status in statuses]


def _with_statuses(job: Job, statuses: list[SignerStatus], now: datetime) -> Job:
    signers = [
        signer
        if status is signer.state.status
        else replace(signer, state=SignerState(status=status, since=now))
        for signer, status in zip(job.signers, statuses, strict=True)
    ]
    return replace(job, signers=tuple(signers))
