"""Runs the state machines of polling (tests/client/test_polling_machine.py) with more random examples than the tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

from .table import Row

_MACHINES = ("TestPolling", "TestPollingOfASlowService", "TestPollingOfAFastService")
_TESTS = Path(__file__).parents[1] / "client" / "test_polling_machine.py"
# A line of Hypothesis's statistics: "- 12 passing, 0 failing, and 0 invalid test cases".
_RUNS = re.compile(r"(\d+) passing, (\d+) failing")


def run(*, runs: int, seed: int | None = None) -> list[Row]:
    """The table's rows.

    Args:
        runs: The number of runs for each machine; a run has 50 steps.
        seed: With a seed, the runs are the same every time.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(len(_MACHINES)), str(_TESTS)]
    options = ["--hypothesis-profile=soak", "--hypothesis-show-statistics"]
    if seed is not None:
        options.append(f"--hypothesis-seed={seed}")
    done = subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        # With the variable CI, Hypothesis would use the same examples in each run.
        env={
            **{name: value for name, value in os.environ.items() if name != "CI"},
            "SOAK_RUNS": str(runs),
        },
    )
    counts = [(int(passing), int(failing)) for passing, failing in _RUNS.findall(done.stdout)]
    failures = sum(failing for _, failing in counts)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
    return [
        Row(
            what="runs of 50 steps",
            counted=sum(map(sum, counts)),
            must_be=runs * len(_MACHINES),
            at_least=True,
        ),
        Row(what="  that differ from the model", counted=failures, must_be=0),
        Row(what="exit status of pytest", counted=done.returncode, must_be=0),
    ]
