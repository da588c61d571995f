"""The worker processes of the soak, and the journals that their handlers write."""

import asyncio
import json
import logging
import os
import random
import re
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import anyio

from posten_signering import (
    DirectClient,
    DirectJobStatusResponse,
    Fleet,
    InMemoryFleet,
    RedisFleet,
)
from posten_signering.worker import StatusChangeWorker

from .judging import Handling
from .service import Service

# A forked process starts fast. A spawned one would be killed before it has handled much.
_FORK = get_context("fork")
_CHANGE = re.compile(r"[?&]change=(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcesses:
    """Starts worker processes, and reads their journals.

    Attributes:
        service: The sandbox whose queue they poll.
        journals: The folder of their journals, one for each process.
        processes: The number of concurrent processes.
        lease: The lease of a status change, in seconds.
        redis: The URL of the Redis that they share; None for an equal share of the rate limit each.
    """

    service: Service
    journals: Path
    processes: int
    lease: float
    redis: str | None = None

    def start(self, name: str) -> BaseProcess:
        """Starts a process. Its name is its User-Agent suffix, and the name of its journal."""
        process = _FORK.Process(target=self._main, args=(name,), name=name, daemon=True)
        process.start()
        return process

    def _main(self, name: str) -> None:
        # The sandbox's clock was advanced while the jobs were created. Each process would log a warning.
        logging.getLogger("posten_signering").setLevel(logging.ERROR)
        asyncio.run(self._work(name))

    async def _work(self, name: str) -> None:
        configuration = self.service.configuration(user_agent_suffix=name, fleet=self._fleet())
        journal = Journal(self.journals / name)
        async with DirectClient(configuration) as client:
            worker = StatusChangeWorker(
                client,
                journal.handle,
                concurrency=2,
                lease=timedelta(seconds=self.lease),
                handler_timeout=timedelta(seconds=0.8 * self.lease),
                handle_signals=True,
            )
            await worker.run()

    def _fleet(self) -> Fleet:
        if self.redis is not None:
            return RedisFleet(self.redis, members_at_least=self.processes)
        return InMemoryFleet(share=1 / self.processes)

    def handlings(self, ahead: float) -> Iterator[Handling]:
        """The handlings in all journals. `ahead` is added to their times, to get the sandbox's time."""
        for path in sorted(self.journals.iterdir()):
            ended = {line["number"]: line["time"] for line in lines(path) if "change" not in line}
            for line in lines(path):
                if "change" in line:
                    end = ended.get(line["number"])
                    yield Handling(
                        process=path.name,
                        change=line["change"],
                        begun=line["time"] + ahead,
                        ended=None if end is None else end + ahead,
                    )

    def is_handling(self, name: str) -> bool:
        """Whether a process has started to handle a change and has not finished."""
        path = self.journals / name
        if not path.exists():
            return False
        written = list(lines(path))
        return sum("change" in line for line in written) * 2 > len(written)


def check_running(processes: Iterable[BaseProcess]) -> None:
    """Raises an error if a process has exited."""
    for process in processes:
        if process.exitcode is not None:
            raise RuntimeError(f"{process.name} exited by itself, with status {process.exitcode}.")


def terminate(processes: Iterable[BaseProcess]) -> None:
    """Asks processes to stop with SIGTERM, and waits until they have stopped.

    Raises:
        RuntimeError: A process did not stop gracefully within 30 seconds.
    """
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(30)
        # A process that has just started has no handler for the signal yet.
        if process.exitcode not in {0, -signal.SIGTERM}:
            raise RuntimeError(
                f"{process.name} exited with status {process.exitcode} after SIGTERM."
            )


class Journal:
    """A slow handler that only writes its start and its end to a file.

    Each line is on the disk before the handler continues.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._number = 0

    async def handle(self, change: DirectJobStatusResponse) -> None:
        match = _CHANGE.search(change.confirmation_url or "")
        assert match is not None
        self._number += 1
        number = self._number
        self._write(number=number, change=int(match[1]))
        await anyio.sleep(random.uniform(0.3, 0.9))
        self._write(number=number)

    def _write(self, **line: int) -> None:
        os.write(self._file, json.dumps({"time": time.time(), **line}).encode() + b"\n")
        os.fsync(self._file)


def lines(path: Path) -> Iterator[dict[str, float]]:
    """The complete lines of a journal. A kill may have left an incomplete last line."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
