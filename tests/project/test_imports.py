"""Imports point in one direction, from the worker and the client down to the values.

`FOLDERS` has a row for each folder: the folders that it may import. `LIBRARIES` has a row for each library: the folders
and modules that may import it. An import that no row allows fails a test.
"""

import ast
import graphlib
import importlib
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import get_type_hints

import pytest

from posten_signering import __version__

ROOT = "posten_signering"
[SOURCES] = importlib.util.find_spec(ROOT).submodule_search_locations

# Folder (or module of the package root) -> the folders that it may import in addition to itself.
BELOW_WIRE = {"_values", "errors"}
BELOW_API = {
    "sandbox._signed",
    "sandbox._state",
    "sandbox._intake",
    "sandbox._documents",
    "sandbox._values",
}
FOLDERS: dict[str, set[str]] = {
    "errors": set(),
    "_values": {"errors"},
    "_wire": BELOW_WIRE,
    "_container": BELOW_WIRE,
    "_http": {"_wire", *BELOW_WIRE},
    "_trust": {"_http", "_wire", *BELOW_WIRE},
    "_session": {"_wire", *BELOW_WIRE},
    "_configuration": {"_container", "_session", "_trust", "_wire", *BELOW_WIRE},
    "_client": {
        "_configuration",
        "_container",
        "_session",
        "_trust",
        "_http",
        "_wire",
        *BELOW_WIRE,
    },
    "worker": {"_client", "_session", *BELOW_WIRE},
    "opentelemetry": {"_values"},
    "_cli": set(),
    "__main__": {"_cli"},
    "sandbox._values": set(),
    "sandbox._documents": {"sandbox._values"},
    "sandbox._intake": {"sandbox._values"},
    "sandbox._state": {"sandbox._intake", "sandbox._values"},
    "sandbox._signed": {
        "sandbox._state",
        "sandbox._intake",
        "sandbox._documents",
        "sandbox._values",
    },
    "sandbox._api": BELOW_API - {"sandbox._documents"},
    "sandbox._control": {"sandbox._api", *BELOW_API} - {"sandbox._documents"},
    "sandbox._pages": {"sandbox._api", *BELOW_API} - {"sandbox._intake", "sandbox._documents"},
    "sandbox._sandbox": {"sandbox._pages", "sandbox._control", "sandbox._api", *BELOW_API},
    # The public modules of the sandbox
    "sandbox": {
        "sandbox._sandbox",
        "sandbox._pages",
        "sandbox._control",
        "sandbox._api",
        "sandbox._values",
    },
}

# Library -> the folders and modules that may import it.
LIBRARIES = {
    "httpx": {"_http"},
    "xsdata": {"_wire.xml"},
    "posten_signering_xml": {"_wire.messages"},
    "lxml": {"_wire.xml", "_cli.inspection.xml"},
    "cryptography": {"_trust", "_http.tls", "_container.xades", "_cli"},
    "certifi": {"_trust.anchors", "_http.tls"},
    "redis": {"_session.redis_connection"},
    "cyclopts": {"_cli"},
    "rich": {"_cli"},
    "opentelemetry": {"opentelemetry"},
    "yaml": {"_cli"},
    "pyhanko": {"_cli.inspection.pades"},
    # Values and messages do not use the event loop.
    "anyio": {"_configuration", "_container", "_session", "_trust", "_http", "_client", "worker"},
}

# These modules need an extra. They import its libraries where they use them, and name the extra if it is missing.
BEHIND_EXTRAS = {"sandbox", "_session.redis_connection", "_cli", "opentelemetry"}

# These modules use no file, socket, clock, randomness or event loop. They receive these as arguments.
PURE = {
    "_wire",
    "_values",
    "_container.compression",
    "_container.layout",
    "_container.pdf",
    "_container.xades",
}
IMPURE_MODULES = {
    "asyncio",
    "concurrent",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "time",
    "urllib.request",
    "uuid",
}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input", "urandom"}
READS = {"read_bytes", "read_text"}
# This module reads the schema, which is package data, through importlib.resources.
MAY_READ = {"_wire.xml"}

