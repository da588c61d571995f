"""Measures the CPU time of actions in turns, so that each turn disturbs all of them alike."""

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

Action = Callable[[], Awaitable[object]]


async def cpu_in_turns(actions: Sequence[Action], *, times: int, turns: int) -> list[list[float]]:
    """For each action, the CPU time of one run in ms, for each turn after the first (a warm-up).

    It is the time of all threads of this process.
    """
    series = [list[float]() for _ in actions]
    for turn in range(turns + 1):
        for action, values in zip(actions, series, strict=True):
            start = time.process_time()
            for _ in range(times):
                await action()
            if turn:
                values.append((time.process_time() - start) * 1000 / times)
    return series


def in_new_process(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs Python with these arguments. Returns what it printed."""
    environment = dict(os.environ if environment is None else environment)
    # Otherwise every process would compile the package's sources again, but not those of its libraries.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    finished = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return finished.stdout.strip()
