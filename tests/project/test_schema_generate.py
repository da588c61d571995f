"""The generator writes the same bytes on every run, and reads only direct.xsd and the schemas that it includes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATOR = REPOSITORY / "tools" / "generate.py"
PACKAGE = "posten_signering_xml"


def run(*arguments: str | Path, cwd: Path = REPOSITORY, **environment: str):
    """Runs the generator as make does: by the interpreter's path, without an activated environment."""
    return subprocess.run(
        [sys.executable, GENERATOR, *arguments],
        cwd=cwd,
        env=os.environ | {"PATH": os.defpath} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("generated")
    done = run("--output", output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def xsd(tmp_path) -> Path:
    """A small schema of two files. Tests that use it do not depend on the real schema."""
    folder = tmp_path / "xsd"
    folder.mkdir()
    (folder / "direct.xsd").write_text(schema(INCLUDE, '<xs:element name="job" type="job"/>'))
    (folder / "common.xsd").write_text(schema(JOB))
    return folder


def schema(*content: str) -> str:
    return (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:example:jobs"'
        f' targetNamespace="urn:example:jobs">{"".join(content)}</xs:schema>'
    )


INCLUDE = '<xs:include schemaLocation="common.xsd"/>'
JOB = (
    '<xs:complexType name="job"><xs:sequence>'
    '<xs:element name="title" type="xs:string"/>'
    "</xs:sequence></xs:complexType>"
)


def test_the_package_contains_only_models_the_py_typed_marker_and_the_schema(generated):
    files = contents(generated)
    assert {path.split("/")[0] for path in files} == {PACKAGE}
    inside = {path.removeprefix(f"{PACKAGE}/"): content for path, content in files.items()}
    assert inside.pop("py.typed") == b""
    assert inside.pop("__init__.py")
    schema = {path: content for path, content in inside.items() if path.startswith("schema/")}
    modules = inside.keys() - schema.keys()
    assert all(path.endswith(".py") and "/" not in path for path in modules)
    assert {path.replace("schema/", "").replace("-", "_") for path in schema} == {
        path.replace(".py", ".xsd") for path in modules
    }
    for path, content in schema.items():
        assert (REPOSITORY / "xsd" / path.removeprefix("schema/")).read_bytes() == content


def test_the_generated_files_contain_no_local_path_and_no_version_of_xsdata(generated):
    for content in contents(generated).values():
        text = content.decode()
        assert str(REPOSITORY) not in text
        assert tempfile.gettempdir() + os.sep not in text
        assert "xsdata v" not in text


def test_the_result_does_not_depend_on_the_working_directory_settings_or_unrelated_schemas(
    generated, tmp_path
):
    """Settings are those of ruff, xsdata, Python and the user."""
    xsd = shutil.copytree(REPOSITORY / "xsd", tmp_path / "xsd")
    (xsd / "portal.xsd").write_text("<this is not even XML")
    (xsd / "catalog.xsd").write_text(schema(JOB))
    elsewhere = tmp_path / "a folder"
    elsewhere.mkdir()
    (elsewhere / "ruff.toml").write_text('line-length = 40\n[format]\nquote-style = "single"\n')
    (elsewhere / ".xsdata.xml").write_text(
        '<Config xmlns="http://pypi.org/project/xsdata"><Output maxLineLength="50"/></Config>'
    )
    (elsewhere / PACKAGE).mkdir()
    (elsewhere / PACKAGE / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    done = run(
        *("--xsd", "../xsd", "--output", "output"),
        cwd=elsewhere,
        TMPDIR=str(elsewhere),
        HOME=str(elsewhere),
        XDG_CONFIG_HOME=str(elsewhere),
        PYTHONPATH=str(elsewhere),
        RUFF_CONFIG=str(elsewhere / "ruff.toml"),
        RUFF_LINE_LENGTH="40",
    )
    assert done.returncode == 0, done.stderr
    assert contents(elsewhere / "output") == contents(generated)
    assert {path.name for path in elsewhere.iterdir()} == {
        *("ruff.toml", ".xsdata.xml", PACKAGE, "output")
    }


def test_a_change_of_the_schema_changes_the_package(xsd, tmp_path):
    """Proves that the tests for equal bytes would fail if the schema differed."""
    output = tmp_path / "output"
    assert run("--xsd", xsd, "--output", output).returncode == 0
    old = contents(output / PACKAGE)
    assert "class Job(" in old["common.py"].decode()

    (xsd / "common.xsd").write_text(schema(JOB.replace("title", "caption")))
    assert run("--xsd", xsd, "--output", output).returncode == 0
    new = contents(output / PACKAGE)
    assert new.keys() == old.keys()
    assert {path for path in old if new[path] != old[path]} == {
        "common.py",
        "schema/common.xsd",
    }


def test_check_lists_stale_missing_and_different_files_and_generating_replaces_them(
    generated, tmp_path
):
    output = tmp_path / "output"
    package = shutil.copytree(generated / PACKAGE, output / PACKAGE)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "direct.cpython-311.pyc").write_bytes(b"compiled")
    assert run("--check", "--output", output).returncode == 0

    (package / "portal.py").write_text("")
    (package / "schema" / "portal.xsd").write_text("")
    (package / "common.py").unlink()
    with (package / "direct.py").open("a") as file:
        file.write("\n")
    before = contents(output)
    done = run("--check", "--output", output)
    assert done.returncode == 1
    assert [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")] == [
        "missing: common.py",
        "stale: portal.py",
        "stale: schema/portal.xsd",
        "differs: direct.py",
    ]
    assert "make generate" in done.stderr
    assert contents(output) == before, "--check wrote something"

    assert run("--output", output).returncode == 0
    assert contents(output) == contents(generated)
    assert run("--check", "--output", output).returncode == 0


def test_check_fails_if_the_package_does_not_exist(tmp_path):
    done = run("--check", "--output", tmp_path)
    assert done.returncode == 1
    assert "missing: __init__.py" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("direct", "message"),
    [
        pytest.param("<schema", "direct.xsd is not well-formed XML", id="truncated"),
        pytest.param(
            schema('<xs:include schemaLocation="absent.xsd"/>'), "absent.xsd: No such", id="missing"
        ),
        pytest.param(
            schema('<xs:include schemaLocation="https://a.example/common.xsd"/>'),
            "save that file beside direct.xsd",
            id="on another host",
        ),
        pytest.param(
            schema('<xs:include schemaLocation="more/../../common.xsd"/>'),
            "save that file beside direct.xsd",
            id="outside the folder",
        ),
        pytest.param(
            schema('<xs:include schemaLocation="deep/base.xsd"/>'),
            "direct.xsd refers to deep/base.xsd: save that file beside direct.xsd",
            id="in a subfolder",
        ),
        pytest.param(
            schema(INCLUDE, '<xs:element name="job" type="a-type-that-is-not-there"/>'),
            "direct.xsd is not a valid schema",
            id="invalid",
        ),
        pytest.param(schema(), "xsdata failed", id="empty"),
    ],
)
def test_an_unusable_schema_leaves_the_package_unchanged(direct, message, xsd, generated, tmp_path):
    output = shutil.copytree(generated, tmp_path / "output")
    (xsd / "direct.xsd").write_text(direct)
    (xsd / "deep").mkdir()
    (xsd / "deep" / "base.xsd").write_text(schema(JOB))
    done = run("--xsd", xsd, "--output", output)
    assert done.returncode == 1
    assert message in done.stderr
    assert contents(output) == contents(generated)


def test_included_schemas_may_include_each_other(xsd, tmp_path):
    """The package contains exactly the files that direct.xsd includes, directly or indirectly."""
    (xsd / "base.xsd").write_text(
        schema('<xs:include schemaLocation="./common.xsd"/>', JOB.replace('"job"', '"base"'))
    )
    (xsd / "common.xsd").write_text(schema('<xs:include schemaLocation="base.xsd"/>', JOB))
    done = run("--xsd", xsd, "--output", tmp_path / "output")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "output" / PACKAGE / "schema"
    assert contents(folder) == contents(xsd)
    assert contents(folder).keys() == {"direct.xsd", "common.xsd", "base.xsd"}
