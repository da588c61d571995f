"""Builds the sdist and the wheel into dist/, and checks them; with --sbom also lists what the wheel installs.

    python tools/dist.py [--output FOLDER] [--sbom]

It builds twice under different conditions and compares the files byte by byte. It checks contents, metadata and
README, installs the wheel without extras, and then with all of them. It needs uv, and what constraints.txt pins.
"""

import argparse
import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = sorted(PROJECT["project"]["optional-dependencies"])
CONSTRAINTS = ROOT / "constraints.txt"
PACKAGES = ("src/posten_signering", "generated/posten_signering_xml")

# What an sdist must have, and what it must not, at its top level.
SOURCES = {
    *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "llms.txt"),
    *("src", "generated", "xsd", "tests", "tools", "examples", "docs", "mkdocs.yml"),
    *("pyproject.toml", "constraints.txt", "api.txt", "Makefile", "noxfile.py", "PKG-INFO"),
}
NO_SOURCES = {".venv", ".nox", ".git", "dist", "site", "demo-output", "test-output"}
# What git tracks and the sdist leaves out.
LEFT_OUT = re.compile(r"\.(?:ci|github)/")

# The extra that each of these public modules (or some of its names) and commands needs. Others need none.
EXTRA_OF = {
    "posten_signering.opentelemetry": "opentelemetry",
    "posten_signering.sandbox": "sandbox",
    "posten_signering.sandbox.pytest": "sandbox",
    "RedisFleet.join": "redis",
    "python -m posten_signering": "cli",
    "python -m posten_signering.sandbox": "sandbox",
    "python -m posten_signering.sandbox.demo": "sandbox",
}
# One of these shows that an environment has more than the package needs.
TOOLS = {"hatchling", "mypy", "nox", "pip", "pytest", "ruff", "uv"}
_INSTALL = re.compile(r"pip install 'posten-signering\[(\w+)\]'")


class FaultyFileError(Exception):
    """What is wrong with a built file."""


def main(arguments: list[str] | None = None) -> int:
    """Build, check, and say where the files are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--sbom", action="store_true", help="write an SBOM (CycloneDX) too")
    options = parser.parse_args(arguments)
    output: Path = options.output.resolve()
    if output == ROOT / "dist":
        shutil.rmtree(output, ignore_errors=True)  # files of other versions
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = build_and_check(output, Path(folder), sbom=options.sbom)
    except FaultyFileError as fault:
        print(fault, file=sys.stderr)
        return 1
    for path in made:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    if changed := _git("status", "--porcelain"):
        print(f"Do not publish these files: {len(changed)} changes are not committed.")
    return 0


def build_and_check(output: Path, scratch: Path, *, sbom: bool) -> list[Path]:
    """Build the files and check them.

    Args:
        output: The folder for the files.
        scratch: An empty folder for everything else.
        sbom: Whether to write an SBOM too.

    Returns:
        The files.

    Raises:
        FaultyFileError: A file is not as it should be.
    """
    sdist, wheel = _build(ROOT, output)
    _step(f"The sdist builds the same files: {sdist.name} and {wheel.name}")
    check_same(output, _build_again(sdist, scratch), [sdist.name, wheel.name])
    _step("Contents and metadata")
    check_sdist(sdist, _tracked())
    check_wheel(wheel)
    check_metadata(wheel)
    _run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(sdist), str(wheel))

    _step("Install without extras: what needs an extra names it")
    environment = scratch / "environment"
    _run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    _run(*install, "--constraint", CONSTRAINTS, wheel)
    check_extras(_imported(python, missing=True), missing=True)
    _step("Install with all extras: everything can be imported")
    _run(*install, "--constraint", CONSTRAINTS, f"{wheel}[{','.join(EXTRAS)}]")
    check_extras(_imported(python, missing=False), missing=False)
    if not sbom:
        return [sdist, wheel]
    listing = output / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json"
    _step(f"List what the wheel installs: {listing.name}")
    _write_sbom(listing, python, scratch)
    check_sbom(json.loads(listing.read_text(encoding="utf-8")))
    return [sdist, wheel, listing]


def _build(source: Path, output: Path, *, umask: int = -1, **variables: str) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel."""
    # The backend uses its own fixed date for all files if this variable is not set.
    environment = {name: os.environ[name] for name in os.environ if name != "SOURCE_DATE_EPOCH"}
    _run(
        *(sys.executable, "-m", "uv", "build", "--quiet", f"--python={sys.executable}"),
        *(f"--build-constraints={CONSTRAINTS}", f"--out-dir={output}", source),
        environment=environment | variables,
        umask=umask,
    )
    [sdist] = output.glob("*.tar.gz")
    [wheel] = output.glob("*.whl")
    return sdist, wheel


