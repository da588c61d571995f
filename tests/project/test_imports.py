"""Imports point one way, from the worker and the client down to the values, and each library has one door.

One row for each folder says which folders it may import; one row for each library says who may import it. An import
that is in no row fails here: it points up, or it opens a second door.
"""

import ast
import graphlib
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = "posten_signering"
[SOURCES] = importlib.util.find_spec(ROOT).submodule_search_locations

# Folder (or module of the package root) -> the folders that it may import, besides itself.
BELOW_WIRE = {"_values", "errors"}
BELOW_API = {"sandbox._signed", "sandbox._state", "sandbox._intake", "sandbox._values"}
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
    "worker": {"_client", *BELOW_WIRE},
    "sandbox._values": set(),
    "sandbox._intake": {"sandbox._values"},
    "sandbox._state": {"sandbox._intake", "sandbox._values"},
    "sandbox._signed": {"sandbox._state", "sandbox._intake", "sandbox._values"},
    "sandbox._api": BELOW_API,
    "sandbox._control": {"sandbox._api", *BELOW_API},
    "sandbox._pages": {"sandbox._api", *BELOW_API} - {"sandbox._intake"},
    "sandbox._sandbox": {"sandbox._pages", "sandbox._control", "sandbox._api", *BELOW_API},
    # The public modules of the sandbox.
    "sandbox": {
        "sandbox._sandbox",
        "sandbox._pages",
        "sandbox._control",
        "sandbox._api",
        "sandbox._values",
    },
}

# Library -> the folders and modules that may import it.
DOORS = {
    "httpx": {"_http"},
    "xsdata": {"_wire.xml"},
    "xsdata_pydantic": {"_wire.xml"},
    "pydantic": {"_wire.xml"},
    "posten_signering_xml": {"_wire.messages"},
    "lxml": {"_wire.xml", "_container.xades"},
    "cryptography": {"_trust", "_http.tls", "_container.xades"},
    "certifi": {"_trust.anchors", "_http.tls"},
    "limits": {"_session.redis_slots"},
    "redis": {"_session.redis_slots"},
    # The event loop is for whoever is neither a value nor a message.
    "anyio": {"_configuration", "_container", "_session", "_trust", "_http", "_client", "worker"},
}

# What needs an extra is imported where it is used, and says so when it is missing.
BEHIND_EXTRAS = {"sandbox", "_session.redis_slots"}

# No file, socket, clock, randomness or event loop, be it imported or called: what they need of them is an argument.
PURE = {"_wire", "_values", "_container.layout", "_container.pdf", "_container.xades"}
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
# The schema is package data, read through importlib.resources.
MAY_READ = {"_wire.xml"}

# The sandbox: libraries of its own, none of those that the SDK reads and writes messages with.
SANDBOX_LIBRARIES = {
    "aiohttp",
    "anyio",
    "cryptography",
    "jinja2",
    "lxml",
    "pyhanko",
    "pyhanko_certvalidator",
    "pypdf",
    "reportlab",
}
# Library -> the one folder of the sandbox that may import it.
SANDBOX_DOORS = {"pydantic": "sandbox._control"}
SANDBOX_VALUES = {
    "ClientConfiguration",
    "EnterpriseCertificate",
    "Environment",
    "Sender",
    "TrustAnchors",
}
# A user's program, and a plugin for users' tests, that happen to lie in the sandbox: all public names are theirs to use.
SANDBOX_PROGRAMS = {"sandbox.demo", "sandbox.pytest"}
# What loads a module, and is therefore there, is no dependency of the package.
LOADED_BY = {"sandbox.pytest": {"pytest"}}

PUBLIC = [ROOT, f"{ROOT}.errors", f"{ROOT}.sandbox", f"{ROOT}.sandbox.pytest", f"{ROOT}.worker"]
NOT_INTERFACE = {f"{ROOT}.sandbox.__main__", f"{ROOT}.sandbox.demo"}


def modules() -> dict[str, Path]:
    """Module name below the root -> its file; the root itself is the empty name."""
    found = {}
    for file in sorted(Path(SOURCES).rglob("*.py")):
        parts = file.relative_to(SOURCES).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()
providers = cache(packages_distributions)


