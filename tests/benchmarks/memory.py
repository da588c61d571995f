"""Memory of one create: how much more 10 MiB need than 10 KiB, each in a fresh process.

The limit from a path is 4 MiB. The limit from bytes is a quarter of the size, without the caller's bytes.
"""

import subprocess
import sys
from statistics import median

from .place import KIB, MIB, RunningServer
from .table import Row, judged

_SMALL, _LARGE = 10 * KIB, 10 * MIB
LIMITS = {"path": 4 * MIB, "bytes": _LARGE // 4}
_LABELS = {"path": "memory, 10 MiB from a path", "bytes": "memory, 10 MiB from bytes, without them"}


def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows. The baseline is a bare POST of the same document."""
    rows = list[Row]()
    for source, limit in LIMITS.items():
        growths: dict[str, list[int]] = {"ours": [], "bare": []}
        for _ in range(turns):
            for side, values in growths.items():
                values.append(_growth(server, side, source))
        rows.append(
            Row(
                name=_LABELS[source],
                measured=f"{median(growths['ours']) / MIB:.2f} MiB",
                baseline=f"{median(growths['bare']) / MIB:.2f} MiB",
                ratio=f"{median(growths['ours']) / _LARGE:.2f} of the size",
                limit=f"{limit / _LARGE:.2f} of the size",
                verdict=judged(growths["ours"], limit),
            )
        )
    return rows


def _growth(server: RunningServer, side: str, source: str) -> int:
    small, large = (_peak(server, side, source, size) for size in (_SMALL, _LARGE))
    caller_bytes = _LARGE - _SMALL if source == "bytes" else 0
    return large - small - caller_bytes


def _peak(server: RunningServer, side: str, source: str, size: int) -> int:
    server.document(size)  # create the file here, not in the measured process
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.one_create"),
            *(side, source, str(size), str(server.folder), str(server.port)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(finished.stdout)