def _build_again(sdist: Path, scratch: Path) -> Path:
    """Build from the unpacked sdist: elsewhere, later, for nobody else to read, in a different time zone.

    Returns:
        The folder with the files.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    [source] = (scratch / "unpacked").iterdir()
    for path in source.rglob("*"):
        os.utime(path, (1, 1))
    again = scratch / "again"
    _build(source, again, umask=0o077, TZ="Pacific/Kiritimati", LC_ALL="C", PYTHONHASHSEED="7")
    return again


def check_same(first: Path, second: Path, names: list[str]) -> None:
    """Check that the files with these names are equal in both folders.

    Raises:
        FaultyFileError: They differ.
    """
    _, differing, missing = filecmp.cmpfiles(first, second, names, shallow=False)
    if differing or missing:
        raise FaultyFileError(
            f"A second build gives different files: {', '.join([*differing, *missing])}."
        )


def _git(*arguments: str) -> list[str] | None:
    """What git prints, cut at null bytes. None outside a git repository, such as in an unpacked sdist."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments, "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name]


def _tracked() -> set[str] | None:
    """The files that git tracks or would track after `git add`. None outside a git repository."""
    names = _git("ls-files", "--cached", "--others", "--exclude-standard")
    if names is None:
        return None
    return {name for name in names if (ROOT / name).is_file() and not LEFT_OUT.match(name)}


def check_sdist(path: Path, tracked: set[str] | None) -> None:
    """Check that the sdist contains all sources, and no local environment or output.

    Args:
        path: The sdist.
        tracked: The files that it must contain, and besides them only PKG-INFO. None if that is not known.

    Raises:
        FaultyFileError: It lacks something, or has too much.
    """
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    top_level = {name.partition("/")[0] for name in names}
    missing, unwanted = SOURCES - top_level, NO_SOURCES & top_level
    if tracked is not None:
        missing |= tracked - names
        unwanted |= names - tracked - {"PKG-INFO"}
    _complain("sdist", missing, unwanted)


