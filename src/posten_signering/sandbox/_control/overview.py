"""What the sandbox shows of itself: frozen values for the overview page and for tests. No I/O.

Every identity number in them is masked, tokens are not among them, and whoever is to act on
something finds its address: a signer by job id and number, a change by job id and number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import PendingFault
from posten_signering.sandbox._intake.messages import ManifestSigner
from posten_signering.sandbox._state.job import (
    Job,
    Signer,
    SignerStatus,
    awaits_confirmation,
    documents_kept,
)
from posten_signering.sandbox._state.queues import Change, Queue, QueueName, is_leased
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSnapshot:
    """One document of a job.

    Attributes:
        number: From 1, in the manifest's order.
        title: Its title.
        mime: Its media type.
    """

    number: int
    title: str
    mime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerSnapshot:
    """One signer of a job.

    Attributes:
        number: From 1, in the manifest's order: with the job's id it is the signer's address.
        identifier: Whom the sender means: a masked national identity number, or the sender's own
            identifier.
        by_identity_number: Whether the sender named the signer by national identity number.
        status: Of schema type `direct-signer-status-value`.
        since: Since when.
        signature_type: The wire's value; None when left out.
        on_behalf_of: `SELF` or `OTHER`.
        can_act: Whether the signer can still sign, reject or fail.
    """

    number: int
    identifier: str
    by_identity_number: bool
    status: str
    since: datetime
    signature_type: str | None
    on_behalf_of: str
    can_act: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSnapshot:
    """One signature job.

    Attributes:
        id: Its number at the service.
        sender: The organisation number of the sender.
        reference: The sender's own name for it.
        title: Its title.
        created: When it was created.
        expires: When it ends by itself, unless everybody has acted before.
        status: Of schema type `direct-signature-job-status`.
        polled: Whether its changes go to a polling queue; otherwise it has a status URL.
        polling_queue: The queue's name; None is the default queue. Means nothing unless polled.
        signers: In the manifest's order.
        documents: In the manifest's order.
        unconfirmed: Whether it has an outcome, or a change in a queue, that is not confirmed.
        documents_deleted: Whether its documents are gone.
    """

    id: int
    sender: str
    reference: str | None
    title: str
    created: datetime
    expires: datetime
    status: str
    polled: bool
    polling_queue: str | None
    signers: tuple[SignerSnapshot, ...]
    documents: tuple[DocumentSnapshot, ...]
    unconfirmed: bool
    documents_deleted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSnapshot:
    """One status change that waits in a queue.

    Attributes:
        number: Its number in the queue; with the job's id it is the change's address.
        job_id: The job.
        status: The job's status when the change came about.
        leased_until: Hidden from pollers until then; None when nobody has it.
    """

    number: int
    job_id: int
    status: str
    leased_until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSnapshot:
    """One polling queue.

    Attributes:
        sender: The organisation number of the sender.
        name: None is the default queue.
        next_permitted_poll_time: None when it was never polled. May be past.
        changes: Those that are not confirmed, oldest first.
    """

    sender: str
    name: str | None
    next_permitted_poll_time: datetime | None
    changes: tuple[ChangeSnapshot, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerSnapshot:
    """A permission to act for a sender.

    Attributes:
        certificate_organization: Who may.
        sender: For whom.
    """

    certificate_organization: str
    sender: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything the sandbox shows of itself, at one moment.

    Attributes:
        version: Grows with every change; what `/control/events` tells.
        now: The sandbox's time.
        advanced_by: By how many seconds it is ahead of its clock.
        jobs: Newest first.
        queues: Those that were polled or have had a change.
        requests: The last ones, newest first.
        counters: By organisation number.
        faults: Those that will act, oldest first.
        brokers: The permissions to act for another organisation.
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
    """What is shown of a job.

    Args:
        job: The job.
        settings: How long a job lives, and its documents.
        now: The sandbox's time.
        change_waits: Whether a queue has a change of it.
    """
    request, manifest = job.request, job.manifest
    return JobSnapshot(
        id=job.id,
        sender=job.sender,
        reference=None if request.reference is None else masked(request.reference),
        title=masked(manifest.title),
        created=job.created,
        expires=job.created + settings.lifetime,
        status=job.status.value,
        polled=job.polled,
        polling_queue=None if request.polling_queue is None else masked(request.polling_queue),
        signers=tuple(
            _signer(number, signer, who)
            for number, (signer, who) in enumerate(
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


def _signer(number: int, signer: Signer, who: ManifestSigner) -> SignerSnapshot:
    return SignerSnapshot(
        number=number,
        identifier=masked(who.identifier),
        by_identity_number=who.personal_identification_number is not None,
        status=signer.state.status.value,
        since=signer.state.since,
        signature_type=who.signature_type,
        on_behalf_of=who.on_behalf_of,
        can_act=signer.state.status is SignerStatus.WAITING,
    )


def queue_snapshot(
    name: QueueName, queue: Queue, changes: Sequence[Change], now: datetime
) -> QueueSnapshot:
    """What is shown of a queue, which has these changes."""
    return QueueSnapshot(
        sender=name.sender,
        name=None if name.name is None else masked(name.name),
        next_permitted_poll_time=queue.next_permitted,
        changes=tuple(
            ChangeSnapshot(
                number=change.number,
                job_id=change.job_id,
                status=change.status.value,
                leased_until=change.hidden_until if is_leased(change, now=now) else None,
            )
            for change in changes
        ),
    )
