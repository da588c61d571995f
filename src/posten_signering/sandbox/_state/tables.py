"""All that the sandbox knows, as tables. Performs no I/O.

Each holds frozen values of plain parts under plain keys, and is changed by assigning and deleting
entries only: a store on disk can take the place of the dictionaries.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.queues import Queue, QueueName
from posten_signering.sandbox._state.state_rate import Calls
from posten_signering.sandbox._values.hidden import Hidden, Octets

ADVANCED_BY = "advanced by"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerOf:
    """One signer of one job.

    Attributes:
        job_id: The job.
        position: Which of its signers, from 0, in the manifest's order.
    """

    job_id: int
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """A permission: the holder of a certificate may act for a sender.

    Attributes:
        certificate_organization: Who holds the certificate.
        sender: For whom it may act.
    """

    certificate_organization: str
    sender: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One browser at the pages of one signer of one job.

    Attributes:
        redirect_token: What opened them.
        key: What the browser shows in its cookie.
    """

    redirect_token: Hidden = field(repr=False)
    key: Hidden = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredKey:
    """A certificate of the sandbox's own with its key, both in PEM form."""

    key: Hidden = field(repr=False)
    certificate: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pkcs12:
    """A PKCS#12 file with a key, its certificate and the CAs above it."""

    content: Octets = field(repr=False)
    password: Hidden = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """What is known, one table for each kind.

    Attributes:
        jobs: By job id.
        redirects: Whose pages a redirect token opens or has opened.
        queues: Those that were polled, or were given a change.
        calls: By organisation number.
        brokers: The permissions there are; the values say nothing.
        sessions: Which browser has opened a signer's pages.
        clock: Under `ADVANCED_BY`, how many seconds the sandbox is ahead of its clock.
        keys: The CAs' keys and the service's, by name.
        enterprises: The enterprise certificates that were issued, by organisation number.
    """

    jobs: MutableMapping[int, Job] = field(default_factory=dict[int, Job])
    redirects: MutableMapping[str, SignerOf] = field(
        default_factory=dict[str, SignerOf], repr=False
    )
    queues: MutableMapping[QueueName, Queue] = field(default_factory=dict[QueueName, Queue])
    calls: MutableMapping[str, Calls] = field(default_factory=dict[str, Calls])
    brokers: MutableMapping[Broker, None] = field(default_factory=dict[Broker, None])
    sessions: MutableMapping[SignerOf, Session] = field(default_factory=dict[SignerOf, Session])
    clock: MutableMapping[str, float] = field(default_factory=dict[str, float])
    keys: MutableMapping[str, StoredKey] = field(default_factory=dict[str, StoredKey])
    enterprises: MutableMapping[str, Pkcs12] = field(default_factory=dict[str, Pkcs12])
