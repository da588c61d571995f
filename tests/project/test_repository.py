"""Rules for the repository as a whole: tracked files, dependencies, and the messages of the set-up script."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import metadata, packages_distributions, version
from importlib.resources import files
from pathlib import Path

import pytest

import posten_signering

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTALLED = packages_distributions()
LOCK_FILES = {
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "package-lock.json",
    "yarn.lock",
    "pylock.toml",
}

# Text that reveals details of a machine: the address of a package index, a local path, or pip options with either.
MACHINE_DETAILS = {
    "an index address": re.compile(
        r"https?://(?!pypi\.org/project/)[^\s/]*(?:pypi|pythonhosted|artifactory|devpi|nexus)[^\s/]*/",
        re.IGNORECASE,
    ),
    "an index option": re.compile(
        r"^\s*(?:--(?:extra-)?index-url|--find-links|--trusted-host|-[fi])[\s=]", re.MULTILINE
    ),
    "a home folder": re.compile(r"(?<![\w.:/~])/(?:home|Users)/\w+/|(?<![\w./])/(?:root)/"),
    "a work folder": re.compile(r"(?<![\w.:/~])/(?:work|builds|workspace|opt/wheels)/|/tmp/\w"),
}


SLASH = "/"  # so that this file contains no such path


def tracked() -> list[Path]:
    """The files that git tracks or would track after `git add`. In an unpacked sdist, all files."""
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*") if path.is_file()]
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def machine_details(text: str) -> list[str]:
    """The details in this text about the machine on which it was written."""
    return [
        f"{kind}: {match.group()!r}"
        for kind, pattern in MACHINE_DETAILS.items()
        if (match := pattern.search(text))
    ]


def test_no_lock_file_is_tracked():
    """A lock file records the address of its package index. constraints.txt pins versions without one."""
    names = {path.name for path in tracked()}
    assert "pyproject.toml" in names
    assert names & LOCK_FILES == set()


def test_no_tracked_file_reveals_machine_details():
    revealed = {}
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if details := machine_details(text):
            revealed[str(path.relative_to(ROOT))] = details
    assert revealed == {}


@pytest.mark.parametrize(
    "text",
    [
        "see https://pypi.example.com/simple/",
        "anyio @ https://files.pythonhosted.org/packages/x.whl",
        "--index-url https://packages.example.com\n",
        "-f /srv/wheels\n",
        "--find-links=wheels\n",
        "cd /home/kari/signering",
        f"{SLASH}root/.cache",
        f"cd {SLASH}work/checkout",
        "/tmp/build-1/x.whl",
    ],
)
def test_a_text_with_machine_details_is_reported(text):
    assert machine_details(text)


@pytest.mark.parametrize(
    "text", ["a/home/page", "https://example.com/home/1", "pip install -e .", "# the /tmp folder"]
)
def test_a_text_without_machine_details_is_accepted(text):
    assert machine_details(text) == []


def test_every_pin_is_exact_and_every_direct_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.+]+( ; .+)?", pin) for pin in pins)
    pinned = {pin.partition("==")[0] for pin in pins}
    groups = [
        entry
        for group in PROJECT["dependency-groups"].values()
        for entry in group
        if isinstance(entry, str)
    ]
    extras = [
        entry for extra in PROJECT["project"]["optional-dependencies"].values() for entry in extra
    ]
    direct = {name_of(entry) for entry in [*PROJECT["project"]["dependencies"], *extras, *groups]}
    assert direct - pinned == set()


def name_of(requirement: str) -> str:
    """The normalised name of a requirement's distribution."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def test_every_direct_dependency_has_a_lower_bound():
    extras = [
        entry for extra in PROJECT["project"]["optional-dependencies"].values() for entry in extra
    ]
    for entry in [*PROJECT["project"]["dependencies"], *extras]:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?>=\d", entry), entry


def undeclared(source: str) -> set[str]:
    """The distributions that a test's source imports although pyproject.toml does not declare them for tests."""
    groups = PROJECT["dependency-groups"]
    entries = [
        *PROJECT["project"]["dependencies"],
        *(
            entry
            for extra in PROJECT["project"]["optional-dependencies"].values()
            for entry in extra
        ),
        *(entry for name in ("test", "bench", "codegen", "examples") for entry in groups[name]),
    ]
    declared = {name_of(entry) for entry in entries if isinstance(entry, str)}
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    # Several distributions may share a namespace, such as `opentelemetry`. One of them must be declared.
    providers = [
        {name_of(name) for name in INSTALLED.get(module.partition(".")[0], ())}
        for module in imported
    ]
    declared.add("posten-signering")
    return {name for names in providers if not names & declared for name in names}


