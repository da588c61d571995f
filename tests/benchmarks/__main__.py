"""`python -m benchmarks [--short] [BAR ...]`, in the folder tests: measures, and prints a table.

Exits with 1 when a bar is clearly missed. The short form shows figures, and fails on errors alone:
machines that run CI are too noisy to judge by.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import bench_idle_iterators, connections, cpu, event_loop, imports, memory
from .place import Place, place
from .table import Row, Verdict, rendered

Measure = Callable[[Place, bool], list[Row]]

BARS: dict[str, Measure] = {
    "cpu": lambda where, short: asyncio.run(cpu.measure(where, turns=5 if short else 30)),
    "event-loop": lambda where, short: asyncio.run(
        event_loop.measure(where, turns=3 if short else 20)
    ),
    "memory": lambda where, short: memory.measure(where, turns=1 if short else 5),
    "connections": lambda where, short: asyncio.run(
        connections.measure(where, cancellations=150 if short else 1500)
    ),
    "idle": lambda _, short: bench_idle_iterators.measure(turns=1 if short else 3),
    "import": lambda _, short: imports.measure(turns=2 if short else 7),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="under a minute; judges nothing")
    parser.add_argument("bars", nargs="*", help=f"of {', '.join(BARS)}; all when none is named")
    options = parser.parse_args(arguments)
    short: bool = options.short
    chosen: list[str] = options.bars or list(BARS)
    if unknown := set(chosen) - set(BARS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not Path("/proc/self/status").exists():
        parser.error("memory and open files are read from /proc: run it on Linux")
    rows = list[Row]()
    with place() as where:
        for name in chosen:
            sys.stderr.write(f"measuring {name} …\n")
            rows += BARS[name](where, short)
    load = os.getloadavg()[0]
    sys.stdout.write(
        f"\n{rendered(rows)}\n\nPython {sys.version.split()[0]}, {os.cpu_count()} cores, load {load:.1f}; "
        "medians of turns taken in alternation.\n"
    )
    missed = any(row.verdict is Verdict.MISSED for row in rows)
    return 1 if missed and not short else 0


if __name__ == "__main__":
    sys.exit(main())
