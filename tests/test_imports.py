"""Imports point one way: from the client down to the values, never back, and each library has one door.

The rules, in words; the tables below are the same as data. A module that imports something new fails here: if the
arrow follows the rules it is added to the table, and whoever reads the change sees it.

- Values and errors know nothing but each other and the standard library.
- `_wire` is pure: no file, socket, clock, randomness or event loop; what it needs of them is an argument.
- httpx, xsdata with pydantic, and the generated models have one importer each.
- Nothing of the SDK imports the sandbox; of the SDK the sandbox imports the values it returns, from the package root.
"""

import ast
import graphlib
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = "posten_signering"
[SOURCES] = importlib.util.find_spec(ROOT).submodule_search_locations

# Module -> the modules of the SDK that it imports, from the values up to the client.
ARROWS: dict[str, set[str]] = {
    "_httpcore_log": set(),
    "_job": set(),
    "_pdf": set(),
    "_secret": set(),
    "_wire": set(),
    "_wire.poll_time": set(),
    "_wire.xades": set(),
    "errors": set(),
    "_bundle": {"_job", "errors"},
    "_certificates": {"_secret", "errors"},
    "_content_coding": {"errors"},
    "_files": {"_secret"},
    "_origin": {"_secret", "errors"},
    "_pool": {"errors"},
    "_rate": {"errors"},
    "_redis_slots": {"_secret", "errors"},
    "_retry": {"errors"},
    "_signals": {"errors"},
    "_status": {"errors"},
    "_web": {"_secret", "errors"},
    "_wire.asice": {"_job"},
    "_wire.exchange": {"_secret", "errors"},
    "_wire.urls": {"_secret"},
    "_wire.xml": {"_secret", "errors"},
    "_documents": {"_job", "_pdf", "_wire.asice", "errors"},
    "_downloads": {"_files", "_secret", "_wire.exchange"},
    "_environment": {"_origin", "_secret", "errors"},
    "_exchange_progress": {"_wire.exchange"},
    "_poll_schedule": {"_job", "_status", "errors"},
    "_shared_rate": {"_rate", "_redis_slots", "_secret", "errors"},
    "_targets": {"_secret", "_status", "errors"},
    "_tls": {"_certificates", "_secret", "errors"},
    "_form": {"_wire.exchange", "errors"},
    "_wire.multipart": {"_wire.asice"},
    "_wire.rules": {"_job", "_wire.xml", "errors"},
    "_body": {"_documents", "_job", "_wire.asice"},
    "_exchange_failures": {"_exchange_progress", "_tls", "errors"},
    "_wire.messages": {"_job", "_secret", "_status", "_wire.rules", "_wire.xml", "errors"},
    "_transport": {
        "_content_coding",
        "_exchange_failures",
        "_exchange_progress",
        "_httpcore_log",
        "_origin",
        "_pool",
        "_secret",
        "_tls",
        "_wire.exchange",
        "errors",
    },
    "_wire.failures": {
        "_secret",
        "_wire.exchange",
        "_wire.messages",
        "_wire.poll_time",
        "errors",
    },
    "_trust": {"_certificates", "_environment", "_secret", "_transport", "errors"},
    "_wire.operations": {
        "_job",
        "_origin",
        "_retry",
        "_secret",
        "_status",
        "_form",
        "_wire.exchange",
        "_wire.failures",
        "_wire.messages",
        "_wire.poll_time",
        "_wire.urls",
        "errors",
    },
    "_configuration": {
        "_bundle",
        "_certificates",
        "_environment",
        "_job",
        "_rate",
        "_retry",
        "_secret",
        "_trust",
        "_wire.asice",
        "_wire.exchange",
        "errors",
    },
    "_session": {
        "_rate",
        "_retry",
        "_secret",
        "_form",
        "_wire.exchange",
        "_wire.operations",
        "_wire.poll_time",
        "errors",
    },
    "_creation": {
        "_body",
        "_documents",
        "_job",
        "_secret",
        "_session",
        "_status",
        "_wire.asice",
        "_wire.exchange",
        "_wire.messages",
        "_wire.multipart",
        "_wire.operations",
        "_wire.rules",
        "_wire.xades",
        "errors",
    },
    "_polling": {"_job", "_poll_schedule", "_session", "_status", "errors"},
    "_opening": {
        "_bundle",
        "_configuration",
        "_creation",
        "_job",
        "_poll_schedule",
        "_rate",
        "_secret",
        "_session",
        "_tls",
        "_transport",
        "_trust",
        "_wire.exchange",
        "_wire.xades",
        "_wire.xml",
        "errors",
    },
    "_lifecycle": {
        "_configuration",
        "_downloads",
        "_job",
        "_opening",
        "_wire.operations",
        "errors",
    },
    "_client": {
        "_creation",
        "_downloads",
        "_job",
        "_lifecycle",
        "_polling",
        "_secret",
        "_status",
        "_targets",
        "_wire.operations",
    },
    "_store": {"_client", "_files", "_secret", "_status"},
    "worker": {"_client", "_job", "_polling", "_signals", "_status", "_store", "errors"},
}