# The libraries that the sandbox may import. It may not use those with which the SDK reads and writes messages.
SANDBOX_LIBRARIES = {
    "aiohttp",
    "anyio",
    "cryptography",
    "jinja2",
    "lxml",
    "pyhanko",
    "pyhanko_certvalidator",
    "reportlab",
}
# Library -> the only folder of the sandbox that may import it.
# Only separate processes import pikepdf: a hostile document can crash it.
SANDBOX_LIBRARY_FOLDERS = {"pydantic": "sandbox._control", "pikepdf": "sandbox._documents"}
SANDBOX_VALUES = {
    "ClientConfiguration",
    "EnterpriseCertificate",
    "Environment",
    "ExitUrls",
    "InMemoryFleet",
    "Sender",
    "TrustAnchors",
}
# A demo program and a pytest plugin for users. They are part of the sandbox, but may use all public names of the SDK.
SANDBOX_PROGRAMS = {"sandbox.demo", "sandbox.pytest"}
# Module -> the library that loads it. The library is installed whenever the module runs, so it is not a dependency.
LOADED_BY = {"sandbox.pytest": {"pytest"}}

# What the command line may import besides its own modules.
PUBLIC_FOLDERS = {"", "errors", "sandbox", "worker"}
PUBLIC = [
    ROOT,
    f"{ROOT}.errors",
    f"{ROOT}.opentelemetry",
    f"{ROOT}.sandbox",
    f"{ROOT}.sandbox.pytest",
    f"{ROOT}.worker",
]
NOT_INTERFACE = {f"{ROOT}.__main__", f"{ROOT}.sandbox.__main__", f"{ROOT}.sandbox.demo"}


def modules() -> dict[str, Path]:
    """The file of each module, by the module's name below the root. The root has the empty name."""
    files = {}
    for file in sorted(Path(SOURCES).rglob("*.py")):
        parts = file.relative_to(SOURCES).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


MODULES = modules()
providers = cache(packages_distributions)


def is_in(module: str, places: set[str]) -> bool:
    """Whether the module is one of these modules or is in one of these folders."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def folder_of(module: str) -> str:
    """The name of the row in `FOLDERS` that applies to a module."""
    first, *rest = module.split(".")
    is_private = first == "sandbox" and rest and rest[0].startswith("_") and rest[0] != "__main__"
    return f"sandbox.{rest[0]}" if is_private else first


@cache  # several tests ask for the imports of every module
def imports(module: str, source: str) -> set[tuple[str, str | None]]:
    """The absolute module and the name (or None) of each import, anywhere in the file."""
    is_package = not module or any(name.startswith(f"{module}.") for name in MODULES)
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = [ROOT, *filter(None, module.split("."))]
                parent = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parent, *filter(None, [node.module])])
            imported |= {(base, alias.name) for alias in node.names}
    return imported


def own_imports(module: str, source: str) -> set[str]:
    """The package's modules that this module imports, by their names below the root ("" is the root)."""
    imported = set()
    for base, name in imports(module, source):
        if base.partition(".")[0] == ROOT:
            inner = base.removeprefix(ROOT).removeprefix(".")
            below = f"{inner}.{name}".removeprefix(".")
            imported.add(below if below in MODULES else inner)
    return imported


def libraries(module: str, source: str) -> set[str]:
    """The imported packages from outside the project and the standard library."""
    packages = {base.partition(".")[0] for base, _ in imports(module, source)}
    # _typeshed exists only for type checkers.
    return packages - sys.stdlib_module_names - {ROOT, "_typeshed"}


