"""Makes the snapshots of `_overview` from what the sandbox knows. Performs no I/O."""

from collections.abc import Sequence
from datetime import datetime

from posten_signering.sandbox._api.activity import Activity
from posten_signering.sandbox._api.faults import Faults
from posten_signering.sandbox._control.overview import (
    BrokerSnapshot,
    ChangeSnapshot,
    DocumentSnapshot,
    JobSnapshot,
    Overview,
    QueueSnapshot,
    SignerSnapshot,
)
from posten_signering.sandbox._intake.messages import ManifestSigner
from posten_signering.sandbox._state.job import Job, Signer, SignerStatus, awaits_confirmation
from posten_signering.sandbox._state.queues import Change, Queue, QueueName, is_leased
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import ADVANCED_BY
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.settings import Settings


def overview_of(
    *, settings: Settings, state: State, activity: Activity, faults: Faults, version: int
) -> Overview:
    """Everything that is shown, at the present time of the settings."""
    now = settings.now()
    state.pass_time(now)
    tables = state.tables
    unconfirmed = {change.job_id for change in tables.changes.values()}
    return Overview(
        version=version,
        now=now,
        advanced_by=tables.clock.get(ADVANCED_BY, 0.0),
        jobs=tuple(
            _job(job, settings, state, now, unconfirmed=job.id in unconfirmed)
            for _, job in sorted(tables.jobs.items(), reverse=True)
        ),
        queues=tuple(
            _queue(name, queue, state.queues.changes(name), now)
            for name, queue in sorted(
                tables.queues.items(), key=lambda item: (item[0].sender, item[0].name or "")
            )
        ),
        requests=activity.requests,
        counters=activity.counters,
        faults=faults.pending,
        brokers=tuple(
            BrokerSnapshot(
                certificate_organization=broker.certificate_organization, sender=broker.sender
            )
            for broker in tables.brokers
        ),
    )


def _job(
    job: Job, settings: Settings, state: State, now: datetime, *, unconfirmed: bool
) -> JobSnapshot:
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
        unconfirmed=unconfirmed or awaits_confirmation(job),
        documents_deleted=not state.documents_kept(job, now=now),
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


def _queue(
    name: QueueName, queue: Queue, changes: Sequence[Change], now: datetime
) -> QueueSnapshot:
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
