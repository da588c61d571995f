"""The public names of the sandbox, for its package to hand out when they are first used."""

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import Fault, FaultKind, Faults, Operation, PendingFault
from posten_signering.sandbox._control.overview import (
    BrokerSnapshot,
    ChangeSnapshot,
    DocumentSnapshot,
    JobSnapshot,
    Overview,
    QueueSnapshot,
    SignerSnapshot,
)
from posten_signering.sandbox._sandbox.received import Received
from posten_signering.sandbox._sandbox.sandbox import Sandbox
from posten_signering.sandbox._sandbox.threaded import ThreadedSandbox
from posten_signering.sandbox._values.errors import SandboxError
from posten_signering.sandbox._values.settings import RateLimit

__all__ = [
    "BrokerSnapshot",
    "ChangeSnapshot",
    "DocumentSnapshot",
    "Fault",
    "FaultKind",
    "Faults",
    "JobSnapshot",
    "Operation",
    "OrganizationCounters",
    "Overview",
    "PendingFault",
    "QueueSnapshot",
    "RateLimit",
    "Received",
    "RequestSnapshot",
    "Sandbox",
    "SandboxError",
    "SignerSnapshot",
    "ThreadedSandbox",
]
