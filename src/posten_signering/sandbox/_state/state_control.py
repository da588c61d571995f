"""What only the sandbox's own controls do to jobs and queues: no sender and no signer can. No I/O.

Signers are told by their position, from 0; whoever may use the controls needs no token.
"""

from dataclasses import replace
from datetime import datetime

from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, Job, JobStatus
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal


def job_by_id(state: State, job_id: int, *, now: datetime) -> Job:
    """A job of whatever sender.

    Raises:
        Refusal: There is none.
    """
    state.pass_time(now)
    job = state.tables.jobs.get(job_id)
    if job is None:
        raise Refusal(404, "NOT_FOUND", f"There is no job {job_id}.")
    return job


def act_as(state: State, job_id: int, position: int, what: Act, *, now: datetime) -> str:
    """Acts as a signer; this uses up the signer's redirect URL.

    Returns:
        The exit URL.

    Raises:
        Refusal: There is no such job or signer, or the signer has nothing left to do.
    """
    job = job_by_id(state, job_id, now=now)
    state.require_position(job, position)
    return state.act(job.signers[position].redirect_token, what, now=now)


def status_query_token(state: State, job_id: int, position: int, *, now: datetime) -> Hidden:
    """The token that a signer brings to the exit URL.

    Raises:
        Refusal: There is no such job or signer.
    """
    job = job_by_id(state, job_id, now=now)
    state.require_position(job, position)
    return job.signers[position].status_query_token


def expire(state: State, job_id: int, *, now: datetime) -> None:
    """Ends a job as if its lifetime were over.

    Raises:
        Refusal: There is no such job, or it has ended.
    """
    state.change(job_rules.expire(job_by_id(state, job_id, now=now), now=now))


def end_lease(state: State, job_id: int, number: int, *, now: datetime) -> None:
    """Lets a leased status change come back at once.

    Raises:
        Refusal: There is no such job, or nobody has this change of it.
    """
    state.queues.end_lease(job_by_id(state, job_id, now=now), number, now=now)


def delete_documents(state: State, job_id: int, *, now: datetime) -> None:
    """Deletes the documents of a job that has ended, as when the service stores them no longer.

    Raises:
        Refusal: There is no such job, it has not ended, or its documents are deleted already.
    """
    job = job_by_id(state, job_id, now=now)
    if job.status is JobStatus.IN_PROGRESS:
        raise Refusal(409, "DOCUMENTS_NOT_DELETABLE", f"Job {job_id} has not ended.")
    if not state.documents_kept(job, now=now):
        raise Refusal(404, "NOT_FOUND", f"The documents of job {job_id} are deleted already.")
    state.tables.jobs[job_id] = replace(job, deleted=True)


def clear(state: State) -> None:
    """Forgets everything but the certificates."""
    tables = state.tables
    for table in (
        tables.jobs,
        tables.redirects,
        tables.queues,
        tables.changes,
        tables.calls,
        tables.brokers,
        tables.sessions,
        tables.clock,
    ):
        table.clear()
    state.forget_jobs()
