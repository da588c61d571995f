"""Sessions that `make test` does not cover: every installed Python, the lowest versions, the built wheel.

`nox -s tests` runs on each of Python 3.11 to 3.14 that is installed and says at the end which ran; none is
downloaded. `nox -s lowest` and `nox -s wheel` take one Python. What follows `--` goes to pytest.
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
# Not every machine has every Python: the closing line says which ran, and CI counts them.
nox.options.error_on_missing_interpreters = False

_tests_passed_on: dict[str, bool] = {}


def _offer_pyenv_versions() -> None:
    """Put pyenv's interpreters themselves on PATH: its shims run only the version that is selected."""
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
def _say_which_ran() -> None:
    if not _tests_passed_on:
        return
    told = {
        "passed on": [version for version, passed in _tests_passed_on.items() if passed],
        "failed on": [version for version, passed in _tests_passed_on.items() if not passed],
        "did not run on": [version for version in PYTHONS if version not in _tests_passed_on],
    }
    each = [f"{did} Python {', '.join(versions)}" for did, versions in told.items() if versions]
    print(f"Of the supported ones, tests {'; '.join(each)}.")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests on each installed Python."""
    _tests_passed_on[str(session.python)] = False
    session.install(f"--constraint={CONSTRAINTS}", "--group=test", "--editable", f".[{EXTRAS}]")
    _pytest(session)
    _tests_passed_on[str(session.python)] = True


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """All tests on the lowest versions that pyproject.toml allows; the tools of the tests stay current."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "lowest.txt"
        session.run_install(
            *("uv", "pip", "compile", "pyproject.toml", "--quiet", "--all-extras"),
            *("--resolution=lowest-direct", "--python-version=3.11"),
            *("--no-header", "--no-annotate", f"--output-file={pins}"),
        )
        session.install(f"--constraint={pins}", "--group=test", "--editable", f".[{EXTRAS}]")
        session.log("Installed with the lowest allowed versions:\n%s", pins.read_text())
    _pytest(session)


@nox.session
def wheel(session: nox.Session) -> None:
    """All tests against the built wheel, in an environment that can't see the checkout's packages."""
    with tempfile.TemporaryDirectory() as folder:
        # The wheel is built from the sdist, so the sdist is known to hold all that it takes.
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
    """The wheel holds all of both packages, typed, with the schema; and nothing besides."""
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
    surplus = {
        name for name in names if not name.startswith(packages) and ".dist-info/" not in name
    }
    if not wanted <= names or surplus:
        session.error(
            f"The wheel lacks {sorted(wanted - names)} and should not hold {sorted(surplus)}"
        )


def _check_sdist(session: nox.Session, path: Path) -> None:
    """The sdist holds what it takes to build and test, and nothing that was made here."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
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
    if not wanted <= tops or tops & unwanted:
        session.error(
            f"The sdist lacks {sorted(wanted - tops)} and should not hold {sorted(tops & unwanted)}"
        )
