"""Celery tasks that create jobs and handle their outcomes, in prefork worker processes.

    make example-celery                                  starts a worker with a sandbox and a Redis server
    celery --app celery_app worker --beat                uses the POSTEN_SIGNERING_* variables
    python celery_app.py order-1                         asks the worker to create the job of an order

Each worker process opens one client after the fork and closes it before it ends.
"""

import os
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from celery.utils.log import get_task_logger
from one_per_process import OnePerProcess

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectJobStatusResponse,
    DirectSigner,
    Document,
    ExitUrls,
    StatusRetrievalMethod,
)
from posten_signering.errors import (
    CreateOutcomeUnknownError,
    SigningError,
    TooEagerPollingError,
)

LEASE = Path(__file__).with_name("lease.pdf")
FOLDER = Path(os.environ.get("CELERY_FOLDER", "."))
# Pages of the sandbox, where the signer's browser ends. With the service: pages of your web site.
EXIT_URL = os.environ.get("EXIT_URL", "http://127.0.0.1:9080/exit")
TABLES = """
create table if not exists job (
    reference text primary key, state text not null, job_id integer, signer_url text
) strict;
create table if not exists signed (job_id integer primary key, pdf blob not null) strict;
create table if not exists handled (deduplication_key text primary key) strict;
"""

logger = get_task_logger("signing")
app = Celery("celery_app", broker=os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/0"))
app.conf.update(
    beat_schedule={
        # The client knows when it may poll, and sends nothing before. A task expires when the next one follows.
        "poll": {"task": "celery_app.poll", "schedule": 2.0, "options": {"expires": 2.0}}
    },
    beat_schedule_filename=str(FOLDER / "celerybeat-schedule"),
    broker_connection_retry_on_startup=True,
)

signing = OnePerProcess(lambda: DirectClient(ClientConfiguration.from_env()))


@worker_process_init.connect
def open_client(**_: object) -> None:
    """Opens the client of a worker process, after the fork."""
    with transaction() as database:
        database.executescript(TABLES)
    signing.open()


@worker_process_shutdown.connect
def close_client(**_: object) -> None:
    """Closes the client of a worker process."""
    signing.close()


@app.task(name="celery_app.create_job")
def create_job(reference: str) -> None:
    """Creates the job of an order, at most once, and records the outcome.

    The task has no `autoretry_for` and no `acks_late`. Both would create a second job after an unknown
    outcome or after the end of a worker process. A person decides about a job in the state
    OUTCOME_UNKNOWN, or in the state CREATING for long, and creates it again with a different reference.
    """
    portal, client = signing.open()
    with transaction() as database:
        claimed = database.execute(
            "insert into job (reference, state) values (?, 'CREATING') on conflict do nothing",
            (reference,),
        )
    if claimed.rowcount == 0:
        logger.info("%s: was created before, or is being created", reference)
        return
    job = DirectJob(
        title="Lease of a flat",
        documents=[Document(title="Lease of a flat", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=ExitUrls(
            completion=f"{EXIT_URL}/completed",
            rejection=f"{EXIT_URL}/rejected",
            error=f"{EXIT_URL}/error",
        ),
        reference=reference,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    state, job_id, signer_url = "CREATED", None, None
    try:
        created = portal.call(client.create, job)
    except CreateOutcomeUnknownError:
        logger.exception("%s: the job may exist", reference)
        state = "OUTCOME_UNKNOWN"
    except SigningError:
        logger.exception("%s: the job was not created", reference)
        state = "NOT_CREATED"
    else:
        job_id, signer_url = created.job_id, created.single_signer.signer_url
    with transaction() as database:
        database.execute(
            "update job set state = ?, job_id = ?, signer_url = ? where reference = ?",
            (state, job_id, signer_url, reference),
        )
    logger.info("%s: %s", reference, state)


@app.task(name="celery_app.poll")
def poll() -> None:
    """Handles the status changes that wait in the queue."""
    portal, client = signing.open()
    try:
        while (change := portal.call(client.get_status_change).change) is not None:
            handle(change)
    except TooEagerPollingError:
        logger.info("It is before the next permitted poll time")
    except SigningError:
        logger.exception("A call to the signing service failed. A later poll repeats it.")


def handle(change: DirectJobStatusResponse) -> None:
    """Stores a change once, and only then confirms it. The service may deliver a change again."""
    portal, client = signing.open()
    pdf = portal.call(client.get_pades, change) if change.pades_url is not None else None
    with transaction() as database:
        handled = database.execute(
            "insert into handled values (?) on conflict do nothing", (change.deduplication_key,)
        )
        if handled.rowcount == 1 and pdf is not None:
            database.execute(
                "insert into signed values (?, ?) on conflict do nothing", (change.job_id, pdf)
            )
    portal.call(client.confirm, change)
    logger.info("Job %s: %s", change.job_id, change.status)


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """A transaction of the database of jobs and signed documents."""
    with closing(sqlite3.connect(FOLDER / "celery.sqlite3", timeout=60)) as database, database:
        yield database


if __name__ == "__main__":
    create_job.delay(sys.argv[1])