def complaints(module: str, source: str) -> list[str]:
    """Every rule that this module breaks."""
    if is_in(module, {"sandbox"}):
        return _sandbox_complaints(module, source)
    broken_rules = [
        f"{module} imports {library}; only these may import it: {sorted(LIBRARIES.get(library, ()))}"
        for library in sorted(libraries(module, source))
        if not is_in(module, LIBRARIES.get(library, set()))
    ]
    broken_rules += [
        f"{module} imports {target or 'the package root'}, which is not below it"
        for target in sorted(own_imports(module, source))
        if not _is_below(folder_of(target), module)
    ]
    if is_in(module, {"_cli"}):
        broken_rules += [
            f"{module} imports {name} from {base}, which is not a public name"
            for base, name in sorted(imports(module, source), key=str)
            if base.partition(".")[0] == ROOT and re.match("_(?!_|cli$)", name or "")
        ]
    if is_in(module, PURE):
        broken_rules += _impurities(module, source)
    return broken_rules


def _is_below(folder: str, module: str) -> bool:
    if is_in(module, {"_cli"}) and not is_in(folder, {"_cli"}):
        return folder in PUBLIC_FOLDERS
    if not module:
        return not is_in(folder, {"sandbox"})
    return folder in {folder_of(module), *FOLDERS[folder_of(module)]}


def _sandbox_complaints(module: str, source: str) -> list[str]:
    forbidden = libraries(module, source) - SANDBOX_LIBRARIES - LOADED_BY.get(module, set())
    forbidden -= {
        library for library, folder in SANDBOX_LIBRARY_FOLDERS.items() if is_in(module, {folder})
    }
    broken_rules = [
        f"{module} imports {library}, which the sandbox may not use"
        for library in sorted(forbidden)
    ]
    for base, name in sorted(imports(module, source), key=str):
        if (
            base.partition(".")[0] != ROOT
            or base.startswith(f"{ROOT}.sandbox")
            or (base, name) == (ROOT, "sandbox")
        ):
            continue
        public = base in {ROOT, f"{ROOT}.errors"} and not str(name).startswith("_")
        if not (public if module in SANDBOX_PROGRAMS else base == ROOT and name in SANDBOX_VALUES):
            broken_rules.append(
                f"{module} imports {name} from {base}; the sandbox may import from the package root"
                " only the values that it returns"
            )
    broken_rules += [
        f"{module} imports {target}, which is not below it"
        for target in sorted(own_imports(module, source))
        if is_in(target, {"sandbox"}) and not _is_below(folder_of(target), module)
    ]
    return broken_rules


def _impurities(module: str, source: str) -> list[str]:
    used = {base for base, _ in imports(module, source)}
    used |= {f"{base}.{name}" for base, name in imports(module, source) if name}
    used |= {base.partition(".")[0] for base in used}
    broken_rules = [
        f"{module} is pure but imports {name}" for name in sorted(used & IMPURE_MODULES)
    ]
    banned = IMPURE_CALLS | (set() if module in MAY_READ else READS)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in banned:
                broken_rules.append(f"{module}:{node.lineno} is pure but calls {name}()")
    return broken_rules


# Folder -> its maximum number of entries, so that a reader sees the whole list of a folder at a glance.
MOST_ENTRIES = {"": 16, "sandbox": 13}
MOST_MODULES = 14


def crowded(files: Iterable[Path]) -> list[str]:
    """A complaint for each folder of the package that has too many entries or modules."""
    folders = defaultdict(set)
    for file in files:
        parts = file.parts
        for depth in range(len(parts)):
            folders["/".join(parts[:depth])].add(parts[depth])
    return [
        f"{folder or 'the package root'} has {len(entries)} entries"
        for folder, entries in sorted(folders.items())
        if len(entries) > MOST_ENTRIES.get(folder, 22)
        or sum(entry.endswith(".py") for entry in entries) > MOST_MODULES
    ]


def test_no_folder_is_crowded():
    assert crowded(file.relative_to(SOURCES) for file in Path(SOURCES).rglob("*.py")) == []


def test_a_crowded_folder_is_reported():
    many = [Path("sandbox", "_x", f"module{number}.py") for number in range(15)]
    assert crowded(many) == ["sandbox/_x has 15 entries"]
    assert crowded(Path(f"folder{number}", "a.py") for number in range(17)) == [
        "the package root has 17 entries"
    ]


