"""CPU time of `import posten_signering`, compared with importing the libraries that it uses."""

import subprocess
import sys

from .table import Row, compared

_LIBRARIES = (
    "anyio.to_thread, certifi, cryptography.hazmat.primitives.serialization.pkcs12, cryptography.x509, "
    "httpx, lxml.etree, pydantic, xsdata.formats.dataclass.context, xsdata_pydantic.bindings"
)


def measure(*, turns: int) -> list[Row]:
    """The table's row. It has no limit."""
    ours, libraries = list[float](), list[float]()
    for turn in range(turns + 1):
        for modules, values in (("posten_signering", ours), (_LIBRARIES, libraries)):
            milliseconds = _cpu_of_import(modules)
            if turn:
                values.append(milliseconds)
    return [
        compared(
            "CPU of import, compared with its libraries", ours, libraries, limit=None, unit="ms"
        )
    ]


def _cpu_of_import(modules: str) -> float:
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import time; a = time.process_time(); import {modules}; print(time.process_time() - a)",
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(finished.stdout) * 1000
