"""The checks of `tools/dist.py` accept what `make dist` builds (the nox session `wheel` runs it) and report faults."""

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "dist.py"
SPECIFICATION = importlib.util.spec_from_file_location("dist", TOOL)
dist = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(dist)

INFORMATION = f"posten_signering-{dist.version()}.dist-info"
WHEEL = f"posten_signering-{dist.version()}-py3-none-any.whl"
HINT = "Install it with: pip install 'posten-signering[{}]'"


def sdist_with(folder, names):
    path = folder / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"x-1/{name}"), io.BytesIO())
    return path


TRACKED = {
    f"{name}/file" if "." not in name and name not in {"LICENSE", "Makefile"} else name
    for name in dist.SOURCES - {"PKG-INFO"}
}


def test_an_sdist_with_the_tracked_files_is_accepted(tmp_path):
    dist.check_sdist(sdist_with(tmp_path, {*TRACKED, "PKG-INFO"}), TRACKED)
    dist.check_sdist(sdist_with(tmp_path, {*TRACKED, "PKG-INFO"}), None)


@pytest.mark.parametrize(
    ("names", "tracked", "message"),
    [
        (TRACKED, TRACKED, r"lacks \['PKG-INFO'\]"),
        (TRACKED - {"SECURITY.md"}, None, r"lacks \['PKG-INFO', 'SECURITY.md'\]"),
        ({*TRACKED, "PKG-INFO"}, {*TRACKED, "src/new.py"}, r"lacks \['src/new.py'\]"),
        ({*TRACKED, "PKG-INFO", "a.p12"}, TRACKED, r"must not contain \['a.p12'\]"),
        ({*TRACKED, "PKG-INFO", "site/a.html"}, None, r"must not contain \['site'\]"),
    ],
)
def test_an_sdist_with_too_little_or_too_much_is_refused(tmp_path, names, tracked, message):
    with pytest.raises(dist.FaultyFileError, match=message):
        dist.check_sdist(sdist_with(tmp_path, names), tracked)


def metadata(**changes):
    """The metadata that the wheel should have, with other values of some fields; None leaves a field out."""
    project = dist.PROJECT["project"]
    fields = {
        "Metadata-Version": "2.4",
        "Name": project["name"],
        "Version": dist.version(),
        "Summary": project["description"],
        "License-Expression": "Apache-2.0",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
        **changes,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    lines += [f"Classifier: {classifier}" for classifier in project["classifiers"]]
    lines += [f"Provides-Extra: {extra}" for extra in dist.EXTRAS]
    readme = (dist.ROOT / "README.md").read_text(encoding="utf-8")
    return "\n".join([*lines, "", readme])


def wheel_with(folder, *, without=(), also=(), **changes):
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for package in dist.PACKAGES:
            for file in (dist.ROOT / package).rglob("*"):
                name = file.relative_to((dist.ROOT / package).parent).as_posix()
                if file.is_file() and "__pycache__" not in name and name not in without:
                    archive.writestr(name, "")
        for name in ("WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"):
            archive.writestr(f"{INFORMATION}/{name}", "")
        archive.writestr(f"{INFORMATION}/METADATA", metadata(**changes))
        for name in also:
            archive.writestr(name, "")
    return path


def test_a_complete_wheel_is_accepted(tmp_path):
    wheel = wheel_with(tmp_path)
    dist.check_wheel(wheel)
    dist.check_metadata(wheel)


@pytest.mark.parametrize(
    "arguments",
    [
        {"without": ["posten_signering/py.typed"]},
        {"without": ["posten_signering_xml/schema/direct.xsd"]},
        {"also": ["tests/test_x.py"]},
        {"also": ["posten_signering/notes.txt"]},
    ],
)
def test_a_wheel_with_too_little_or_too_much_is_refused(tmp_path, arguments):
    with pytest.raises(dist.FaultyFileError, match="The wheel lacks"):
        dist.check_wheel(wheel_with(tmp_path, **arguments))


@pytest.mark.parametrize(
    "changes",
    [
        {"Version": "9.9"},
        {"Requires-Python": None},
        {"License-File": "COPYING"},
        {"Home-page": "https://example.com"},
        {"Project-URL": "Source, https://example.com"},
        {"Provides-Extra": "more"},
    ],
)
def test_wrong_metadata_is_refused(tmp_path, changes):
    with pytest.raises(dist.FaultyFileError, match=next(iter(changes))):
        dist.check_metadata(wheel_with(tmp_path, **changes))


def test_builds_must_be_equal(tmp_path):
    for folder, content in (("a", b"same"), ("b", b"same"), ("c", b"else")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.whl").write_bytes(content)
    dist.check_same(tmp_path / "a", tmp_path / "b", ["x.whl"])
    with pytest.raises(dist.FaultyFileError, match=r"different files: x\.whl"):
        dist.check_same(tmp_path / "a", tmp_path / "c", ["x.whl"])
    with pytest.raises(dist.FaultyFileError, match=r"different files: y\.whl"):
        dist.check_same(tmp_path / "a", tmp_path / "b", ["y.whl"])


NAMED = {name: [HINT.format(extra)] for name, extra in dist.EXTRA_OF.items()}


def test_errors_that_name_the_missing_extra_are_accepted():
    dist.check_extras(NAMED, missing=True)
    dist.check_extras({}, missing=False)


@pytest.mark.parametrize(
    ("errors", "missing"),
    [
        ({**NAMED, "RedisFleet.join": ["No module named 'redis'"]}, True),
        ({**NAMED, "posten_signering.worker": [HINT.format("redis")]}, True),
        ({**NAMED, "posten_signering.sandbox": [HINT.format("cli")]}, True),
        ({**NAMED, "posten_signering.sandbox": [HINT.format("sandbox"), "ImportError: x"]}, True),
        ({}, True),
        (NAMED, False),
    ],
)
def test_an_error_that_names_no_extra_or_the_wrong_one_is_refused(errors, missing):
    with pytest.raises(dist.FaultyFileError, match="must name the extra that is missing"):
        dist.check_extras(errors, missing=missing)


def listing(**component):
    root = {"name": "posten-signering", "version": dist.version()}
    [pin] = [
        line for line in dist.CONSTRAINTS.read_text().splitlines() if line.startswith("anyio=")
    ]
    anyio = {"name": "anyio", "version": pin.partition("==")[2], **component}
    return {"metadata": {"component": root}, "components": [anyio]}


def test_an_sbom_of_the_pinned_distributions_is_accepted():
    dist.check_sbom(listing())


@pytest.mark.parametrize(
    ("sbom", "message"),
    [
        (listing(name="pytest"), "pytest is a tool for development"),
        (listing(version="1.0"), "anyio 1.0 is not pinned"),
        (listing(purl="pkg:pypi/anyio?download_url=file:///x.whl"), "file of this machine"),
        ({**listing(), "serialNumber": "urn:uuid:1"}, "differs from run to run"),
        (
            {**listing(), "metadata": {"component": {"name": "posten-signering"}}},
            "describes posten-signering None",
        ),
    ],
)
def test_a_wrong_sbom_is_refused(sbom, message):
    with pytest.raises(dist.FaultyFileError, match=message):
        dist.check_sbom(sbom)