def test_every_distribution_that_tests_import_is_declared():
    """An undeclared distribution is installed only as long as another package requires it."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert undeclared(path.read_text(encoding="utf-8")) == set(), path


def test_an_import_of_an_undeclared_distribution_is_reported():
    assert undeclared("import pytest, attrs\nfrom attr.validators import x") == {"attrs"}


def test_the_set_up_installs_every_extra():
    """The tests need every extra, so each extra in pyproject.toml must be in tools/venv.sh too."""
    [installed] = re.findall(
        r"--editable '\.\[([\w,-]+)\]'", (ROOT / "tools/venv.sh").read_text(encoding="utf-8")
    )
    assert set(installed.split(",")) == set(PROJECT["project"]["optional-dependencies"])


def test_the_installed_version_and_licence_are_those_of_the_sources():
    assert version("posten-signering") == posten_signering.__version__
    assert metadata("posten-signering")["License-Expression"] == "Apache-2.0"


def test_the_newest_section_of_the_changelog_is_for_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[0]
    assert newest in {posten_signering.__version__, "Unreleased"}


@pytest.mark.parametrize("package", ["posten_signering", "posten_signering_xml"])
def test_both_packages_are_typed(package):
    assert files(package).joinpath("py.typed").is_file()


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


# The messages of tools/venv.sh when it can't create the environment


def set_up(
    tmp_path: Path, programs: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a copy of tools/venv.sh with a PATH that contains only these scripts and a few basic programs."""
    version_file = PROJECT["tool"]["hatch"]["version"]["path"]
    for name in ("pyproject.toml", "constraints.txt", version_file, "tools/venv.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("cat", "cksum", "dirname"):
        (path / name).symlink_to(shutil.which(name))
    for name, script in programs.items():
        (path / name).write_text(f"#!{shutil.which('sh')}\n{script}\n", encoding="utf-8")
        (path / name).chmod(0o755)
    return subprocess.run(
        [shutil.which("sh"), tmp_path / "tools/venv.sh", "test"],
        env={"PATH": str(path), **environment},
        check=False,
        capture_output=True,
        text=True,
    )


NEW_ENOUGH_ONLY = 'case "$2" in *version_info*) exit 0;; *) exit 1;; esac'


@pytest.mark.parametrize(
    ("programs", "environment", "message"),
    [
        ({}, {}, "No Python 3.11 or newer found on PATH"),
        (
            {"python3.13": "exit 127", "python3": "exit 1"},
            {},
            "No Python 3.11 or newer found on PATH",
        ),
        ({"python3": NEW_ENOUGH_ONLY}, {}, "apt-get install python3-venv"),
        ({}, {"PYTHON": "python3.99"}, "PYTHON=python3.99 does not run"),
    ],
    ids=["no-python", "a-shim-and-an-old-python", "no-pip-and-no-ensurepip", "a-wrong-PYTHON"],
)
def test_the_set_up_names_the_missing_program(tmp_path, programs, environment, message):
    result = set_up(tmp_path, programs, **environment)
    assert result.returncode == 1
    assert message in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_set_up_skips_a_shim_that_refuses_to_run(tmp_path):
    working = 'case "$*" in *--version*) echo "Python 3.12.9";; *venv*--clear*) echo made >&2; exit 3;; esac'
    result = set_up(tmp_path, {"python3.13": "exit 127", "python3.12": working})
    assert "Creating .venv with Python 3.12.9" in result.stdout
    assert (result.returncode, result.stderr) == (3, "made\n")


def test_only_browser_on_the_command_line_makes_the_demo_open_a_browser(make):
    """Many desktops set the environment variable `BROWSER`, so `make demo` ignores it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [make, "--dry-run", "demo"]
    desktop = subprocess.run(
        command, cwd=ROOT, env=clean | {"BROWSER": "firefox"}, check=True, capture_output=True
    )
    on_command_line = subprocess.run(
        [*command, "BROWSER=1"], cwd=ROOT, env=clean, check=True, capture_output=True
    )
    assert b"--browser" not in desktop.stdout
    assert b"--browser" in on_command_line.stdout
