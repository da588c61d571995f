"""What holds for the repository as a whole: what is tracked, what is packed, and that the first set-up can fail well."""

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

# An address that a package came from, a place on somebody's machine, and pip options that hold either.
GIVEN_AWAY = {
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


SLASH = "/"  # keeps the samples below from being what they stand for


def tracked() -> list[Path]:
    """The files that git tracks, or would after `git add`; all of an unpacked sdist."""
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


def given_away(text: str) -> list[str]:
    """What this text says of the machine it was written on."""
    return [
        f"{what}: {match.group()!r}"
        for what, pattern in GIVEN_AWAY.items()
        if (match := pattern.search(text))
    ]


def test_no_lock_file_is_tracked():
    """A lock file records the address of the index it was made from; constraints.txt pins without one."""
    names = {path.name for path in tracked()}
    assert "pyproject.toml" in names
    assert names & LOCK_FILES == set()


def test_no_tracked_file_tells_of_a_machine():
    found = {}
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if told := given_away(text):
            found[str(path.relative_to(ROOT))] = told
    assert found == {}


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
def test_a_text_that_tells_of_a_machine_is_seen(text):
    assert given_away(text)


@pytest.mark.parametrize(
    "text", ["a/home/page", "https://example.com/home/1", "pip install -e .", "# the /tmp folder"]
)
def test_a_text_that_does_not_is_let_be(text):
    assert given_away(text) == []


def test_every_pin_is_exact_and_every_direct_dependency_pinned():
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
    """The normalised name that a requirement begins with."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def test_every_direct_dependency_has_a_lower_bound():
    extras = [
        entry for extra in PROJECT["project"]["optional-dependencies"].values() for entry in extra
    ]
    for entry in [*PROJECT["project"]["dependencies"], *extras]:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?>=\d", entry), entry


def undeclared(source: str) -> set[str]:
    """What a test's source imports of packages that pyproject.toml does not name for tests."""
    groups = PROJECT["dependency-groups"]
    entries = [
        *PROJECT["project"]["dependencies"],
        *(each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra),
        *(each for name in ("test", "codegen", "examples") for each in groups[name]),
    ]
    declared = {name_of(each) for each in entries if isinstance(each, str)}
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    found = {
        name_of(name) for module in imported for name in INSTALLED.get(module.partition(".")[0], ())
    }
    return found - declared - {"posten-signering"}


def test_what_tests_import_is_declared():
    """And not left to what another package happens to need."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert undeclared(path.read_text(encoding="utf-8")) == set(), path


def test_an_import_that_is_not_declared_is_found():
    assert undeclared("import pytest, attrs\nfrom attr.validators import x") == {"attrs"}


def test_the_set_up_installs_every_extra():
    """make and nox test all of the package: an extra that is added to pyproject.toml is added to tools/venv.sh."""
    [installed] = re.findall(
        r"--editable '\.\[([\w,-]+)\]'", (ROOT / "tools/venv.sh").read_text(encoding="utf-8")
    )
    assert set(installed.split(",")) == set(PROJECT["project"]["optional-dependencies"])


def test_the_installed_version_is_the_projects():
    assert version("posten-signering") == PROJECT["project"]["version"]
    assert metadata("posten-signering")["License-Expression"] == "Apache-2.0"


def test_the_changelog_tells_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(PROJECT['project']['version'])}\]", text, re.MULTILINE)


@pytest.mark.parametrize("package", ["posten_signering", "posten_signering_xml"])
def test_both_packages_are_typed(package):
    assert files(package).joinpath("py.typed").is_file()


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


# The first set-up, where it can't work: what the user is told.


def set_up(
    tmp_path: Path, programs: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run tools/venv.sh in a copy, with these scripts and the shell's own programs as all that is on PATH."""
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "tools/venv.sh"):
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
    ("programs", "environment", "told"),
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
    ids=["none", "a-shim-and-an-old-one", "without-pip-and-ensurepip", "a-wrong-choice"],
)
def test_the_set_up_says_what_is_missing(tmp_path, programs, environment, told):
    result = set_up(tmp_path, programs, **environment)
    assert result.returncode == 1
    assert told in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_set_up_passes_over_a_shim_that_refuses_to_run(tmp_path):
    used = 'case "$*" in *--version*) echo "Python 3.12.9";; *venv*--clear*) echo made >&2; exit 3;; esac'
    result = set_up(tmp_path, {"python3.13": "exit 127", "python3.12": used})
    assert "Making .venv with Python 3.12.9" in result.stdout
    assert (result.returncode, result.stderr) == (3, "made\n")


def test_a_desktops_browser_variable_does_not_open_one(make):
    """`BROWSER` is set on many desktops; only `make demo BROWSER=1` asks for it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [make, "--dry-run", "demo"]
    desktop = subprocess.run(
        command, cwd=ROOT, env=clean | {"BROWSER": "firefox"}, check=True, capture_output=True
    )
    asked = subprocess.run(
        [*command, "BROWSER=1"], cwd=ROOT, env=clean, check=True, capture_output=True
    )
    assert (b"--browser" in desktop.stdout, b"--browser" in asked.stdout) == (False, True)
