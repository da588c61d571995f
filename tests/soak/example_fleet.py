"""Runs the test that kills the processes of the example fleet and restarts its servers (tests/examples/test_fleet.py)."""

import subprocess
import sys
from pathlib import Path

from .table import Row

_TESTS = Path(__file__).parents[1] / "examples" / "test_fleet.py"


def run(*, times: int) -> list[Row]:
    """The table's rows.

    Args:
        times: How often the test is run. A run takes about 15 seconds.
    """
    failed = 0
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "soak", str(_TESTS)],
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
