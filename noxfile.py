"""Test sessions beyond `make test`: every installed Python, the lowest allowed versions, the built wheel.

`nox -s tests` runs on each installed Python from 3.11 to 3.14 and lists at the end which ones ran. It downloads none.
`nox -s lowest` and `nox -s wheel` use one Python. Arguments after `--` are passed to pytest.
"""

import atexit
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
EXTRAS = ",".join(PROJECT["project"]["optional-dependencies"])
CONSTRAINTS = ROOT / "constraints.txt"

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lowest", "wheel"]
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
# Few machines have every Python, so a missing one is no error. The last line of output lists which ones ran,
# and CI counts them.
nox.options.error_on_missing_interpreters = False

_tests_passed_on: dict[str, bool] = {}


def _offer_pyenv_versions() -> None:
    """Put pyenv's interpreters on PATH, because pyenv's shims run only the selected version."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    interpreters = {
        version: folder / "bin"
        for version in PYTHONS
        for folder in sorted(
            versions.glob(f"{version}.*"), key=lambda folder: (len(folder.name), folder.name)
        )
        if (folder / "bin" / f"python{version}").exists()
    }
    os.environ["PATH"] = os.pathsep.join([*map(str, interpreters.values()), os.environ["PATH"]])


_offer_pyenv_versions()


def _pytest(session: nox.Session, *arguments: str) -> None:
    session.env["PYTHONPATH"] = ""
    session.run("pytest", "-n", "auto", "--maxprocesses=8", *arguments, *session.posargs)


@atexit.register
def _print_which_ran() -> None:
    if not _tests_passed_on:
        return
    versions_by_result = {
        "passed on": [version for version, passed in _tests_passed_on.items() if passed],
        "failed on": [version for version, passed in _tests_passed_on.items() if not passed],
        "did not run on": [version for version in PYTHONS if version not in _tests_passed_on],
    }
    parts = [
        f"{result} Python {', '.join(versions)}"
        for result, versions in versions_by_result.items()
        if versions
    ]
    print(f"Supported Python versions: tests {'; '.join(parts)}.")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests on each installed Python."""
    _tests_passed_on[str(session.python)] = False
    session.install(f"--constraint={CONSTRAINTS}", "--group=test", "--editable", f".[{EXTRAS}]")
    _pytest(session)
    _tests_passed_on[str(session.python)] = True


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run all tests with the lowest versions that pyproject.toml allows; test tools stay current."""
    with tempfile.TemporaryDirectory() as folder:
        pins, also = Path(folder) / "lowest.txt", Path(folder) / "also.txt"
        # The instrumentation of httpx that belongs to the lowest opentelemetry-api, a test tool, needs it.
        also.write_text("wrapt<2\n")
        session.run_install(
            *("uv", "pip", "compile", "pyproject.toml", "--quiet", "--all-extras"),
            f"--constraint={also}",
            *("--resolution=lowest-direct", "--python-version=3.11"),
            *("--no-header", "--no-annotate", f"--output-file={pins}"),
        )
        session.install(f"--constraint={pins}", "--group=test", "--editable", f".[{EXTRAS}]")
        session.log("Installed with the lowest allowed versions:\n%s", pins.read_text())
    _pytest(session)


@nox.session
def wheel(session: nox.Session) -> None:
    """Run all tests against the built wheel, in an environment without the checkout's packages."""
    with tempfile.TemporaryDirectory() as folder:
        # `uv build` builds the wheel from the sdist. This proves that the sdist contains everything needed.
        session.run_install("uv", "build", "--quiet", f"--out-dir={folder}")
        [built] = Path(folder).glob("*.whl")
        [source] = Path(folder).glob("*.tar.gz")
        _check_wheel(session, built)
        _check_sdist(session, source)
        session.install(f"--constraint={CONSTRAINTS}", "--group=test", f"{built}[{EXTRAS}]")
        with session.chdir(folder):
            session.run("python", "-c", _IMPORTED_FROM_ENVIRONMENT, env={"PYTHONPATH": ""})
            configuration = ROOT / "pyproject.toml"
            _pytest(
                session, f"--rootdir={ROOT}", f"--config-file={configuration}", str(ROOT / "tests")
            )


_IMPORTED_FROM_ENVIRONMENT = """
import pathlib, sys, posten_signering, posten_signering_xml
for module in (posten_signering, posten_signering_xml):
    print("imported from", module.__file__)
    assert pathlib.Path(module.__file__).is_relative_to(sys.prefix), "not the installed package"
"""


def _check_wheel(session: nox.Session, path: Path) -> None:
    """Check that the wheel contains both packages completely, with `py.typed` and the schema, and nothing else."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    wanted = {
        file.relative_to(root).as_posix()
        for root in (ROOT / "src", ROOT / "generated")
        for file in root.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    wanted |= {"posten_signering/py.typed", "posten_signering_xml/py.typed"}
    wanted |= {"posten_signering_xml/schema/direct.xsd"}
    packages = ("posten_signering/", "posten_signering_xml/")
    unwanted = {
        name for name in names if not name.startswith(packages) and ".dist-info/" not in name
    }
    if not wanted <= names or unwanted:
        session.error(
            f"The wheel lacks {sorted(wanted - names)} and must not contain {sorted(unwanted)}."
        )


def _check_sdist(session: nox.Session, path: Path) -> None:
    """Check that the sdist contains all files for a build and the tests, and no local environments or output."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top_level = {name.partition("/")[0] for name in names}
    wanted = {
        "LICENSE",
        "README.md",
        "src",
        "generated",
        "xsd",
        "tests",
        "tools",
        "noxfile.py",
        "constraints.txt",
    }
    unwanted = {".venv", ".nox", ".git", "dist", "demo-output", "test-output"}
    if not wanted <= top_level or top_level & unwanted:
        session.error(
            f"The sdist lacks {sorted(wanted - top_level)}"
            f" and must not contain {sorted(top_level & unwanted)}."
        )
