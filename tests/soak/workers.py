"""Four worker processes on one queue, one of them killed every second: nothing is lost, and told.

The processes share the service's rate limit by shares of a quarter, or by a budget in Redis.
"""

import itertools
import re
import signal
import sys
import tempfile
import time
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .judging import Confirmation, Evidence, judged
from .processes import Crew
from .service import ORGANIZATION_NUMBER, Service, service
from .table import Row

_PROCESSES = 4
_LEASE = 6.0
_TICK = 0.05
_KILL_EVERY = 1.0
_LOOK_EVERY = 0.5
_SUFFIX = re.compile(r"\((worker-\S+)\)$")
_CHANGE = re.compile(r"[?&]change=(\d+)$")


def run(*, jobs: int, patience: float, redis: str | None = None) -> list[Row]:
    """The table's rows.

    Args:
        jobs: How many are signed when it begins.
        patience: After so many seconds it is given up, with what is left.
        redis: URI of the Redis that holds the rate budget.
    """
    with tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name:
        folder = Path(name)
        with service(folder, jobs=jobs, lease=_LEASE) as running:
            journals = folder / "journals"
            journals.mkdir()
            crew = Crew(
                service=running,
                journals=journals,
                processes=_PROCESSES,
                lease=_LEASE,
                redis=redis,
            )
            witness = Witness(running)
            kills = _Supervisor(crew, witness).work(patience)
            return judged(
                Evidence(
                    changes=running.changes,
                    lease=_LEASE,
                    handlings=list(crew.handlings(witness.ahead)),
                    kills=kills,
                    **witness.evidence(),
                )
            )


class Witness:
    """The sandbox, asked for what it was asked."""

    def __init__(self, running: Service) -> None:
        self._service = running
        self._seen: dict[int, dict[str, Any]] = {}
        # What there was before, by which the jobs were made.
        self._first = self._requests()[0]["number"]
        self._polls_before = self._counters()["calls"].get("poll", 0)
        self.ahead: float = running.tells("overview")["advanced_by"]

    def look(self) -> None:
        """Takes note of the last requests. The sandbox keeps 200."""
        for each in self._requests():
            if each["number"] > self._first:
                self._seen[each["number"]] = each

    def waiting(self) -> int:
        """How many changes wait, or are leased."""
        return sum(len(each["changes"]) for each in self._service.tells("queues"))

    def evidence(self) -> dict[str, Any]:
        """What it says, in the end."""
        self.look()
        counters = self._counters()
        return {
            "confirmations": [
                Confirmation(
                    process=_SUFFIX.search(each["client"])[1],
                    change=int(_CHANGE.search(each["path"])[1]),
                    time=datetime.fromisoformat(each["time"]).timestamp(),
                )
                for each in self._seen.values()
                if each["operation"] == "confirm" and each["status"] == 204
            ],
            "waiting": self.waiting(),
            "requests": (max(self._seen) - self._first, len(self._seen)),
            "polls": counters["calls"]["poll"] - self._polls_before,
            "early_of_one": counters["early_polls_of_one_client"],
            "early_between": counters["early_polls_between_clients"],
            "blocked": counters["refusals"].get("DoSFilter", 0),
        }

    def _requests(self) -> list[dict[str, Any]]:
        return list(self._service.tells("requests"))

    def _counters(self) -> dict[str, Any]:
        return dict(self._service.tells("counters")[ORGANIZATION_NUMBER])


class _Supervisor:
    """Keeps the processes at work, and kills one every second."""

    def __init__(self, crew: Crew, witness: Witness) -> None:
        self._crew = crew
        self._witness = witness
        self._left_in_peace = crew.service.changes // 10
        self._lives = itertools.count(1)
        self._processes = [self._start() for _ in range(_PROCESSES)]

    def work(self, patience: float) -> list[str]:
        """Until nothing waits any more. Gives the names of the killed."""
        kills: list[str] = []
        began = time.monotonic()
        next_kill, next_look = began + _KILL_EVERY, began
        waiting = sys.maxsize
        while waiting and time.monotonic() - began < patience:
            time.sleep(_TICK)
            for each in self._processes:
                if each.exitcode is not None:
                    raise RuntimeError(f"{each.name} ended by itself, with {each.exitcode}.")
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _LOOK_EVERY
                self._witness.look()
                waiting = self._witness.waiting()
            # The last few are left in peace: whoever has one would be killed again and again.
            if now >= next_kill and waiting > self._left_in_peace:
                next_kill = now + _KILL_EVERY
                victim = self._victim()
                victim.kill()
                victim.join()
                kills.append(victim.name)
                self._processes[self._processes.index(victim)] = self._start()
        for each in self._processes:
            each.terminate()
        for each in self._processes:
            each.join(30)
            # One that was started just now does not handle the signal yet.
            if each.exitcode not in {0, -signal.SIGTERM}:
                raise RuntimeError(f"{each.name} ended with {each.exitcode} at SIGTERM.")
        return kills

    def _victim(self) -> BaseProcess:
        """The process that has lived longest; if there are any, of those in the middle of a handler."""
        busy = [each for each in self._processes if self._crew.is_in_the_middle(each.name)]
        return min(busy or self._processes, key=lambda each: int(each.name.split("-")[1]))

    def _start(self) -> BaseProcess:
        return self._crew.start(f"worker-{next(self._lives)}")