# The docstrings of these modules are documentation for users, so they may be longer.
LONG_DOCSTRING_ALLOWED = {*(name.removeprefix(f"{ROOT}").removeprefix(".") for name in PUBLIC)}


def test_every_module_has_a_docstring_of_one_to_three_lines():
    wrong = {}
    for module, file in MODULES.items():
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines = len([line for line in docstring.splitlines() if line.strip()])
        if not (1 <= lines <= 3 or (lines and module in LONG_DOCSTRING_ALLOWED)):
            wrong[module] = lines
    assert wrong == {}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_rows_contain_no_cycle():
    order = list(graphlib.TopologicalSorter(FOLDERS).static_order())  # raises on a cycle
    assert set(order) == set(FOLDERS)


def test_every_imported_library_is_a_declared_dependency():
    """A library that only another package requires may disappear with that package's next version."""
    declared = {False: set(), True: set()}
    for entry in requires("posten-signering"):
        declared["extra ==" in entry].add(normalised(re.match(r"[\w.-]+", entry).group()))
    for module, file in MODULES.items():
        allowed = declared[False] | (declared[True] if is_in(module, BEHIND_EXTRAS) else set())
        for library in libraries(module, file.read_text(encoding="utf-8")) - {
            "posten_signering_xml",
            *LOADED_BY.get(module, ()),
        }:
            assert {normalised(name) for name in providers()[library]} & allowed, (
                f"{module} imports {library}"
            )


def test_modules_have_only_the_imports_that_the_rows_allow():
    broken_rules = [
        complaint
        for module, file in MODULES.items()
        for complaint in complaints(module, file.read_text(encoding="utf-8"))
    ]
    assert broken_rules == []


def test_no_row_allows_an_unused_import():
    used = {
        (folder_of(module), folder_of(target))
        for module, file in MODULES.items()
        for target in own_imports(module, file.read_text(encoding="utf-8"))
    }
    allowed = {(folder, target) for folder, targets in FOLDERS.items() for target in targets}
    assert allowed - used == set()
    imported = {
        (module, library)
        for module, file in MODULES.items()
        for library in libraries(module, file.read_text(encoding="utf-8"))
    }
    unused = {
        (place, library)
        for library, places in LIBRARIES.items()
        for place in places
        if not any(name == library and is_in(module, {place}) for module, name in imported)
    }
    assert unused == set()


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        (
            "_values.job",
            "from posten_signering import _client",
            "imports _client, which is not below",
        ),
        ("_values.job", "from .._client.client import DirectClient", "not below it"),
        (
            "_values.job",
            "def f():\n    import posten_signering",
            "the package root, which is not below",
        ),
        ("_wire.xml", "from .._http.transport import send", "imports _http.transport"),
        ("_client.client", "from posten_signering.sandbox import Sandbox", "imports sandbox"),
        ("_cli.app", "from posten_signering.errors import _x", "imports _x from"),
        ("_cli.app", "from posten_signering._values.job import Sender", "imports _values.job"),
        ("_cli.app", "from posten_signering.sandbox._state import state", "sandbox._state"),
        ("", "from posten_signering.sandbox import Sandbox", "imports sandbox"),
        ("_client.client", "import httpx", "only these may import it: ['_http']"),
        ("_wire.messages", "from xsdata.models.datatype import XmlDateTime", "['_wire.xml']"),
        ("_values.status", "if True:\n    from pydantic import BaseModel", "imports pydantic"),
        ("_values.job", "import requests", "imports requests"),
        ("_values.job", "import anyio", "imports anyio"),
        ("_container.xades", "from lxml import etree", "'_wire.xml']"),
        ("_container.xades", "from os import urandom", "is pure but imports os"),
        ("_wire.urls", "import urllib.request", "is pure but imports urllib.request"),
        (
            "_wire.urls",
            "import datetime\nx = datetime.datetime.now()",
            "_wire.urls:2 is pure but calls now()",
        ),
        ("_container.layout", "def f(path):\n    return path.read_bytes()", "calls read_bytes()"),
        ("sandbox._intake", "import posten_signering_xml", "which the sandbox may not use"),
        ("sandbox._api.faults", "import pydantic", "which the sandbox may not use"),
        ("sandbox._intake", "from posten_signering import DirectClient", "only the values"),
        ("sandbox.demo", "from posten_signering import _http", "only the values that it returns"),
        (
            "sandbox._documents.pdf",
            "from .._signed import pki",
            "_signed.pki, which is not below it",
        ),
        (
            "sandbox._pages.portal",
            "from .._control import control",
            "_control.control, which is not below it",
        ),
    ],
)
def test_an_import_that_no_row_allows_is_reported(module, source, complaint):
    broken_rules = complaints(module, source)
    assert any(complaint in line for line in broken_rules), broken_rules


