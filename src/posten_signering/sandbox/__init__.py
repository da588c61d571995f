"""A local service that behaves like Posten signering, for development, tests and demos.

It needs the extra `sandbox`: `pip install 'posten-signering[sandbox]'`.
"""

from typing import TYPE_CHECKING

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
from posten_signering.sandbox._values.refusal import SandboxError
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

_EXTRA = frozenset(
    {"aiohttp", "jinja2", "pikepdf", "pyhanko", "pyhanko_certvalidator", "reportlab"}
)

if TYPE_CHECKING:
    from posten_signering.sandbox._sandbox.sandbox import Received, Sandbox
    from posten_signering.sandbox._sandbox.threaded import ThreadedSandbox
else:

    def __getattr__(name: str) -> object:
        """Imports a name that needs the extra. The ImportError names the extra if it is missing."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from posten_signering.sandbox._sandbox import threaded  # noqa: PLC0415 - needs the extra
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            raise ImportError(
                f"The sandbox needs the package {error.name}, which is not installed. Install the extra: "
                "pip install 'posten-signering[sandbox]'"
            ) from None
        return getattr(threaded, name)
