"""Test sessions beyond `make test`: every installed Python, the lowest allowed versions, the built wheel.

`nox -s tests` runs on each installed Python from 3.11 to 3.14 and lists at the end which ones ran. It downloads none.
`nox -s lowest` and `nox -s wheel` use one Python. Arguments after `--` are passed to pytest.
"""

import atexit
import os
import sys
import tempfile
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
    """Build and check the sdist and the wheel, and run all tests against the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        # Builds the wheel from the sdist, with the tools in the environment of nox, and checks all files.
        session.run(
            *(sys.executable, "tools/dist.py", "--sbom", f"--output={folder}"), external=True
        )
        [built] = Path(folder).glob("*.whl")
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
