"""Snapshots of the sandbox's state: frozen values for the overview page and for tests. No I/O.

Identity numbers are masked, and there are no tokens. A snapshot holds what an action needs: the job's id and
the number of the signer or of the change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import PendingFault
from posten_signering.sandbox._intake.messages import ManifestSigner
from posten_signering.sandbox._state.job import (
    Job,
    JobStatus,
    Signer,
    SignerStatus,
    awaits_confirmation,
    documents_kept,
)
from posten_signering.sandbox._state.queues import Change, Queue, QueueName, is_leased
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.settings import Settings

OrganizationNumber = Annotated[str, Field(pattern="^[0-9]{9}$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSnapshot:
    """One document of a job.

    Attributes:
        number: The number of the document, from 1, in the manifest's order.
        title: The title.
        mime: The media type.
    """

    number: int
    title: str
    mime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerSnapshot:
    """One signer of a job.

    Attributes:
        number: The number of the signer, from 1, in the manifest's order. Actions need it and the
            job's id.
        identifier: The masked national identity number, or the sender's own identifier.
        by_identity_number: Whether the sender identified the signer by national identity number.
        status: The status, of schema type `direct-signer-status-value`.
        since: When the signer got this status.
        signature_type: The signature type in the manifest; None when the manifest has none.
        on_behalf_of: `SELF` or `OTHER`.
        can_act: Whether the signer can still sign, reject or fail.
    """

    number: int
    identifier: str
    by_identity_number: bool
    status: SignerStatus
    since: datetime
    signature_type: str | None
    on_behalf_of: str
    can_act: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSnapshot:
    """One signature job.

    Attributes:
        id: The job's id at the service.
        sender: The organisation number of the sender.
        reference: The sender's own reference; None when the sender set none.
        title: The title.
        created: When the job was created.
        expires: When the job expires if a signer has not acted by then.
        status: The status, of schema type `direct-signature-job-status`.
        polled: Whether the job's changes go to a polling queue. Otherwise the job has a status URL.
        polling_queue: The name of the queue; None for the default queue. Only used when `polled`.
        signers: The signers in the manifest's order.
        documents: The documents in the manifest's order.
        unconfirmed: Whether the outcome, or a change in a queue, is not yet confirmed.
        documents_deleted: Whether the documents have been deleted.
    """

    id: int
    sender: OrganizationNumber
    reference: str | None
    title: str
    created: datetime
    expires: datetime
    status: JobStatus
    polled: bool
    polling_queue: str | None
    signers: tuple[SignerSnapshot, ...]
    documents: tuple[DocumentSnapshot, ...]
    unconfirmed: bool
    documents_deleted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSnapshot:
    """One unconfirmed status change in a queue.

    Attributes:
        number: The number of the change in its queue. Actions need it and the job's id.
        job_id: The id of the job.
        status: The job's status when the change happened.
        leased_until: When the lease ends; no poll delivers the change before then. None without a lease.
    """

    number: int
    job_id: int
    status: JobStatus
    leased_until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSnapshot:
    """One polling queue.

    Attributes:
        sender: The organisation number of the sender.
        name: The name of the queue; None for the default queue.
        next_permitted_poll_time: The next permitted poll time, which may be in the past; None when the
            queue was never polled.
        changes: The unconfirmed changes, oldest first.
    """

    sender: OrganizationNumber
    name: str | None
    next_permitted_poll_time: datetime | None
    changes: tuple[ChangeSnapshot, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerSnapshot:
    """A broker's permission to act for a sender.

    Attributes:
        certificate_organization: The organisation number in the broker's certificate.
        sender: The organisation number of the sender.
    """

    certificate_organization: OrganizationNumber
    sender: OrganizationNumber


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The state of the sandbox at one moment.

    Attributes:
        version: A number that grows with every change, as reported by `/control/events`.
        now: The sandbox's time.
        advanced_by: The number of seconds by which the sandbox's clock was moved forward.
        jobs: All jobs, newest first.
        queues: The queues that were polled or have had a change.
        requests: The last requests to the API, newest first.
        counters: The counters by organisation number.
        faults: The pending faults, oldest first.
        brokers: The brokers' permissions to act for senders.
    """

    version: int
    now: datetime
    advanced_by: float
    jobs: tuple[JobSnapshot, ...]
    queues: tuple[QueueSnapshot, ...]
    requests: tuple[RequestSnapshot, ...]
    counters: Mapping[str, OrganizationCounters]
    faults: tuple[PendingFault, ...]
    brokers: tuple[BrokerSnapshot, ...]


def job_snapshot(job: Job, settings: Settings, now: datetime, *, change_waits: bool) -> JobSnapshot:
    """The snapshot of a job.

    Args:
        job: The job.
        settings: The lifetime of jobs and of their documents.
        now: The sandbox's time.
        change_waits: Whether a queue holds an unconfirmed change of the job.
    """
    request, manifest = job.request, job.manifest
    return JobSnapshot(
        id=job.id,
        sender=job.sender,
        reference=None if request.reference is None else masked(request.reference),
        title=masked(manifest.title),
        created=job.created,
        expires=job.created + settings.lifetime,
        status=job.status,
        polled=job.polled,
        polling_queue=None if request.polling_queue is None else masked(request.polling_queue),
        signers=tuple(
            _signer(number, signer, manifest_signer)
            for number, (signer, manifest_signer) in enumerate(
                zip(job.signers, manifest.signers, strict=True), start=1
            )
        ),
        documents=tuple(
            DocumentSnapshot(number=number, title=masked(document.title), mime=document.mime)
            for number, document in enumerate(manifest.documents, start=1)
        ),
        unconfirmed=change_waits or awaits_confirmation(job),
        documents_deleted=not documents_kept(job, now=now, available_for=settings.available_for),
    )


def _signer(number: int, signer: Signer, manifest_signer: ManifestSigner) -> SignerSnapshot:
    return SignerSnapshot(
        number=number,
        identifier=masked(manifest_signer.identifier),
        by_identity_number=manifest_signer.personal_identification_number is not None,
        status=signer.state.status,
        since=signer.state.since,
        signature_type=manifest_signer.signature_type,
        on_behalf_of=manifest_signer.on_behalf_of,
        can_act=signer.state.status is SignerStatus.WAITING,
    )


def queue_snapshot(
    name: QueueName, queue: Queue, changes: Sequence[Change], now: datetime
) -> QueueSnapshot:
    """The snapshot of a queue with its unconfirmed changes."""
    return QueueSnapshot(
        sender=name.sender,
        name=None if name.name is None else masked(name.name),
        next_permitted_poll_time=queue.next_permitted,
        changes=tuple(
            ChangeSnapshot(
                number=change.number,
                job_id=change.job_id,
                status=change.status,
                leased_until=change.hidden_until if is_leased(change, now=now) else None,
            )
            for change in changes
        ),
    )
