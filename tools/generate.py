"""Generates the package posten_signering_xml from xsd/direct.xsd.

`make generate` runs this script; `make check` runs it with --check. The result depends only on direct.xsd and
the schema files that it includes, and on the versions of xsdata, xsdata-pydantic and ruff in this interpreter's
environment (pinned in constraints.txt). Other files, settings and the working directory have no effect.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lxml import etree

PACKAGE = "posten_signering_xml"
MAIN_SCHEMA = "direct.xsd"
SCHEMA_FOLDER = "schema"
REPOSITORY = Path(__file__).resolve().parent.parent

_XS = "{http://www.w3.org/2001/XMLSchema}"
_REFERENCES = (f"{_XS}include", f"{_XS}import", f"{_XS}redefine")
_SETTINGS_OF_THE_USER = ("RUFF_", "PYTHON", "XDG_CONFIG")
_NOT_PART_OF_THE_PACKAGE = "__pycache__"


class GenerationError(Exception):
    """The schema can't be read, or the code generation failed."""


def schema_files(folder: Path) -> dict[PurePosixPath, bytes]:
    """Reads direct.xsd and every schema file that it includes, directly or indirectly.

    Args:
        folder: The folder that contains direct.xsd.

    Returns:
        The content of each file, by its path relative to the folder.

    Raises:
        GenerationError: A file is missing, is not well-formed XML, or is not directly in the folder.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    files: dict[PurePosixPath, bytes] = {}
    to_read = [PurePosixPath(MAIN_SCHEMA)]
    while to_read:
        name = to_read.pop()
        if name in files:
            continue
        try:
            files[name] = (folder / name).read_bytes()
            root = etree.fromstring(files[name], parser)
        except OSError as error:
            raise GenerationError(f"can't read {folder / name}: {error.strerror}") from error
        except etree.XMLSyntaxError as error:
            raise GenerationError(f"{folder / name} is not well-formed XML: {error}") from error
        to_read.extend(_references(name, root))
    return dict(sorted(files.items()))


def _references(
    name: PurePosixPath,
    root: etree._Element,  # pyright: ignore[reportPrivateUsage] - lxml has no public name for it
) -> Iterator[PurePosixPath]:
    for element in root.iterchildren(*_REFERENCES):
        location = element.get("schemaLocation")
        if location is None:
            continue
        parts = urlsplit(location)
        target = PurePosixPath(os.path.normpath(parts.path).replace(os.sep, "/"))
        # The package has all schema files in one folder, so a reference may not name another folder or host.
        is_elsewhere = parts.scheme or parts.netloc or target.is_absolute() or len(target.parts) > 1
        if is_elsewhere:
            raise GenerationError(
                f"{name} refers to {location}: save that file beside {MAIN_SCHEMA}"
                " and change the reference to its file name"
            )
        yield target


def generate(xsd: Path, destination: Path) -> None:
    """Generates the package into an empty folder.

    Args:
        xsd: The folder that contains direct.xsd.
        destination: An existing folder. The package's folder is created in it.

    Raises:
        GenerationError: The schema can't be read, or xsdata or ruff failed.
    """
    files = schema_files(xsd)
    with tempfile.TemporaryDirectory(prefix="posten-signering-generate-") as temporary:
        sources = Path(temporary, "xsd")
        work_folder = Path(temporary, "out")
        work_folder.mkdir()
        _write(sources, files)
        _compile(sources / MAIN_SCHEMA)
        _run_xsdata(sources / MAIN_SCHEMA, work_folder)
        package = work_folder / PACKAGE
        _write(package / SCHEMA_FOLDER, files)
        (package / "py.typed").touch()
        target = destination / PACKAGE
        for path, content in contents(package).items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content)


def _write(folder: Path, files: dict[PurePosixPath, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _compile(schema: Path) -> None:
    """Refuses an invalid schema, because xsdata treats a type that does not exist as a string."""
    try:
        etree.XMLSchema(etree.parse(schema, etree.XMLParser(no_network=True)))
    except etree.XMLSchemaParseError as error:
        raise GenerationError(f"{schema.name} is not a valid schema: {error}") from error


def _run_xsdata(schema: Path, work_folder: Path) -> None:
    """Runs xsdata in `work_folder`, because it writes to the working directory and imports the result."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_SETTINGS_OF_THE_USER)
    }
    # xsdata runs the first ruff on PATH. Put the one of this interpreter's environment first, so that the result is
    # the same whether or not the environment is activated.
    tools = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
    environment["PATH"] = os.pathsep.join((tools, environment.get("PATH", os.defpath)))
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [
        *(sys.executable, "-m", "xsdata", "generate", str(schema)),
        *("--package", PACKAGE),
        *("--output", "pydantic"),
        *("--structure-style", "filenames"),
        *("--docstring-style", "Google"),
        *("--max-line-length", "100"),
    ]
    done = subprocess.run(
        command,
        cwd=work_folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0 or not (work_folder / PACKAGE / "__init__.py").is_file():
        raise GenerationError(f"xsdata failed with exit status {done.returncode}:\n{done.stdout}")


def contents(package: Path) -> dict[PurePosixPath, bytes]:
    """Reads all files of a package.

    Args:
        package: The folder of the package. It may be missing.

    Returns:
        The content of each file, by its path relative to the folder. Compiled Python files are left out.
    """
    return {
        PurePosixPath(path.relative_to(package).as_posix()): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and _NOT_PART_OF_THE_PACKAGE not in path.relative_to(package).parts
    }


def differences(committed: Path, fresh: Path) -> list[str]:
    """Compares two packages byte for byte.

    Args:
        committed: The folder of the package in the repository.
        fresh: The folder of the newly generated package.

    Returns:
        One line for each file that the committed package lacks, that is no longer generated, or that differs.
    """
    old, new = contents(committed), contents(fresh)
    return [
        *(f"missing: {path}" for path in new if path not in old),
        *(f"stale: {path}" for path in old if path not in new),
        *(f"differs: {path}" for path in new if path in old and old[path] != new[path]),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Generates the package and replaces the old one, or only compares the two.

    Args:
        arguments: The command line. If left out, that of the process.

    Returns:
        The exit status: 0, or 1 if --check found a difference or the generation failed.
    """
    parser = argparse.ArgumentParser(
        description=f"Generates the package {PACKAGE} from {MAIN_SCHEMA}."
    )
    parser.add_argument(
        "--xsd",
        type=Path,
        default=REPOSITORY / "xsd",
        metavar="DIR",
        help="the folder that contains direct.xsd (default: xsd/ of the repository)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=REPOSITORY / "generated",
        metavar="DIR",
        help=f"the folder in which to put {PACKAGE} (default: generated/ of the repository)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 if the package differs from a newly generated one",
    )
    options = parser.parse_args(arguments)
    package: Path = options.output / PACKAGE
    with tempfile.TemporaryDirectory(prefix="posten-signering-generated-") as temporary:
        fresh = Path(temporary)
        try:
            generate(options.xsd, fresh)
        except GenerationError as error:
            print(f"{PACKAGE}: {error}", file=sys.stderr)
            return 1
        if options.check:
            return _report(package, differences(package, fresh / PACKAGE))
        if package.exists():
            shutil.rmtree(package)
        shutil.copytree(fresh / PACKAGE, package)
    return 0


def _report(package: Path, lines: Sequence[str]) -> int:
    if not lines:
        return 0
    print(f"{package} differs from the package generated from {MAIN_SCHEMA}:", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
    print(
        "Run `make generate`. If no schema file has changed, check that the installed versions of xsdata,"
        " xsdata-pydantic and ruff are those in constraints.txt.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
