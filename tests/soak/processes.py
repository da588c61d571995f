"""Worker processes of the soak, and the journals that their handlers write."""

import asyncio
import json
import logging
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import anyio

from posten_signering import (
    DirectClient,
    DirectJobStatusResponse,
    InMemoryRateLimiter,
    RateLimiter,
    SharedRateLimiter,
)
from posten_signering.worker import StatusChangeWorker

from .judging import Handling
from .service import ORGANIZATION_NUMBER, Service

# Forked, a process begins to work within a moment: killed every second, it would otherwise do little
# but start.
_FORK = get_context("fork")
_CHANGE = re.compile(r"[?&]change=(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How worker processes are made.

    Attributes:
        service: What they work for.
        journals: The folder of their journals, one for each life of a process.
        processes: How many work at once.
        lease: In seconds.
        redis: URI of the Redis that holds their rate budget; None: each has its share.
    """

    service: Service
    journals: Path
    processes: int
    lease: float
    redis: str | None = None

    def start(self, name: str) -> BaseProcess:
        """Starts a process; its name is the suffix of its User-Agent, and its journal's."""
        process = _FORK.Process(target=self._live, args=(name,), name=name, daemon=True)
        process.start()
        return process

    def _live(self, name: str) -> None:
        # The sandbox's clock is ahead, by which the jobs could be made without waiting: said by each life.
        logging.getLogger("posten_signering").setLevel(logging.ERROR)
        asyncio.run(self._work(name))

    async def _work(self, name: str) -> None:
        limiter = self._rate_limiter()
        # What its last life has used is not known: it begins with nothing, not with a full bucket.
        await limiter.acquire(ORGANIZATION_NUMBER)
        configuration = self.service.configuration(user_agent_suffix=name, rate_limiter=limiter)
        journal = Journal(self.journals / name)
        async with DirectClient(configuration) as client:
            worker = StatusChangeWorker(
                client,
                journal.handle,
                concurrency=2,
                lease=timedelta(seconds=self.lease),
                handle_signals=True,
            )
            await worker.run()

    def _rate_limiter(self) -> RateLimiter:
        if self.redis is not None:
            return SharedRateLimiter(self.redis)
        return InMemoryRateLimiter(share=1 / self.processes)

    def handlings(self, ahead: float) -> Iterator[Handling]:
        """What all journals say, in the sandbox's time, which is `ahead` of this machine's."""
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

    def is_in_the_middle(self, name: str) -> bool:
        """Whether a process has begun with a change, and not come to its end."""
        path = self.journals / name
        if not path.exists():
            return False
        written = list(lines(path))
        return sum("change" in line for line in written) * 2 > len(written)


class Journal:
    """A handler that takes its time, and writes down when it begins and ends; nothing else.

    Each line is on the disk before the handler goes on.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._number = 0

    async def handle(self, change: DirectJobStatusResponse) -> None:
        """The worker's handler."""
        found = _CHANGE.search(change.confirmation_url or "")
        assert found is not None
        self._number += 1
        number = self._number
        self._write(number=number, change=int(found[1]))
        await anyio.sleep(random.uniform(0.3, 0.9))
        self._write(number=number)

    def _write(self, **line: int) -> None:
        os.write(self._file, json.dumps({"time": time.time(), **line}).encode() + b"\n")
        os.fsync(self._file)


def lines(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a journal; its last may have been cut off by a kill."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
