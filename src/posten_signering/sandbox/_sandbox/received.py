"""What arrived with a job, for tests to look at. Performs no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What arrived with one job that the sandbox accepted.

    Attributes:
        job_id: The job that was made of it.
        request: The request's XML.
        manifest: The XML of `manifest.xml` in the container.
        documents: The documents' bytes by the names of their entries, in the manifest's order.
        container: The whole container (ASiC-E).
    """

    job_id: int
    request: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    documents: Mapping[str, bytes] = field(repr=False)
    container: bytes = field(repr=False)
