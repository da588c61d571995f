"""Four worker processes poll one queue, and one of them is killed every second: no status change is lost.

The processes share the service's rate limit: each has a quarter, or they share a `RedisFleet`.
"""

import itertools
import re
import sys
import tempfile
import time
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .judging import Confirmation, Evidence, judged
from .processes import WorkerProcesses, check_running, terminate
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
        jobs: The number of signed jobs at the start.
        patience: The run stops after this many seconds, even when changes are left.
        redis: The URL of the Redis that the processes share; None for a quarter of the rate limit each.
    """
    with tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name:
        folder = Path(name)
        with service(folder, jobs=jobs, lease=_LEASE) as running:
            journals = folder / "journals"
            journals.mkdir()
            workers = WorkerProcesses(
                service=running,
                journals=journals,
                processes=_PROCESSES,
                lease=_LEASE,
                redis=redis,
            )
            observer = Observer(running)
            kills = _Supervisor(workers, observer).work(patience)
            return judged(
                Evidence(
                    changes=running.changes,
                    lease=_LEASE,
                    handlings=list(workers.handlings(observer.ahead)),
                    kills=kills,
                    **observer.evidence(),
                )
            )


class Observer:
    """Collects the requests and counters of the sandbox through its control API."""

    def __init__(self, running: Service) -> None:
        self._service = running
        self._seen: dict[int, dict[str, Any]] = {}
        # The requests up to this number created the jobs.
        self._first = self._requests()[0]["number"]
        self._polls_before = self._counters()["calls"].get("poll", 0)
        self.ahead: float = running.get("overview")["advanced_by"]

    def look(self) -> None:
        """Stores the latest requests. The sandbox keeps only the last 200."""
        for request in self._requests():
            if request["number"] > self._first:
                self._seen[request["number"]] = request

    def evidence(self) -> dict[str, Any]:
        """The fields of `Evidence` that come from the sandbox."""
        self.look()
        counters = self._counters()
        return {
            "confirmations": [
                Confirmation(
                    process=_SUFFIX.search(request["client"])[1],
                    change=int(_CHANGE.search(request["path"])[1]),
                    time=datetime.fromisoformat(request["time"]).timestamp(),
                )
                for request in self._seen.values()
                if request["operation"] == "confirm" and request["status"] == 204
            ],
            "waiting": self._service.waiting(),
            "requests": (max(self._seen) - self._first, len(self._seen)),
            "polls": counters["calls"]["poll"] - self._polls_before,
            "early_of_one": counters["early_polls_of_one_client"],
            "early_between": counters["early_polls_between_clients"],
            "blocked": counters["refusals"].get("DoSFilter", 0),
        }

    def _requests(self) -> list[dict[str, Any]]:
        return list(self._service.get("requests"))

    def _counters(self) -> dict[str, Any]:
        return dict(self._service.get("counters")[ORGANIZATION_NUMBER])


class _Supervisor:
    """Kills a worker process every second, and starts a new one in its place."""

    def __init__(self, workers: WorkerProcesses, observer: Observer) -> None:
        self._workers = workers
        self._observer = observer
        self._last_changes = workers.service.changes // 10
        self._numbers = itertools.count(1)
        self._processes = [self._start() for _ in range(_PROCESSES)]

    def work(self, patience: float) -> list[str]:
        """Runs until the queue is empty or the time is up. Returns the names of the killed processes."""
        kills: list[str] = []
        began = time.monotonic()
        next_kill, next_look = began + _KILL_EVERY, began
        waiting = sys.maxsize
        while waiting and time.monotonic() - began < patience:
            time.sleep(_TICK)
            check_running(self._processes)
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _LOOK_EVERY
                self._observer.look()
                waiting = self._workers.service.waiting()
            # The last tenth is handled without kills. Otherwise each process that handles one of the
            # last changes would be killed.
            if now >= next_kill and waiting > self._last_changes:
                next_kill = now + _KILL_EVERY
                victim = self._victim()
                victim.kill()
                victim.join()
                kills.append(victim.name)
                self._processes[self._processes.index(victim)] = self._start()
        terminate(self._processes)
        return kills

    def _victim(self) -> BaseProcess:
        """The oldest process in the middle of a handler, or else the oldest process."""
        busy = [process for process in self._processes if self._workers.is_handling(process.name)]
        return min(busy or self._processes, key=lambda process: int(process.name.split("-")[1]))

    def _start(self) -> BaseProcess:
        return self._workers.start(f"worker-{next(self._numbers)}")
