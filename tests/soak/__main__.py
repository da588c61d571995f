"""`python -m soak [--short] [workers|workers-redis|creates|machine ...]`, in the folder tests: counts, prints tables.

Exits with 1 when a count is not what it must be.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import redis_process

from . import creates, machine, workers
from .table import Row, rendered


def _workers(*, short: bool) -> list[Row]:
    return workers.run(jobs=60 if short else 1000, patience=200 if short else 1800)


def _workers_redis(*, short: bool) -> list[Row]:
    program = shutil.which("redis-server")
    if program is None:
        sys.stderr.write("no redis-server here: left out\n")
        return []
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_process.running(program, Path(folder)) as redis,
    ):
        return workers.run(jobs=30 if short else 200, patience=300, redis=redis.uri)


def _creates(*, short: bool) -> list[Row]:
    return creates.run(jobs=150 if short else 10_000)


def _machine(*, short: bool) -> list[Row]:
    return machine.run(runs=50 if short else 5000)


SOAKS: dict[str, Callable[..., list[Row]]] = {
    "workers": _workers,
    "workers-redis": _workers_redis,
    "creates": _creates,
    "machine": _machine,
}
_SHORT = ("workers", "creates")


def main(arguments: Sequence[str] | None = None) -> int:
    """Counts, and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="under a minute")
    parser.add_argument("soaks", nargs="*", help=f"of {', '.join(SOAKS)}")
    options = parser.parse_args(arguments)
    short: bool = options.short
    chosen: list[str] = options.soaks or list(_SHORT if short else SOAKS)
    if unknown := set(chosen) - set(SOAKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not Path("/proc/self/fd").exists():
        parser.error("open files are read from /proc: run it on Linux")
    right = True
    for name in chosen:
        rows = SOAKS[name](short=short)
        right = right and all(row.is_right for row in rows)
        sys.stdout.write(f"\n{rendered(name, rows)}\n")
        sys.stdout.flush()
    sys.stdout.write(
        f"\nPython {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
