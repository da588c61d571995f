"""The state machine of polling (tests/client/test_polling_machine.py), at random and for longer than in the tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

from .table import Row

_MACHINES = ("TestPolling", "TestPollingOfASlowService", "TestPollingOfAFastService")
_TESTS = Path(__file__).parents[1] / "client" / "test_polling_machine.py"
# Of what Hypothesis tells of a phase: "- 12 passing, 0 failing, and 0 invalid test cases".
_RUNS = re.compile(r"(\d+) passing, (\d+) failing")


def run(*, runs: int) -> list[Row]:
    """The table's rows.

    Args:
        runs: Of 50 steps, for each of the machines.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(len(_MACHINES)), str(_TESTS)]
    options = ["--hypothesis-profile=soak", "--hypothesis-show-statistics"]
    done = subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        # In CI examples are the same every time.
        env={
            **{name: value for name, value in os.environ.items() if name != "CI"},
            "SOAK_RUNS": str(runs),
        },
    )
    found = [(int(passing), int(failing)) for passing, failing in _RUNS.findall(done.stdout)]
    failing = sum(each[1] for each in found)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
    return [
        Row(
            what="runs of 50 steps",
            counted=sum(map(sum, found)),
            must_be=runs * len(_MACHINES),
            at_least=True,
        ),
        Row(what="that diverged from the model", counted=failing, must_be=0),
        Row(what="exit status", counted=done.returncode, must_be=0),
    ]
