"""Memory of one call: how much more 10 MiB need than 10 KiB, each in a fresh process.

The limits are 4 MiB for a create from a path, a quarter of the size from bytes (without the caller's bytes),
and 2 MiB for a download to a file.
"""

from .measuring import in_new_process
from .place import KIB, MIB, RunningServer
from .table import Limit, Row

_SMALL, _LARGE = 10 * KIB, 10 * MIB
_ROWS = {
    "path": ("memory of a create, 10 MiB from a path", 4.0),
    "bytes": ("memory of a create, 10 MiB from bytes, without them", 2.5),
    "file": ("memory of a download, 10 MiB to a file", 2.0),
}


def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows. The baseline is a bare call with the same document."""
    rows = list[Row]()
    for what, (name, limit) in _ROWS.items():
        ours, bare = (
            [_growth(server, side, what) for _ in range(turns)] for side in ("ours", "bare")
        )
        rows.append(
            Row(
                name=name,
                measured=ours,
                baseline=bare,
                unit="MiB",
                limit=Limit(value=limit, of_ratio=False),
            )
        )
    return rows


def _growth(server: RunningServer, side: str, what: str) -> float:
    small, large = (_peak(server, f"{side}-{what}", size) for size in (_SMALL, _LARGE))
    caller_bytes = _LARGE - _SMALL if what == "bytes" else 0
    return (large - small - caller_bytes) / MIB


def _peak(server: RunningServer, what: str, size: int) -> int:
    server.document(size)  # create the file here, not in the measured process
    module = "benchmarks.one_exchange"
    return int(in_new_process("-m", module, what, str(size), str(server.folder), str(server.port)))
