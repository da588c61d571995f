"""`tools/public_api.py` notices every change of the public interface."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "posten_signering"


def check(source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        ROOT / "tools" / "public_api.py",
        "--check",
        "--source",
        source,
        *options,
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def source(tmp_path):
    """A copy of the package that a test may change."""
    shutil.copytree(
        SOURCE, tmp_path / "posten_signering", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def test_the_snapshot_is_that_of_the_source():
    result = check(ROOT / "src")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_attribute_has_a_type_or_a_value():
    lines = (ROOT / "api.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith(": attribute")] == []


@pytest.mark.parametrize(
    ("file", "before", "after", "line"),
    [
        pytest.param(
            "_client/client.py",
            "def validate(self, job: DirectJob)",
            "def validate(self, job: DirectJob, *, strict: bool = False)",
            "+posten_signering.DirectClient.validate: def(job: DirectJob, *, strict: bool = False) -> None",
            id="a changed signature",
        ),
        pytest.param(
            "_client/lifecycle.py",
            "async def aclose(",
            "async def close(",
            "-posten_signering.DirectClient.aclose: async def() -> None",
            id="a removed method of a private base",
        ),
        pytest.param(
            "_configuration/configuration.py",
            "max_connections: int = 8",
            "max_connections: int = 9",
            "+posten_signering.ClientConfiguration.max_connections: attribute int = 9",
            id="a changed default",
        ),
        pytest.param(
            "errors.py",
            '    "Violation",\n',
            "",
            "-posten_signering.errors.Violation.path: attribute str",
            id="a removed name",
        ),
        pytest.param(
            "_values/job.py",
            '    FOUR = "4"\n',
            '    FOUR = "4"\n    FIVE = "5"\n',
            "+posten_signering.AuthenticationLevel.FIVE: attribute = '5'",
            id="a new name",
        ),
    ],
)
def test_a_change_is_reported(source, file, before, after, line):
    changed = source / "posten_signering" / file
    text = changed.read_text(encoding="utf-8")
    assert text.count(before) == 1
    changed.write_text(text.replace(before, after), encoding="utf-8")
    result = check(source)
    assert result.returncode == 1
    assert line in result.stdout.splitlines()
    assert "run `make api`" in result.stderr
