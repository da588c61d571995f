"""What `nox -s tests` says at its end of the Pythons that it ran on, or did not."""

import subprocess
import sys
from pathlib import Path

import pytest

NOXFILE = Path(__file__).parents[2] / "noxfile.py"

# nox itself is no tool of the tests: a stand-in for it, and for the sessions that it would open.
RUN = """
import runpy, sys
from unittest.mock import MagicMock

class Failed(Exception): ...

nox = sys.modules["nox"] = MagicMock()
nox.session = lambda *given, **_: given[0] if given else lambda function: function
module = runpy.run_path(sys.argv[1])
for version, outcome in (each.split("=") for each in sys.argv[2:]):
    session = MagicMock(python=version, posargs=[])
    if outcome != "passes":
        getattr(session, {"fails": "run", "has-no-wheels": "install"}[outcome]).side_effect = Failed
    try:
        module["tests"](session)
    except Failed:
        pass
"""


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ([], ""),
        (
            ["3.11=passes", "3.13=fails"],
            "passed on Python 3.11; failed on Python 3.13; did not run on Python 3.12, 3.14",
        ),
        (["3.12=fails"], "failed on Python 3.12; did not run on Python 3.11, 3.13, 3.14"),
        (["3.14=has-no-wheels"], "failed on Python 3.14; did not run on Python 3.11, 3.12, 3.13"),
        (
            [f"3.{minor}=passes" for minor in range(11, 15)],
            "passed on Python 3.11, 3.12, 3.13, 3.14",
        ),
        (
            [f"3.{minor}=fails" for minor in range(11, 15)],
            "failed on Python 3.11, 3.12, 3.13, 3.14",
        ),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, list) else "",
)
def test_the_closing_line(outcomes, said):
    done = subprocess.run(
        [sys.executable, "-c", RUN, NOXFILE, *outcomes], check=True, capture_output=True, text=True
    )
    assert done.stdout == (f"Of the supported ones, tests {said}.\n" if said else "")
