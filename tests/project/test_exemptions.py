"""`tools/exemptions.py` counts every exemption, and fails on an exemption without a reason."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "exemptions.py"

# These are written in pieces, because the tool reads this file too.
IGNORE = "# type: " + "ignore"
PYRIGHT = "# pyright: " + "ignore"
NOQA = "# no" + "qa"
PRAGMA = "# pragma: " + "no"
RUFF = "# ruff: "
SKIP = "@pytest.mark." + "skip"
XFAIL = "@pytest.mark." + "xfail"


def run(tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "sample.py"
    file.write_text(source, encoding="utf-8")
    return subprocess.run([sys.executable, TOOL, file], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("type: ignore", f"x = 1  {IGNORE}[assignment]  # the stub lacks this overload"),
        ("pyright: ignore", f"x = 1  {PYRIGHT}[reportPrivateUsage] - the stub lacks it"),
        ("noqa", f"x = 1  {NOQA}: S324, PLR2004 - the profile asks for it"),
        ("no cover", f"x = 1  {PRAGMA}cover - only on other systems"),
        ("no branch", f"x = 1  {PRAGMA}  branch - the loop always ends by return"),
        ("ruff", f"{RUFF}disable[F401] - imported for others"),
        ("ruff", "import os  # isort" + ": skip - the order matters here"),
        ("skip", f'{SKIP}if(True, reason="needs a display")\ndef test_x(): ...'),
        ("xfail", f'{XFAIL}(reason="the library drops it")\ndef test_x(): ...'),
        ("skip", 'from pytest import skip as s\ns(reason="needs a display")'),
        ("skip", 'class T:\n  def test_x(self): self.skipTest("needs a display")'),
        ("skip", 'import unittest as u\n@u.skipIf(True, "needs a display")\ndef test_x(): ...'),
    ],
)
def test_an_exemption_with_a_reason_is_counted(tmp_path, kind, line):
    result = run(tmp_path, line + "\n")
    assert result.returncode == 0, result.stderr
    counts = dict(row.rsplit(maxsplit=1) for row in result.stdout.splitlines())
    assert (counts[kind], counts["total"]) == ("1", "1")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"x = 1  {IGNORE}[assignment]", "no reason on its line"),
        (f"x = 1  {IGNORE}  # the stub lacks this overload", "silences every rule"),
        (f"x = 1  {PYRIGHT}[reportPrivateUsage]", "no reason on its line"),
        (f"x = 1  {NOQA}: S324 - sorry", "no reason on its line"),
        (f"x = 1  {NOQA} - the profile asks for it", "silences every rule"),
        (f"x = 1  {PRAGMA} cover", "no reason on its line"),
        ("# mypy: " + "ignore-errors", "no reason on its line"),
        (f"{RUFF}file-ignore - imported for others", "silences every rule"),
        (f"{SKIP}\ndef test_x(): ...", "no reason in its call"),
        (f"{XFAIL}(strict=True)\ndef test_x(): ...", "no reason in its call"),
        ("import pytest as p; s = p.skip", "no reason in its call"),
        ("import unittest as u; u.skipIf('needs a display', '')", "no reason in its call"),
        ("from typing import no_type_check as n; x = n", "silences every rule"),
    ],
)
def test_an_exemption_without_a_reason_fails_with_its_file_and_line(tmp_path, line, complaint):
    result = run(tmp_path, f"x = 0\n{line}\n")
    assert result.returncode == 1
    [error] = result.stderr.splitlines()
    assert error.startswith(f"{tmp_path / 'sample.py'}:2: ")
    assert complaint in error


@pytest.mark.parametrize(
    "source",
    [
        f'"""Never write {NOQA}."""\nx = "{IGNORE}"',
        "from shop import skip, no_type_check\nskip(1)\nno_type_check(2)",
        "import pytest\npytest.raises(ValueError)\npytest.mark.parametrize('skip', [])",
        "# pragmatic no-cover versions; the pragma says no",
    ],
)
def test_text_that_only_resembles_an_exemption_is_not_counted(tmp_path, source):
    result = run(tmp_path, source + "\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["total", "0"]
