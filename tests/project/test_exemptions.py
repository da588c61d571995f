"""`tools/exemptions.py` counts every exemption, and fails on one without a reason."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "exemptions.py"

# Written in pieces: the tool reads this file too.
IGNORE = "# type: " + "ignore"
PYRIGHT = "# pyright: " + "ignore"
NOQA = "# no" + "qa"
PRAGMA = "# pragma: " + "no"
RUFF = "# ruff: "
MARK = "@m." + "skip"
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
        ("noqa", f"x = 1  {NOQA}: S324 - the profile asks for SHA-1 here"),
        ("noqa", f"x = 1  {NOQA}: S324, PLR2004 - the profile asks for it"),
        ("no cover", f"x = 1  {PRAGMA} cover - only on other systems"),
        ("no branch", f"x = 1  {PRAGMA} branch - the loop always ends by return"),
        ("no cover", f"x = 1  {PRAGMA}cover - only on other systems"),
        ("no cover", f"x = 1  # PRAGMA {PRAGMA[-2:].upper()}COVER - only on other systems"),
        ("no cover", f"x = 1  # pragma{PRAGMA[-2:]} cover - only on other systems"),
        ("no cover", f"x = 1  {PRAGMA} coverage - only on other systems"),
        ("no branch", f"x = 1  {PRAGMA}  branch - the loop always ends by return"),
        ("no branch", f"x = 1  {PRAGMA}branch - the loop always ends by return"),
        ("ruff", f"{RUFF}disable[F401] - imported for others"),
        ("ruff", f"import os  {RUFF}ignore[F401, unused-import] imported for others"),
        ("ruff", f"{RUFF}file-ignore[F401]: imported for others"),
        ("ruff", f"{RUFF}isort: skip_file - the order matters here"),
        ("ruff", "import os  # isort" + ": skip - the order matters here"),
        ("skip", f'{SKIP}(reason="needs a display")\ndef test_x(): ...'),
        ("skip", f'{SKIP}if(True, reason="needs a display")\ndef test_x(): ...'),
        ("skip", "pytest." + 'skip("needs a display")'),
        ("xfail", f'{XFAIL}(reason="the library drops it")\ndef test_x(): ...'),
        ("skip", 'from pytest import skip\nskip("needs a display")'),
        ("skip", 'from pytest import skip as s\ns(reason="needs a display")'),
        ("skip", 'from pytest import *\nskip("needs a display")'),
        ("skip", 'from _pytest.outcomes import skip\nskip("needs a display")'),
        ("skip", 'import pytest as p\np.skip("needs a display")'),
        (
            "skip",
            f'from pytest import mark as m\n{MARK}(reason="needs a display")\ndef test_x(): ...',
        ),
        ("skip", 'class T:\n  def test_x(self): self.skipTest("needs a display")'),
        ("skip", 'import unittest\nraise unittest.SkipTest("needs a display")'),
        ("skip", 'from unittest import SkipTest as S\nraise S("needs a display")'),
        ("skip", 'import unittest.case as c\nraise c.SkipTest("needs a display")'),
        ("skip", 'import unittest as u\n@u.skipIf(True, "needs a display")\ndef test_x(): ...'),
        (
            "skip",
            'from unittest import skipUnless\n@skipUnless(0, "needs a display")\ndef f(): ...',
        ),
        (
            "xfail",
            f'from pytest import mark as m\n{MARK[:3]}xfail(reason="is not there")\ndef f(): ...',
        ),
    ],
)
def test_an_exemption_with_a_reason_is_counted(tmp_path, kind, line):
    result = run(tmp_path, line + "\n")
    assert result.returncode == 0, result.stderr
    counts = dict(row.rsplit(maxsplit=1) for row in result.stdout.splitlines())
    assert counts[kind] == "1"
    assert counts["in all"] == "1"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"x = 1  {IGNORE}[assignment]", "no reason on its line"),
        (f"x = 1  {IGNORE}  # the stub lacks this overload", "silences every rule"),
        (f"x = 1  {PYRIGHT}[reportPrivateUsage]", "no reason on its line"),
        (f"x = 1  {NOQA}: S324", "no reason on its line"),
        (f"x = 1  {NOQA}: S324 - sorry", "no reason on its line"),
        (f"x = 1  {NOQA} - the profile asks for it", "silences every rule"),
        (f"{'# ruff: '}{NOQA[2:]}", "silences every rule"),
        (f"x = 1  {PRAGMA} cover", "no reason on its line"),
        (f"x = 1  {PRAGMA} branch", "no reason on its line"),
        ("# mypy: " + "ignore-errors", "no reason on its line"),
        (f"{SKIP}\ndef test_x(): ...", "no reason in its call"),
        (f"{SKIP}if(True)\ndef test_x(): ...", "no reason in its call"),
        ("pytest." + "skip()", "no reason in its call"),
        (f"{XFAIL}(strict=True)\ndef test_x(): ...", "no reason in its call"),
        (f"x = 1  {PRAGMA}cover", "no reason on its line"),
        (f"x = 1  # pragma{PRAGMA[-2:]} cover", "no reason on its line"),
        (f"x = 1  {PRAGMA}  branch", "no reason on its line"),
        (f"{RUFF}disable[F401]", "no reason on its line"),
        (f"import os  {RUFF}ignore[F401]", "no reason on its line"),
        (f"{RUFF}file-ignore - imported for others", "silences every rule"),
        (f"{RUFF}isort: skip_file", "no reason on its line"),
        ("from pytest import skip; skip()", "no reason in its call"),
        ("import pytest as p; p.skip()", "no reason in its call"),
        ("import pytest as p; s = p.skip", "no reason in its call"),
        ("import pytest; raise pytest.skip.Exception('needs a display')", "no reason in its call"),
        (f"from pytest import mark as m; x = {MARK[1:]}", "no reason in its call"),
        ("def test_x(self): self.skipTest('')", "no reason in its call"),
        ("import unittest; raise unittest.SkipTest", "no reason in its call"),
        ("import unittest as u; u.skipIf('needs a display', '')", "no reason in its call"),
        ("import unittest as u; x = u.expectedFailure", "no reason in its call"),
        ("import typing; x = typing.no_type_check", "silences every rule"),
        ("from typing import no_type_check as n; x = n", "silences every rule"),
        ("from typing_extensions import no_type_check as n; x = n(1)", "silences every rule"),
    ],
)
def test_an_exemption_without_a_reason_fails_with_its_place(tmp_path, line, complaint):
    result = run(tmp_path, f"x = 0\n{line}\n")
    assert result.returncode == 1
    [told] = result.stderr.splitlines()
    assert told.startswith(f"{tmp_path / 'sample.py'}:2: ")
    assert complaint in told


def test_text_that_speaks_of_an_exemption_is_none(tmp_path):
    result = run(tmp_path, f'"""Never write {NOQA}."""\nx = "{IGNORE}"\n')
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["in", "all", "0"]


@pytest.mark.parametrize(
    "source",
    [
        "from shop import skip, no_type_check\nskip(1)\nno_type_check(2)",
        "def skip(): ...\nskip()\nclass A:\n  def f(self): self.skip(); self.xfail()",
        "import typing, unittest\ntyping.cast(int, 1)\nunittest.TestCase()",
        "import pytest\npytest.raises(ValueError)\npytest.mark.parametrize('skip', [])",
        f"{RUFF}enable[F401]",
        "# pragmatic no-cover versions; the pragma says no",
        "# ruff is what ignores this",
    ],
)
def test_what_only_looks_like_one_is_none(tmp_path, source):
    result = run(tmp_path, source + "\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["in", "all", "0"]


def test_two_exemptions_on_a_line_may_share_the_reason(tmp_path):
    result = run(tmp_path, f"x = 1  {IGNORE}[misc]  {NOQA}: S324 - the profile asks for it\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["in", "all", "2"]


def test_a_place_that_does_not_exist_is_an_error(tmp_path):
    result = subprocess.run(
        [sys.executable, TOOL, tmp_path / "gone"], check=False, capture_output=True, text=True
    )
    assert result.returncode == 2
