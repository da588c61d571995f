"""The public names of the sandbox, for its package to hand out when they are first used."""

from posten_signering.sandbox._errors import SandboxError
from posten_signering.sandbox._faults import Fault, FaultKind, Faults, Operation, PendingFault
from posten_signering.sandbox._overview import (
    BrokerSnapshot,
    ChangeSnapshot,
    DocumentSnapshot,
    JobSnapshot,
    OrganizationCounters,
    Overview,
    QueueSnapshot,
    RequestSnapshot,
    SignerSnapshot,
)
from posten_signering.sandbox._received import Received
from posten_signering.sandbox._sandbox import Sandbox
from posten_signering.sandbox._settings import RateLimit
from posten_signering.sandbox._threaded import ThreadedSandbox

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