# Library -> the modules of the SDK that may import it. The standard library is everybody's, but see IMPURE.
DOORS = {
    "httpx": {"_transport"},
    "xsdata": {"_wire.xml"},
    "xsdata_pydantic": {"_wire.xml"},
    "pydantic": {"_wire.xml"},
    "posten_signering_xml": {"_wire.messages"},
    "lxml": {"_wire.xml", "_wire.xades"},
    "cryptography": {"_certificates", "_tls", "_trust", "_wire.xades"},
    "certifi": {"_tls", "_trust"},
    "limits": {"_redis_slots"},
    "redis": {"_redis_slots"},
}

# What needs an extra is imported where it is used, and says so when it is missing.
BEHIND_EXTRAS = {"sandbox", "_redis_slots"}

# The event loop is for whoever is neither a value nor `_wire`.
EVENT_LOOP = {"anyio"}
VALUES = {"errors", "_secret", "_job", "_status"}

# What `_wire` does without, be it imported or called.
IMPURE_MODULES = {
    "asyncio",
    "concurrent",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
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
    "lxml",
    "pyhanko",
    "pyhanko_certvalidator",
    "pypdf",
    "reportlab",
}
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


def arrows(module: str, source: str) -> set[str]:
    """The modules of the SDK that this one imports; the root is the empty name."""
    found = set()
    for base, name in imports(module, source):
        if base.partition(".")[0] != ROOT:
            continue
        inner = base.removeprefix(ROOT).removeprefix(".")
        below = f"{inner}.{name}".removeprefix(".")
        found.add(below if below in MODULES or below in ARROWS else inner)
    return found


def libraries(module: str, source: str) -> set[str]:
    """The packages that are neither ours nor the standard library's."""
    tops = {base.partition(".")[0] for base, _ in imports(module, source)}
    return tops - sys.stdlib_module_names - {ROOT, "_typeshed"}  # the type checkers' own stubs


def complaints(module: str, source: str) -> list[str]:
    """Every rule that this module breaks."""
    if module == "sandbox" or module.startswith("sandbox."):
        return _sandbox_complaints(module, source)
    foreign = libraries(module, source)
    is_pure = module in VALUES or module.partition(".")[0] == "_wire"
    if not is_pure:
        foreign -= EVENT_LOOP
    told = [
        f"{module} imports {library}, whose only importers are {sorted(DOORS.get(library, ()))}"
        for library in sorted(foreign)
        if module not in DOORS.get(library, ())
    ]
    if module:
        new = arrows(module, source) - ARROWS.get(module, set())
        told += [
            f"{module} imports {target or 'the package root'}: a new arrow"
            for target in sorted(new)
        ]
    elif any(target.partition(".")[0] == "sandbox" for target in arrows(module, source)):
        told.append("the package root imports the sandbox")
    if module.partition(".")[0] == "_wire":
        told += _impurities(module, source)
    return told


def _sandbox_complaints(module: str, source: str) -> list[str]:
    surplus = libraries(module, source) - SANDBOX_LIBRARIES - LOADED_BY.get(module, set())
    told = [f"{module} imports {library}: not one of the sandbox's" for library in sorted(surplus)]
    for base, name in sorted(imports(module, source), key=str):
        if (
            base.partition(".")[0] != ROOT
            or base.startswith(f"{ROOT}.sandbox")
            or (base, name) == (ROOT, "sandbox")
        ):
            continue
        public = base in {ROOT, f"{ROOT}.errors"} and not str(name).startswith("_")
        if not (public if module in SANDBOX_PROGRAMS else base == ROOT and name in SANDBOX_VALUES):
            told.append(
                f"{module} imports {name} of {base}: only the values it returns, from the root"
            )
    return told


def _impurities(module: str, source: str) -> list[str]:
    used = {base for base, _ in imports(module, source)}
    used |= {f"{base}.{name}" for base, name in imports(module, source) if name}
    used |= {base.partition(".")[0] for base in used}
    told = [f"{module} imports {name}: _wire is pure" for name in sorted(used & IMPURE_MODULES)]
    banned = IMPURE_CALLS | (set() if module in MAY_READ else READS)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in banned:
                told.append(f"{module}:{node.lineno} calls {name}(): _wire is pure")
    return told


