"""`python -m benchmarks [--short] [BENCHMARK ...]`, in the folder tests: measures, and prints a table.

Writes the same figures as JSON and Markdown, and a plot of cost against size, to a folder. Exits with 1 when a
limit is clearly missed. The short form takes fewer turns and permits twice each limit, because the machines that
run CI are noisy.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from . import (
    calls,
    connections,
    creates,
    downloads,
    event_loop,
    fleet,
    idle,
    memory,
    overhead,
    plot,
    starting,
    throughput,
)
from .place import RunningServer, running_server
from .table import Row, Verdict, as_json, as_markdown, rendered

Measure = Callable[[RunningServer, bool], list[Row]]

BENCHMARKS: dict[str, Measure] = {
    "create": lambda server, short: asyncio.run(creates.measure(server, turns=5 if short else 30)),
    "call": lambda server, short: asyncio.run(calls.measure(server, turns=5 if short else 60)),
    "download": lambda server, short: asyncio.run(
        downloads.measure(server, turns=5 if short else 30)
    ),
    "throughput": lambda server, short: asyncio.run(
        throughput.measure(server, turns=2 if short else 10)
    ),
    "overhead": lambda server, _: asyncio.run(overhead.measure(server)),
    "start": lambda server, short: starting.measure(server, turns=3 if short else 10),
    "event-loop": lambda server, short: asyncio.run(
        event_loop.measure(server, turns=3 if short else 20)
    ),
    "memory": lambda server, short: memory.measure(server, turns=1 if short else 5),
    "connections": lambda server, short: asyncio.run(
        connections.measure(server, cancellations=150 if short else 1500)
    ),
    "fleet": lambda server, short: asyncio.run(fleet.measure(server, turns=2 if short else 20)),
    "idle": lambda _, short: idle.measure(turns=1 if short else 3),
}
_SHORT_TOLERANCE = 2.0
_LIBRARIES = ("anyio", "cryptography", "httpx", "lxml", "pydantic", "xsdata")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="takes about a minute; permits twice each limit"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="the folder for the files; none by default"
    )
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        help=f"any of {', '.join(BENCHMARKS)}; all by default",
    )
    options = parser.parse_args(arguments)
    short: bool = options.short
    output: Path | None = options.output
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
    tolerance = _SHORT_TOLERANCE if short else 1
    judged = "The last column is about twice each limit. " if short else ""
    sys.stdout.write(f"\n{rendered(rows, tolerance)}\n\n{judged}{_machine()}\n")
    if output is not None:
        _write(output, rows)
    missed = any(row.verdict(tolerance) is Verdict.MISSED for row in rows)
    return 1 if missed else 0


def _machine() -> str:
    versions = ", ".join(f"{library} {version(library)}" for library in _LIBRARIES)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}. "
        f"{versions}. Figures are medians of all turns."
    )


def _write(folder: Path, rows: Sequence[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": _machine(), "rows": [as_json(row) for row in rows]}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    (folder / "figures.md").write_text(f"{as_markdown(rows)}\n\n{_machine()}\n")
    if any(row.size is not None for row in rows):
        plot.write(folder / "cost-by-size.svg", rows)
    sys.stdout.write(f"Written: {folder}/\n")


if __name__ == "__main__":
    sys.exit(main())
