"""Runs the tests that kill processes of the example fleet and restart its servers: those with the marker `soak`."""

import subprocess
import sys
from pathlib import Path

from .table import Row

_EXAMPLES = Path(__file__).parents[1] / "examples"
_TESTS = (_EXAMPLES / "test_fleet.py", _EXAMPLES / "test_run.py")


def run(*, times: int) -> list[Row]:
    """The table's rows.

    Args:
        times: How often the tests are run. A run takes about 30 seconds.
    """
    failed = 0
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "soak", *map(str, _TESTS)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            failed += 1
            sys.stderr.write(done.stdout)
    return [
        Row(what="runs", counted=times),
        Row(
            what="  in which an order was lost or ended twice, or that failed",
            counted=failed,
            must_be=0,
        ),
    ]
