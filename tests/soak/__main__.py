"""`python -m soak [--short] [SOAK ...]`, in the folder tests: prints counts.

Exits with 1 when a count is not as required.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import redis_process

from . import creates, example_fleet, fleet, machine, polling, workers
from .table import Row, rendered


def _workers(*, short: bool) -> list[Row]:
    return workers.run(jobs=60 if short else 1000, patience=200 if short else 1800)


def _workers_redis(*, short: bool) -> list[Row]:
    program = shutil.which("redis-server")
    if program is None:
        sys.stderr.write("workers-redis is skipped: redis-server is not installed.\n")
        return []
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_process.running(program, Path(folder)) as redis,
    ):
        return workers.run(jobs=30 if short else 200, patience=300, redis=redis.uri)


def _creates(*, short: bool) -> list[Row]:
    return creates.run(jobs=150 if short else 10_000)


def _machine(*, short: bool) -> list[Row]:
    return machine.run(runs=170, seed=11) if short else machine.run(runs=5000)


def _example_fleet(*, short: bool) -> list[Row]:
    return example_fleet.run(times=1 if short else 20)


SOAKS: dict[str, Callable[..., list[Row]]] = {
    "workers": _workers,
    "workers-redis": _workers_redis,
    "fleet": fleet.run,
    "example-fleet": _example_fleet,
    "polling": polling.run,
    "creates": _creates,
    "machine": _machine,
}
_SHORT = ("workers", "creates", "fleet", "example-fleet", "polling", "machine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the soaks. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer jobs; takes about two minutes")
    parser.add_argument(
        "soaks",
        nargs="*",
        help=f"any of {', '.join(SOAKS)}; by default all, or {', '.join(_SHORT)} with --short",
    )
    options = parser.parse_args(arguments)
    short: bool = options.short
    chosen: list[str] = options.soaks or list(_SHORT if short else SOAKS)
    if unknown := set(chosen) - set(SOAKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(SOAKS)}.")
    if not Path("/proc/self/fd").exists():
        parser.error("the soaks read open files from /proc: run them on Linux")
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