def test_every_module_without_an_underscore_is_listed_as_public():
    visible = {
        f"{ROOT}.{name}".removesuffix(".")
        for name in MODULES
        if not any(part.startswith("_") and part != "__main__" for part in name.split("."))
    }
    assert visible - NOT_INTERFACE == set(PUBLIC)


def undocumented(public: object, name: str) -> list[str]:
    """The names without a docstring: the public object itself, its methods and its properties."""
    missing = []
    doc = public.__dict__.get("__doc__") if inspect.isclass(public) else inspect.getdoc(public)
    # A dataclass without a docstring gets its signature as docstring.
    if not doc or doc.startswith(f"{name.rpartition('.')[2]}("):
        missing.append(name)
    if inspect.isclass(public):
        for attribute, value in vars(public).items():
            if attribute.startswith("_"):
                continue
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if inspect.isroutine(function) or isinstance(value, property):
                missing += [] if inspect.getdoc(function) else [f"{name}.{attribute}"]
    return missing


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_sorted_documented_and_defined_in_this_package(module):
    imported = importlib.import_module(module)
    names = list(imported.__all__)
    assert names == sorted(set(names))
    assert imported.__doc__
    for name in names:
        public = getattr(imported, name)
        if inspect.isclass(public) or inspect.isroutine(public):
            assert public.__module__.partition(".")[0] == ROOT
            assert undocumented(public, name) == []
        if inspect.isclass(public):
            assert pickle.loads(pickle.dumps(public)) is public
            get_type_hints(public)  # fails if a name in an annotation exists only for type checkers


def test_a_missing_docstring_is_reported():
    class Bare:
        def method(self):
            return self

        @property
        def prop(self):
            return self

        def documented(self):
            """Documented."""

    assert undocumented(Bare, "Bare") == ["Bare", "Bare.method", "Bare.prop"]


# Only the sandbox needs these.
OF_THE_SANDBOX = ("aiohttp", "jinja2", "pikepdf", "pyhanko", "reportlab", f"{ROOT}.sandbox")
# A client that is entered imports these, in a worker thread.
OF_AN_OPEN_CLIENT = (
    "httpx",
    "httpcore",
    "lxml",
    "posten_signering_xml",
    "pydantic",
    "redis",
    "xsdata",
    "xsdata_pydantic",
)
HEAVY = (*OF_THE_SANDBOX, *OF_AN_OPEN_CLIENT)


def loaded_after(statement: str) -> set[str]:
    program = (
        f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split()) - {__version__}


@pytest.mark.parametrize(
    "statement",
    [
        f"from {ROOT} import *; import {ROOT}.errors, {ROOT}.worker",
        f"from {ROOT}._cli.app import run; run(['--version'])",  # the command starts quickly
    ],
)
def test_importing_the_package_loads_no_heavy_library(statement):
    assert loaded_after(statement) == set()


def test_the_check_of_loaded_modules_sees_a_loaded_module():
    statement = f"import aiohttp, redis, {ROOT}._client.creation, {ROOT}._http.fetch"
    assert loaded_after(statement) == {"aiohttp", *OF_AN_OPEN_CLIENT} - {"httpcore"}
