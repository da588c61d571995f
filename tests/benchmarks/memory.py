"""Memory of one create: what 10 MiB take more than 10 KiB, each in a fresh process.

From a path at most 4 MiB; from bytes at most a quarter of the size beyond the caller's own bytes.
"""

import subprocess
import sys
from statistics import median

from .place import KIB, MIB, Place
from .table import Row, judged

_SMALL, _LARGE = 10 * KIB, 10 * MIB
LIMITS = {"path": 4 * MIB, "bytes": _LARGE // 4}
_LABELS = {"path": "memory, 10 MiB from a path", "bytes": "memory, 10 MiB from bytes, beyond them"}


def measure(where: Place, *, turns: int) -> list[Row]:
    """The table's rows; the baseline is a bare POST of the same document."""
    rows = list[Row]()
    for source, limit in LIMITS.items():
        grown: dict[str, list[int]] = {"ours": [], "bare": []}
        for _ in range(turns):
            for side, values in grown.items():
                values.append(_growth(where, side, source))
        rows.append(
            Row(
                bar=_LABELS[source],
                measured=f"{median(grown['ours']) / MIB:.2f} MiB",
                baseline=f"{median(grown['bare']) / MIB:.2f} MiB",
                ratio=f"{median(grown['ours']) / _LARGE:.2f} of the size",
                limit=f"{limit / _LARGE:.2f} of the size",
                verdict=judged(grown["ours"], limit),
            )
        )
    return rows


def _growth(where: Place, side: str, source: str) -> int:
    small, large = (_peak(where, side, source, size) for size in (_SMALL, _LARGE))
    own = _LARGE - _SMALL if source == "bytes" else 0
    return large - small - own


def _peak(where: Place, side: str, source: str, size: int) -> int:
    where.document(size)  # made here, not in the process that is measured
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.one_create"),
            *(side, source, str(size), str(where.folder), str(where.port)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(finished.stdout)