def normalised(distribution: str) -> str:
    """A distribution's name, however it is spelled."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_arrows_point_one_way():
    order = list(graphlib.TopologicalSorter(ARROWS).static_order())  # raises on a cycle
    assert set(order) == set(ARROWS)


def test_every_library_that_is_imported_is_a_declared_dependency():
    """What comes along with another package today may be gone tomorrow."""
    providers = packages_distributions()
    declared = {False: set(), True: set()}
    for entry in requires("posten-signering"):
        declared["extra ==" in entry].add(normalised(re.match(r"[\w.-]+", entry).group()))
    for module, file in MODULES.items():
        allowed = declared[False] | (
            declared[True] if module.partition(".")[0] in BEHIND_EXTRAS else set()
        )
        for library in libraries(module, file.read_text(encoding="utf-8")) - {
            "posten_signering_xml",
            *LOADED_BY.get(module, ()),
        }:
            assert {normalised(name) for name in providers[library]} & allowed, (
                f"{module} imports {library}"
            )


@pytest.mark.parametrize("module", MODULES)
def test_each_module_imports_only_what_the_rules_allow(module):
    assert complaints(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", [module for module in ARROWS if module in MODULES])
def test_the_table_names_no_arrow_that_is_gone(module):
    assert ARROWS[module] - arrows(module, MODULES[module].read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_job", "from posten_signering import _client", "a new arrow"),
        ("_job", "from ._client import DirectClient", "a new arrow"),
        ("_job", "def f():\n    import posten_signering", "the package root: a new arrow"),
        ("_wire.xml", "from .._transport import send", "imports _transport: a new arrow"),
        ("_wire.xml", "from . import messages", "imports _wire.messages: a new arrow"),
        ("_client", "from posten_signering.sandbox import Sandbox", "imports sandbox: a new arrow"),
        ("", "from posten_signering.sandbox import Sandbox", "imports the sandbox"),
        ("brand_new", "import posten_signering.errors", "a new arrow"),
        ("_client", "import httpx", "only importers are ['_transport']"),
        (
            "_wire.messages",
            "from xsdata.models.datatype import XmlDateTime",
            "only importers are ['_wire.xml']",
        ),
        ("_status", "if True:\n    from pydantic import BaseModel", "imports pydantic"),
        ("_job", "import requests", "imports requests"),
        ("_wire.xades", "import time", "imports time: _wire is pure"),
        ("_wire.xades", "from os import urandom", "imports os: _wire is pure"),
        ("_wire.xades", "import urllib.request", "_wire is pure"),
        ("_wire.xades", "import anyio", "imports anyio"),
        ("_job", "import anyio", "imports anyio"),
        (
            "_wire.xades",
            "import datetime\nx = datetime.datetime.now()",
            "_wire.xades:2 calls now()",
        ),
        ("_wire.asice", "x = open('a')", "calls open()"),
        ("_wire.asice", "def f(path):\n    return path.read_bytes()", "calls read_bytes()"),
        ("sandbox._bundle", "import posten_signering_xml", "not one of the sandbox's"),
        ("sandbox._bundle", "import httpx", "not one of the sandbox's"),
        ("sandbox._bundle", "from .._wire import asice", "only the values it returns"),
        (
            "sandbox._bundle",
            "from posten_signering._wire.xml import parse",
            "only the values it returns",
        ),
        (
            "sandbox._bundle",
            "from posten_signering import DirectClient",
            "only the values it returns",
        ),
        ("sandbox.demo", "from posten_signering import _transport", "only the values it returns"),
        ("sandbox._bundle", "import pytest", "not one of the sandbox's"),
    ],
)
def test_an_import_against_the_rules_is_told(module, source, complaint):
    told = complaints(module, source)
    assert any(complaint in line for line in told), told


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_wire.messages", "from posten_signering._wire import xml\nimport posten_signering_xml"),
        (
            "_wire.xml",
            "from ..errors import UnexpectedResponseError\nfrom urllib.parse import quote",
        ),
        ("_transport", "import httpx, time"),
        ("_documents", "from anyio.to_thread import run_sync"),
        ("sandbox", "from ._server import Sandbox\nimport aiohttp, time"),
        (
            "sandbox._server",
            "from posten_signering import ClientConfiguration\nfrom . import _pages",
        ),
        (
            "sandbox.demo",
            "from posten_signering import DirectClient\nfrom posten_signering.errors import SigningError",
        ),
    ],
)
def test_an_import_within_the_rules_is_not(module, source):
    assert complaints(module, source) == []


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


def test_a_missing_docstring_is_told():
    class Bare:
        def method(self):
            return self

        @property
        def prop(self):
            return self

        def documented(self):
            """Documented."""

    assert undocumented(Bare, "Bare") == ["Bare", "Bare.method", "Bare.prop"]


HEAVY = ("aiohttp", "pyhanko", "pypdf", "reportlab", f"{ROOT}.sandbox")


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