def is_in(module: str, places: set[str]) -> bool:
    """Whether the module is one of these, or lies in one of these folders."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def folder_of(module: str) -> str:
    """The row of a module."""
    first, *rest = module.split(".")
    is_private = first == "sandbox" and rest and rest[0].startswith("_") and rest[0] != "__main__"
    return f"sandbox.{rest[0]}" if is_private else first


def imports(module: str, source: str) -> set[tuple[str, str | None]]:
    """Absolute (module, name or None) of each import, wherever in the file it stands."""
    is_package = not module or any(name.startswith(f"{module}.") for name in MODULES)
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = [ROOT, *filter(None, module.split("."))]
                up = parts[: len(parts) - node.level + is_package]
                base = ".".join([*up, *filter(None, [node.module])])
            found |= {(base, alias.name) for alias in node.names}
    return found


def own_imports(module: str, source: str) -> set[str]:
    """The modules of the package that this one imports, below the root; the root is the empty name."""
    found = set()
    for base, name in imports(module, source):
        if base.partition(".")[0] == ROOT:
            inner = base.removeprefix(ROOT).removeprefix(".")
            below = f"{inner}.{name}".removeprefix(".")
            found.add(below if below in MODULES else inner)
    return found


def libraries(module: str, source: str) -> set[str]:
    """The packages that are neither ours nor the standard library's."""
    tops = {base.partition(".")[0] for base, _ in imports(module, source)}
    return tops - sys.stdlib_module_names - {ROOT, "_typeshed"}  # the type checkers' own stubs


def complaints(module: str, source: str) -> list[str]:
    """Every rule that this module breaks."""
    if is_in(module, {"sandbox"}):
        return _sandbox_complaints(module, source)
    found = [
        f"{module} imports {library}, whose only importers are {sorted(DOORS.get(library, ()))}"
        for library in sorted(libraries(module, source))
        if not is_in(module, DOORS.get(library, set()))
    ]
    found += [
        f"{module} imports {target or 'the package root'}: not below it"
        for target in sorted(own_imports(module, source))
        if not _is_below(folder_of(target), module)
    ]
    if is_in(module, PURE):
        found += _impurities(module, source)
    return found


def _is_below(folder: str, module: str) -> bool:
    if not module:
        return not is_in(folder, {"sandbox"})
    return folder in {folder_of(module), *FOLDERS[folder_of(module)]}


def _sandbox_complaints(module: str, source: str) -> list[str]:
    surplus = libraries(module, source) - SANDBOX_LIBRARIES - LOADED_BY.get(module, set())
    surplus -= {library for library, folder in SANDBOX_DOORS.items() if is_in(module, {folder})}
    found = [f"{module} imports {library}: not one of the sandbox's" for library in sorted(surplus)]
    for base, name in sorted(imports(module, source), key=str):
        if (
            base.partition(".")[0] != ROOT
            or base.startswith(f"{ROOT}.sandbox")
            or (base, name) == (ROOT, "sandbox")
        ):
            continue
        public = base in {ROOT, f"{ROOT}.errors"} and not str(name).startswith("_")
        if not (public if module in SANDBOX_PROGRAMS else base == ROOT and name in SANDBOX_VALUES):
            found.append(
                f"{module} imports {name} of {base}: only the values it returns, from the root"
            )
    found += [
        f"{module} imports {target}: not below it"
        for target in sorted(own_imports(module, source))
        if is_in(target, {"sandbox"}) and not _is_below(folder_of(target), module)
    ]
    return found


def _impurities(module: str, source: str) -> list[str]:
    used = {base for base, _ in imports(module, source)}
    used |= {f"{base}.{name}" for base, name in imports(module, source) if name}
    used |= {base.partition(".")[0] for base in used}
    found = [f"{module} imports {name}, and is pure" for name in sorted(used & IMPURE_MODULES)]
    banned = IMPURE_CALLS | (set() if module in MAY_READ else READS)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in banned:
                found.append(f"{module}:{node.lineno} calls {name}(), and is pure")
    return found


# Folder -> the most entries that it may hold. What lies in a folder is read at one look.
MOST_ENTRIES = {"": 13, "sandbox": 13}
MOST_MODULES = 14


def crowded(files: Iterable[Path]) -> list[str]:
    """The folders of the package, by their paths below it, that hold too much."""
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


def test_that_check_sees_a_crowded_folder():
    many = [Path("sandbox", "_x", f"module{number}.py") for number in range(15)]
    assert crowded(many) == ["sandbox/_x has 15 entries"]
    assert crowded(Path(f"folder{number}", "a.py") for number in range(14)) == [
        "the package root has 14 entries"
    ]


# What these modules say is documentation for users.
DOCUMENTATION = {*(name.removeprefix(f"{ROOT}").removeprefix(".") for name in PUBLIC)}


def test_every_module_opens_with_one_to_three_lines_that_say_what_is_there():
    found = {}
    for module, file in MODULES.items():
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines = len([line for line in docstring.splitlines() if line.strip()])
        if not (1 <= lines <= 3 or (lines and module in DOCUMENTATION)):
            found[module] = lines
    assert found == {}


