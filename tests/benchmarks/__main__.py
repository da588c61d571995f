"""`python -m benchmarks [--short] [BENCHMARK ...]`, in the folder tests: measures, and prints a table.

Exits with 1 when a limit is clearly missed. The short form fails only on errors, because the machines
that run CI are too noisy to judge the figures.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import bench_idle_iterators, connections, cpu, event_loop, fleet, imports, memory
from .place import RunningServer, running_server
from .table import Row, Verdict, rendered

Measure = Callable[[RunningServer, bool], list[Row]]

BENCHMARKS: dict[str, Measure] = {
    "cpu": lambda server, short: asyncio.run(cpu.measure(server, turns=5 if short else 30)),
    "event-loop": lambda server, short: asyncio.run(
        event_loop.measure(server, turns=3 if short else 20)
    ),
    "memory": lambda server, short: memory.measure(server, turns=1 if short else 5),
    "connections": lambda server, short: asyncio.run(
        connections.measure(server, cancellations=150 if short else 1500)
    ),
    "fleet": lambda server, short: asyncio.run(fleet.measure(server, turns=2 if short else 20)),
    "idle": lambda _, short: bench_idle_iterators.measure(turns=1 if short else 3),
    "import": lambda _, short: imports.measure(turns=2 if short else 7),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="takes under a minute; judges no figure"
    )
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        help=f"any of {', '.join(BENCHMARKS)}; all by default",
    )
    options = parser.parse_args(arguments)
    short: bool = options.short
    chosen: list[str] = options.benchmarks or list(BENCHMARKS)
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(BENCHMARKS)}.")
    if not Path("/proc/self/status").exists():
        parser.error("the benchmarks read memory and open files from /proc: run them on Linux")
    rows = list[Row]()
    with running_server() as server:
        for name in chosen:
            sys.stderr.write(f"measuring {name} …\n")
            rows += BENCHMARKS[name](server, short)
    load = os.getloadavg()[0]
    sys.stdout.write(
        f"\n{rendered(rows)}\n\nPython {sys.version.split()[0]}, {os.cpu_count()} cores, load {load:.1f}. "
        "Times and memory are medians of all turns.\n"
    )
    missed = any(row.verdict is Verdict.MISSED for row in rows)
    return 1 if missed and not short else 0


if __name__ == "__main__":
    sys.exit(main())
