"""What a process pays before its first job: the import, entering a client, and the first create."""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from .measuring import in_new_process
from .place import RunningServer
from .table import Limit, Row

IMPORT_LIMIT = Limit(value=0.6)
STALL_LIMIT = Limit(value=50, of_ratio=False)
FIRST_CREATE_LIMIT = Limit(value=1.0)
# The commit with which the first create is compared.
REFERENCE = "68ebbae"

_LIBRARIES = (
    "anyio.to_thread, certifi, cryptography.hazmat.primitives.serialization.pkcs12, cryptography.x509, "
    "httpx, lxml.etree, pydantic, sniffio, xsdata.formats.dataclass.context, xsdata_pydantic.fields"
)
_IMPORTS = {
    "package": "from posten_signering import *",
    "libraries": f"import {_LIBRARIES}",
}
_ROOT = Path(__file__).parents[2]


def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows. The last one is missing where Git doesn't have the commit to compare with."""
    imports: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    stalls = list[float]()
    for turn in range(turns + 1):  # the first one writes the files of byte code
        for name, statement in _IMPORTS.items():
            code = (
                f"import time; a = time.process_time(); {statement}; print(time.process_time() - a)"
            )
            milliseconds = float(in_new_process("-c", code)) * 1000
            if turn:
                imports[name].append(milliseconds)
        if turn:
            stalls.append(_first_create(server, "stall"))
    return [
        Row(
            name="CPU of the import, compared with its libraries",
            measured=imports["package"],
            baseline=imports["libraries"],
            unit="ms",
            limit=IMPORT_LIMIT,
        ),
        Row(
            name="event loop stall while the first client is entered",
            measured=stalls,
            unit="ms",
            limit=STALL_LIMIT,
        ),
        *_compared_with_reference(server, turns),
    ]


def _compared_with_reference(server: RunningServer, turns: int) -> list[Row]:
    ours, theirs = list[float](), list[float]()
    with _reference() as path:
        if path is None:
            sys.stderr.write(f"the first create is skipped: Git has no commit {REFERENCE} here.\n")
            return []
        for turn in range(turns + 1):
            for values, pythonpath in ((ours, None), (theirs, path)):
                milliseconds = _first_create(server, "cpu", pythonpath)
                if turn:
                    values.append(milliseconds)
    return [
        Row(
            name=f"CPU of a process with one create, compared with {REFERENCE}",
            measured=ours,
            baseline=theirs,
            unit="ms",
            limit=FIRST_CREATE_LIMIT,
        )
    ]


def _first_create(server: RunningServer, figure: str, pythonpath: str | None = None) -> float:
    environment = dict(os.environ)
    if pythonpath is not None:
        environment["PYTHONPATH"] = os.pathsep.join([pythonpath, environment["PYTHONPATH"]])
    return float(
        in_new_process(
            *("-m", "benchmarks.first_create", figure, str(server.folder), str(server.port)),
            environment=environment,
        )
    )


@contextmanager
def _reference() -> Generator[str | None]:
    """The value for PYTHONPATH with which Python imports the package of the reference commit."""
    archived = subprocess.run(
        ["git", "archive", REFERENCE, "src", "generated"],
        cwd=_ROOT,
        check=False,
        capture_output=True,
    )
    if archived.returncode:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="posten-signering-reference-") as name:
        with tarfile.open(fileobj=BytesIO(archived.stdout)) as archive:
            archive.extractall(name, filter="data")
        yield os.pathsep.join(str(Path(name) / folder) for folder in ("src", "generated"))