def normalised(distribution: str) -> str:
    """A distribution's name, however it is spelled."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_rows_point_one_way():
    order = list(graphlib.TopologicalSorter(FOLDERS).static_order())  # raises on a cycle
    assert set(order) == set(FOLDERS)


def test_every_library_that_is_imported_is_a_declared_dependency():
    """What comes along with another package today may be gone tomorrow."""
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


def test_each_module_imports_only_what_the_rows_allow():
    found = [
        complaint
        for module, file in MODULES.items()
        for complaint in complaints(module, file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_row_allows_what_nobody_imports():
    used = {
        (folder_of(module), folder_of(target))
        for module, file in MODULES.items()
        for target in own_imports(module, file.read_text(encoding="utf-8"))
    }
    allowed = {(folder, target) for folder, targets in FOLDERS.items() for target in targets}
    assert allowed - used == set()


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_values.job", "from posten_signering import _client", "imports _client: not below it"),
        ("_values.job", "from .._client.client import DirectClient", "not below it"),
        ("_values.job", "def f():\n    import posten_signering", "the package root: not below it"),
        ("_wire.xml", "from .._http.transport import send", "imports _http.transport"),
        ("_client.client", "from posten_signering.sandbox import Sandbox", "imports sandbox"),
        ("", "from posten_signering.sandbox import Sandbox", "imports sandbox"),
        ("_client.client", "import httpx", "only importers are ['_http']"),
        ("_wire.messages", "from xsdata.models.datatype import XmlDateTime", "['_wire.xml']"),
        ("_values.status", "if True:\n    from pydantic import BaseModel", "imports pydantic"),
        ("_values.job", "import requests", "imports requests"),
        ("_values.job", "import anyio", "imports anyio"),
        ("_container.xades", "from os import urandom", "imports os, and is pure"),
        ("_wire.urls", "import urllib.request", "imports urllib.request, and is pure"),
        ("_wire.urls", "import datetime\nx = datetime.datetime.now()", "_wire.urls:2 calls now()"),
        ("_container.layout", "def f(path):\n    return path.read_bytes()", "calls read_bytes()"),
        ("sandbox._intake", "import posten_signering_xml", "not one of the sandbox's"),
        ("sandbox._api.faults", "import pydantic", "not one of the sandbox's"),
        ("sandbox._intake", "from posten_signering import DirectClient", "only the values"),
        ("sandbox.demo", "from posten_signering import _http", "only the values it returns"),
        ("sandbox._intake.pdf", "from .._signed import pki", "_signed.pki: not below it"),
        (
            "sandbox._pages.portal",
            "from .._control import control",
            "_control.control: not below it",
        ),
    ],
)
def test_an_import_against_the_rows_is_reported(module, source, complaint):
    found = complaints(module, source)
    assert any(complaint in line for line in found), found


def test_every_module_without_an_underscore_is_listed_as_public():
    visible = {
        f"{ROOT}.{name}".removesuffix(".")
        for name in MODULES
        if not any(part.startswith("_") and part != "__main__" for part in name.split("."))
    }
    assert visible - NOT_INTERFACE == set(PUBLIC)


def undocumented(thing: object, name: str) -> list[str]:
    """What of this public thing has no docstring of its own: the thing, its methods, its properties."""
    missing = []
    doc = thing.__dict__.get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    if not doc or doc.startswith(
        f"{name.rpartition('.')[2]}("
    ):  # dataclasses write a signature there
        missing.append(name)
    if inspect.isclass(thing):
        for attribute, value in vars(thing).items():
            if attribute.startswith("_"):
                continue
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if inspect.isroutine(function) or isinstance(value, property):
                missing += [] if inspect.getdoc(function) else [f"{name}.{attribute}"]
    return missing


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_sorted_ours_and_documented(module):
    public = importlib.import_module(module)
    names = list(public.__all__)
    assert names == sorted(set(names))
    assert public.__doc__
    for name in names:
        thing = getattr(public, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert thing.__module__.partition(".")[0] == ROOT
            assert undocumented(thing, name) == []


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


HEAVY = ("aiohttp", "jinja2", "pyhanko", "pypdf", "reportlab", f"{ROOT}.sandbox")


def loaded_after(statement: str) -> set[str]:
    program = (
        f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_of_the_sandbox():
    assert loaded_after(f"import {ROOT}, {ROOT}.errors") == set()


def test_that_check_sees_what_is_loaded():
    assert loaded_after("import aiohttp, reportlab") == {"aiohttp", "reportlab"}