def check_wheel(path: Path) -> None:
    """Check that the wheel contains both packages completely, and nothing else.

    Raises:
        FaultyFileError: It lacks something, or has too much.
    """
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    wanted = {
        file.relative_to((ROOT / package).parent).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    wanted |= {"posten_signering/py.typed", "posten_signering_xml/py.typed"}
    wanted |= {"posten_signering_xml/schema/direct.xsd"}
    information = _information_of(path)
    wanted |= {
        f"{information}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    _complain("wheel", wanted - names, names - wanted)


def _information_of(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2]) + ".dist-info"


def _complain(kind: str, missing: set[str], unwanted: set[str]) -> None:
    if missing or unwanted:
        raise FaultyFileError(
            f"The {kind} lacks {sorted(missing)} and must not contain {sorted(unwanted)}."
            " A file may be missing because git or the build ignores it."
        )


def check_metadata(wheel: Path) -> None:
    """Check that the wheel's metadata says what pyproject.toml, README.md and the version's module say.

    Raises:
        FaultyFileError: A field differs.
    """
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{_information_of(wheel)}/METADATA")
    metadata = message_from_bytes(text, policy=policy.compat32)
    project = PROJECT["project"]
    urls = [f"{label}, {url}" for label, url in project.get("urls", {}).items()]
    readme = (ROOT / project["readme"]).read_text(encoding="utf-8")
    body = metadata.get_payload(decode=True)
    found = {
        "Name": metadata.get_all("Name"),
        "Version": metadata.get_all("Version"),
        "Summary": metadata.get_all("Summary"),
        "Requires-Python": metadata.get_all("Requires-Python"),
        "License-Expression": metadata.get_all("License-Expression"),
        "License-File": metadata.get_all("License-File"),
        "Classifier": metadata.get_all("Classifier"),
        "Provides-Extra": sorted(metadata.get_all("Provides-Extra", [])),
        "Project-URL": metadata.get_all("Project-URL", []),
        "Home-page": metadata.get_all("Home-page", []),
        "Description-Content-Type": metadata.get_all("Description-Content-Type"),
        "Description": body.decode() if isinstance(body, bytes) else None,
    }
    wanted = {
        "Name": [project["name"]],
        "Version": [version()],
        "Summary": [project["description"]],
        "Requires-Python": [project["requires-python"]],
        "License-Expression": [project["license"]],
        "License-File": project["license-files"],
        "Classifier": project["classifiers"],
        "Provides-Extra": EXTRAS,
        "Project-URL": urls,
        "Home-page": [],
        "Description-Content-Type": ["text/markdown"],
        "Description": readme,
    }
    if differing := [name for name in wanted if found[name] != wanted[name]]:
        details = "\n".join(
            f"{name}: {found[name]!r} in place of {wanted[name]!r}" for name in differing
        )
        raise FaultyFileError(f"The wheel's metadata differs from the sources:\n{details}")


def version() -> str:
    """The version in the sources, which the build reads too."""
    module = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    found: list[str] = re.findall(r'^__version__ = "(.+)"$', module, re.MULTILINE)
    return found[0]


# Runs in the new environment. It prints the errors that an import of each public module and of its names causes.
_IMPORT = """
import asyncio, json, pkgutil, subprocess, sys
from importlib import import_module
from unittest.mock import MagicMock

import posten_signering
from posten_signering import RedisFleet

assert posten_signering.__file__.startswith(sys.prefix), "not the installed package"
sys.modules.setdefault("pytest", MagicMock())  # the plugin is only ever imported by pytest
errors = {}

def attempt(name, function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        errors.setdefault(name, []).append(f"{type(error).__name__}: {error}")

def look_into(path, prefix):
    for found in pkgutil.iter_modules(path, prefix):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        modules.append(found.name)
        if found.ispkg:
            look_into(import_module(found.name).__path__, found.name + ".")

modules = ["posten_signering"]
look_into(posten_signering.__path__, "posten_signering.")
for name in modules:
    module = attempt(name, import_module, name)
    for public in getattr(module, "__all__", ()):
        attempt(name, getattr, module, public)

async def join():
    await RedisFleet("redis://127.0.0.1:1").join(None).__aenter__()

if sys.argv[1] == "missing":
    attempt("RedisFleet.join", asyncio.run, join())
    for command in ("posten_signering", "posten_signering.sandbox", "posten_signering.sandbox.demo"):
        ended = subprocess.run([sys.executable, "-m", command], capture_output=True, text=True, timeout=60)
        if ended.returncode != 0:
            errors["python -m " + command] = [f"status {ended.returncode}: {ended.stderr}"]
print(json.dumps({"modules": modules, "errors": errors}))
"""


def _imported(python: Path, *, missing: bool) -> dict[str, list[str]]:
    """The errors of each public module and command in this environment, with or without the extras."""
    done = subprocess.run(
        [python, "-I", "-c", _IMPORT, "missing" if missing else "installed"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise FaultyFileError(f"The installed wheel can't be imported:\n{done.stderr}")
    result = json.loads(done.stdout)
    if missing:
        print(f"Public modules: {', '.join(result['modules'])}.")
    return dict(result["errors"])


def check_extras(errors: dict[str, list[str]], *, missing: bool) -> None:
    """Check that everything was imported, except what needs an extra that is missing and says so.

    Args:
        errors: What failed, each with its errors.
        missing: Whether the extras are missing.

    Raises:
        FaultyFileError: An import failed for a different reason, or did not fail although its extra is missing.
    """
    named = {name: {*map(_extra_in, texts)} for name, texts in errors.items()}
    wanted = {name: {extra} for name, extra in EXTRA_OF.items()} if missing else {}
    if named != wanted:
        differing = sorted(
            name for name in {*named, *wanted} if named.get(name) != wanted.get(name)
        )
        lines = [
            f"{name}: {errors.get(name, 'no error')}, expected {wanted.get(name, 'no error')}"
            for name in differing
        ]
        raise FaultyFileError("\n".join(["Errors must name the extra that is missing:", *lines]))


def _extra_in(error: str) -> str:
    match = _INSTALL.search(error)
    return match[1] if match else error


def _write_sbom(path: Path, python: Path, scratch: Path) -> None:
    """List the distributions of an environment. The file is the same each time, and valid by its schema."""
    # The tool takes the component at the root from a pyproject.toml, and does not know where the version is.
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    described = pyproject.replace('dynamic = ["version"]', f'version = "{version()}"')
    (scratch / "pyproject.toml").write_text(described, encoding="utf-8")
    environment = {name: os.environ[name] for name in os.environ if name != "SOURCE_DATE_EPOCH"}
    _run(
        *(sys.executable, "-m", "cyclonedx_py", "environment", "--validate", "--mc-type=library"),
        *("--output-reproducible", f"--pyproject={scratch / 'pyproject.toml'}"),
        *("--output-format=JSON", f"--output-file={path}", python),
        environment=environment,
    )


def check_sbom(listing: dict[str, Any]) -> None:
    """Check that an SBOM describes this version with its pinned requirements, and nothing of this machine.

    Raises:
        FaultyFileError: It does not.
    """
    constraints = CONSTRAINTS.read_text(encoding="utf-8")
    pins = set(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", constraints, re.MULTILINE))
    root = listing["metadata"]["component"]
    faults = [
        f"{component['name']} {component['version']} is not pinned"
        for component in listing["components"]
        if (_name_of(component["name"]), component["version"]) not in pins
    ]
    faults += [
        f"{component['name']} is a tool for development"
        for component in listing["components"]
        if _name_of(component["name"]) in TOOLS
    ]
    if (root["name"], root.get("version")) != (PROJECT["project"]["name"], version()):
        faults.append(f"it describes {root['name']} {root.get('version')}")
    if "file:" in json.dumps(listing):
        faults.append("it names a file of this machine")
    if "serialNumber" in listing or "timestamp" in listing["metadata"]:
        faults.append("it differs from run to run")
    if faults:
        raise FaultyFileError(f"The SBOM is wrong: {'; '.join(faults)}.")


def _name_of(distribution: str) -> str:
    """The normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _step(title: str) -> None:
    print(f"--- {title}", flush=True)


def _run(*command: str | Path, environment: dict[str, str] | None = None, umask: int = -1) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        umask=umask,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise FaultyFileError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
