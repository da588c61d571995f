"""How senders, signers, time and the control API change the jobs and queues. Performs no I/O.

Every transition takes the time as an argument, and first expires the jobs whose lifetime is over.
Random tokens come from the settings. Everything that a restart must keep is in `Tables`.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime

from posten_signering.sandbox._intake.messages import JobRequest, Manifest
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import (
    Act,
    Job,
    JobStatus,
    Signer,
    SignerOf,
    SignerState,
    SignerStatus,
)
from posten_signering.sandbox._state.queues import Change, Poll, QueueName, Queues
from posten_signering.sandbox._state.storage import KEPT_BY_RESET, LAST_JOB, Tables
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The content of a status response.

    Attributes:
        job: The job.
        job_status: The job's status after the polled change; its present status for a status by token.
        signers: The states of its signers at the same time.
        confirmable: Whether the response asks the sender to confirm.
        change: The number of the polled change; None for a status by token.
        deletable: Whether the sender may delete the documents now.
        kept: Whether the service still has the documents.
    """

    job: Job
    job_status: JobStatus
    signers: tuple[SignerState, ...]
    confirmable: bool
    change: int | None
    deletable: bool
    kept: bool


class State:
    """The jobs and queues of a sandbox, and every transition between their states.

    Args:
        settings: Times, limits and the source of tokens.
        tables: The stored state. Every transition changes these tables.
    """

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self.tables = tables
        self.queues = Queues(settings, tables.queues, tables.changes)
        self._last_job_id = max(tables.jobs, default=tables.ids.get(LAST_JOB, 0))
        # The jobs in progress, oldest first. They all have the same lifetime, so the oldest expires first.
        self._in_progress = dict.fromkeys(
            job.id
            for job in sorted(tables.jobs.values(), key=lambda job: job.created)
            if job.status is JobStatus.IN_PROGRESS
        )

    # Operations of the sender.

    def create(self, sender: str, request: JobRequest, manifest: Manifest, *, now: datetime) -> Job:
        """Creates a job from a request and a manifest that were checked before."""
        self.pass_time(now)
        self._last_job_id += 1
        job = Job(
            id=self._last_job_id,
            sender=sender,
            created=now,
            request=request,
            manifest=manifest,
            signers=tuple(
                Signer(
                    state=SignerState(status=SignerStatus.WAITING, since=now),
                    redirect_token=Hidden(self._settings.new_token()),
                    status_query_token=Hidden(self._settings.new_token()),
                )
                for _ in manifest.signers
            ),
        )
        self.tables.jobs[job.id] = job
        for position, signer in enumerate(job.signers):
            self.tables.redirects[signer.redirect_token] = SignerOf(
                job_id=job.id, position=position
            )
        self._in_progress[job.id] = None
        return job

    def job(self, sender: str, job_id: int, *, now: datetime) -> Job:
        """The sender's job with this id.

        Raises:
            Refusal: The sender has no job with this id.
        """
        self.pass_time(now)
        job = self.tables.jobs.get(job_id)
        if job is None or job.sender != sender:
            raise Refusal(404, "NOT_FOUND", f"The sender {sender} has no job {job_id}.")
        return job

    def poll(
        self, sender: str, queue_name: str | None, *, now: datetime
    ) -> tuple[Poll, Status | None]:
        """Polls a queue. Returns the poll, and the status of the job when the poll got a change."""
        self.pass_time(now)
        poll = self.queues.poll(QueueName(sender=sender, name=queue_name), now=now)
        if poll.change is None:
            return poll, None
        return poll, self._status(self.tables.jobs[poll.change.job_id], poll.change, now)

    def status(self, sender: str, job_id: int, token: str, *, now: datetime) -> Status:
        """The status of a job, for a sender that has the status query token of one of its signers.

        Raises:
            Refusal: There is no such job, its changes go to a polling queue, the token is not one of
                its signers' tokens, or the signer has not finished.
        """
        token = Hidden(token)
        job = self.job(sender, job_id, now=now)
        if job.polled:
            raise Refusal(
                404,
                "NOT_FOUND",
                f"Job {job_id} has no status URL: its changes go to a polling queue.",
            )
        for signer in job.signers:
            if signer.status_query_token == token:
                break
        else:
            raise Refusal(
                403,
                "INVALID_STATUS_QUERY_TOKEN",
                f"The status_query_token does not belong to job {job_id}.",
            )
        if signer.state.status is SignerStatus.WAITING:
            raise Refusal(
                404,
                "SIGNING_CEREMONY_NOT_COMPLETED",
                f"The signer with this token has not finished with job {job_id}.",
            )
        return self._status(job, None, now)

    def renew_redirect(self, sender: str, job_id: int, position: int, *, now: datetime) -> Job:
        """Gives a signer a new redirect URL; the earlier one stops working.

        Raises:
            Refusal: There is no such job or signer, the signer has finished, or the job has ended.
        """
        job = self.job(sender, job_id, now=now)
        _signer(job, position)
        renewed = job_rules.renew_redirect(job, position, Hidden(self._settings.new_token()))
        self.tables.jobs[job_id] = renewed
        self.tables.redirects[renewed.signers[position].redirect_token] = SignerOf(
            job_id=job_id, position=position
        )
        return renewed

    def confirm(self, sender: str, job_id: int, change: int | None, *, now: datetime) -> None:
        """The sender confirms a change, or the outcome of a job that is not polled.

        Args:
            sender: The sender.
            job_id: The job.
            change: The number of the polled change; None for a job that is not polled.
            now: The present time.

        Raises:
            Refusal: There is no such job, or it has nothing to confirm.
        """
        job = self.job(sender, job_id, now=now)
        if change is None:
            self.tables.jobs[job_id] = job_rules.confirm(job)
        else:
            self.queues.confirm(job, change)

    def delete_documents(self, sender: str, job_id: int, *, now: datetime) -> None:
        """The sender deletes the documents of a completed job.

        Raises:
            Refusal: There is no such job, or its documents can't be deleted now.
        """
        job = self.job(sender, job_id, now=now)
        self.tables.jobs[job_id] = job_rules.delete_documents(
            job, now=now, deletable_after=self._settings.deletable_after
        )

    def job_to_download(
        self, sender: str, job_id: int, position: int | None, *, now: datetime
    ) -> Job:
        """The job, when its PAdES or this signer's XAdES can be downloaded.

        Args:
            sender: The sender.
            job_id: The job.
            position: The position of the XAdES's signer; None for the PAdES.
            now: The present time.

        Raises:
            Refusal: There is no such job or signer, a signature that the document needs is missing, or
                the documents are deleted.
        """
        job = self.job(sender, job_id, now=now)
        if position is None:
            signed = job.status is JobStatus.COMPLETED_SUCCESSFULLY
        else:
            signed = _signer(job, position).state.status is SignerStatus.SIGNED
        if not signed:
            raise Refusal(
                404,
                "NOT_FOUND",
                f"Job {job_id} does not have this signed document: a signature is missing.",
            )
        if not self.documents_kept(job, now=now):
            raise Refusal(410, "DOCUMENTS_DELETED", f"The documents of job {job_id} are deleted.")
        return job

    # Actions of the signer, and the effect of time.

    def signer_of(self, redirect_token: str, *, now: datetime) -> SignerOf:
        """The signer whose pages a redirect token opens.

        Raises:
            Refusal: The token is unknown, used, or replaced by a newer one; or the job has ended.
        """
        redirect_token = Hidden(redirect_token)
        self.pass_time(now)
        signer = self.tables.redirects.get(redirect_token)
        if signer is None:
            raise Refusal(
                404, "REDIRECT_URL_UNKNOWN", "No signer of this sandbox has this redirect URL."
            )
        job = self.tables.jobs[signer.job_id]
        if job.signers[signer.position].redirect_token != redirect_token:
            raise Refusal(
                410,
                "REDIRECT_URL_REPLACED",
                f"This redirect URL of job {job.id} no longer works: a newer one has replaced it.",
            )
        try:
            job_rules.require_waiting(job, signer.position)
        except Refusal as refusal:
            raise Refusal(
                410,
                "REDIRECT_URL_USED",
                f"This redirect URL no longer works. {refusal.message}",
            ) from None
        return signer

    def act(self, redirect_token: str, action: Act, *, now: datetime) -> str:
        """Acts as the signer whose pages a redirect token opens. The token works once.

        Returns:
            The exit URL that the signer's browser is sent to.

        Raises:
            Refusal: The token is unknown, used, or replaced by a newer one; or the job has ended.
        """
        redirect_token = Hidden(redirect_token)
        signer = self.signer_of(redirect_token, now=now)
        job = job_rules.act(self.tables.jobs[signer.job_id], signer.position, action, now=now)
        self._change(job)
        return Hidden(job_rules.exit_url(job, signer.position, action))

    def _change(self, job: Job) -> None:
        """Stores a job whose signers have changed. A polled job also gets a change in its queue."""
        self.tables.jobs[job.id] = job
        if job.status is not JobStatus.IN_PROGRESS:
            self._in_progress.pop(job.id, None)
        if job.polled:
            self.queues.put(job)

    def pass_time(self, now: datetime) -> None:
        """Expires the jobs whose lifetime is over."""
        for job_id in tuple(self._in_progress):
            job = self.tables.jobs[job_id]
            end = job.created + self._settings.lifetime
            if now < end:
                break
            self._change(job_rules.expire(job, now=end))

    # Operations that only the control API has: for any sender, and without a token.

    def job_of_any_sender(self, job_id: int, *, now: datetime) -> Job:
        """The job with this id, whichever sender it belongs to.

        Raises:
            Refusal: There is no job with this id.
        """
        self.pass_time(now)
        job = self.tables.jobs.get(job_id)
        if job is None:
            raise Refusal(404, "NOT_FOUND", f"There is no job {job_id}.")
        return job

    def act_as(self, job_id: int, position: int, action: Act, *, now: datetime) -> str:
        """Acts as a signer. The signer's redirect URL no longer works afterwards.

        Returns:
            The exit URL.

        Raises:
            Refusal: There is no such job or signer, the signer has finished, or the job has ended.
        """
        job = self.job_of_any_sender(job_id, now=now)
        signer = _signer(job, position)
        job_rules.require_waiting(job, position)
        return self.act(signer.redirect_token, action, now=now)

    def status_query_token(self, job_id: int, position: int, *, now: datetime) -> Hidden:
        """The token that the signer's exit URL carries.

        Raises:
            Refusal: There is no such job or signer.
        """
        return _signer(self.job_of_any_sender(job_id, now=now), position).status_query_token

    def expire(self, job_id: int, *, now: datetime) -> None:
        """Ends a job as if its lifetime were over.

        Raises:
            Refusal: There is no such job, or it has ended already.
        """
        self._change(job_rules.expire(self.job_of_any_sender(job_id, now=now), now=now))

    def end_lease(self, job_id: int, number: int, *, now: datetime) -> None:
        """Ends the lease of a status change, so that the next poll can get it.

        Raises:
            Refusal: There is no such job, or it has no leased change with this number.
        """
        self.queues.end_lease(self.job_of_any_sender(job_id, now=now), number, now=now)

    def end_availability(self, job_id: int, *, now: datetime) -> None:
        """Deletes the documents of a job that has ended, as the service does after `available_for`.

        Raises:
            Refusal: There is no such job, it has not ended, or its documents are deleted already.
        """
        job = self.job_of_any_sender(job_id, now=now)
        if job.status is JobStatus.IN_PROGRESS:
            raise Refusal(409, "DOCUMENTS_NOT_DELETABLE", f"Job {job_id} has not ended.")
        if not self.documents_kept(job, now=now):
            raise Refusal(404, "NOT_FOUND", f"The documents of job {job_id} are deleted already.")
        self.tables.jobs[job_id] = replace(job, deleted=True)

    def clear(self) -> None:
        """Deletes everything except the certificates. Later jobs get new ids."""
        for table in fields(Tables):
            if table.name not in KEPT_BY_RESET:
                getattr(self.tables, table.name).clear()
        self.tables.ids[LAST_JOB] = self._last_job_id
        self._in_progress.clear()

    def documents_kept(self, job: Job, *, now: datetime) -> bool:
        """Whether the service still has the documents of a job."""
        return job_rules.documents_kept(job, now=now, available_for=self._settings.available_for)

    def _status(self, job: Job, change: Change | None, now: datetime) -> Status:
        job_status, signers = (
            (job.status, job.states) if change is None else (change.status, change.signers)
        )
        return Status(
            job=job,
            job_status=job_status,
            signers=signers,
            confirmable=change is not None or job_rules.awaits_confirmation(job),
            change=None if change is None else change.number,
            # Only the change that completed the job offers deletion.
            deletable=job_status is job.status
            and job_rules.deletable(job, now=now, deletable_after=self._settings.deletable_after),
            kept=self.documents_kept(job, now=now),
        )


def _signer(job: Job, position: int) -> Signer:
    """The signer at a position, from 0.

    Raises:
        Refusal: The job has no signer at this position.
    """
    if not 0 <= position < len(job.signers):
        raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no signer {position + 1}.")
    return job.signers[position]
