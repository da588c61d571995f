"""Counts the exemptions from checks, and fails on an exemption without a reason.

    python tools/exemptions.py [FILE_OR_FOLDER ...]

These are exemptions: a comment that silences a type checker, the linter or the coverage measurement; a decorator that
turns off type checking; a test that is skipped or expected to fail. An exemption needs a reason of at least two words
on the same line, or in the call of a skip. One that silences every rule instead of a named one always fails.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("src", "tests", "tools", "examples", "noxfile.py")

_CODE = r"[A-Za-z]+[0-9]+"
COMMENTS = {
    "type: ignore": re.compile(r"#\s*type:\s*ignore\b(?P<rules>\s*\[[^\]]+\])?"),
    "pyright: ignore": re.compile(r"#\s*pyright:\s*ignore\b(?P<rules>\s*\[[^\]]+\])?"),
    "noqa": re.compile(
        rf"#\s*(?:(?:ruff|flake8):\s*)?noqa\b(?P<rules>\s*:\s*{_CODE}(?:(?:\s*,\s*|\s+){_CODE}\b)*)?",
        re.IGNORECASE,
    ),
    # The same syntax as coverage's: after `pragma` comes a colon, a space or nothing, and any text may follow.
    "no cover": re.compile(r"#\s*pragma[:\s]?\s*(?P<rules>no\s*cover)", re.IGNORECASE),
    "no branch": re.compile(r"#\s*pragma[:\s]?\s*(?P<rules>no\s*branch)", re.IGNORECASE),
    "ruff": re.compile(
        r"#\s*(?:ruff:\s*(?:disable|ignore|file-ignore)\b(?P<rules>\s*\[[^\]]+\])?|"
        r"(?:ruff:\s*)?(?P<order>isort:\s*(?:skip_file|skip|off)))"
    ),
    "file setting": re.compile(
        r"#\s*(?:mypy:|pyright:(?!\s*ignore\b))(?P<rules>\s*[\w-]+(?:\s*=\s*\w+)?)"
    ),
}
SKIPS = {"skip": "skip", "skipif": "skip", "importorskip": "skip", "xfail": "xfail"}
# The functions of `unittest`, each with the position of the reason among its arguments.
UNITTEST = {"skip": 0, "skipIf": 1, "skipUnless": 1, "skipTest": 0, "SkipTest": 0}
SILENCERS = {"typing.no_type_check", "typing.no_type_check_decorator"}
_LIBRARIES = ("pytest", "_pytest", "unittest", "typing", "typing_extensions")
_SILENCES_ALL = "silences every rule: silence one named rule instead"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exemption:
    """One exemption: its kind, its place, and its fault (None if it has none)."""

    kind: str
    file: Path
    line: int
    fault: str | None


def _is_reason(text: str) -> bool:
    return len(re.findall(r"[^\W\d_]{2,}", text)) >= 2


def in_comments(file: Path, source: str) -> Iterator[Exemption]:
    """The exemptions in comments. Strings and docstrings that mention an exemption do not count."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        matches = [
            (kind, match)
            for kind, pattern in COMMENTS.items()
            for match in pattern.finditer(token.string)
        ]
        remainder = token.string
        for _, match in matches:
            remainder = remainder.replace(match.group(), " ")
        for kind, match in matches:
            fault = None if _is_reason(remainder) else "no reason on its line"
            if not any(match.groupdict().values()):
                fault = _SILENCES_ALL
            yield Exemption(kind=kind, file=file, line=token.start[0], fault=fault)


def _imported(tree: ast.AST) -> dict[str, str]:
    """The full name behind each name that a file imports from the libraries with exemptions."""
    names = {"pytest": "pytest", "unittest": "unittest", "mark": "pytest.mark"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library = alias.name.partition(".")[0]
                if library in _LIBRARIES:
                    names[alias.asname or library] = alias.name if alias.asname else library
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.partition(".")[0] in _LIBRARIES:
                imported = {alias.name: alias.asname or alias.name for alias in node.names}
                if "*" in imported:
                    imported = {name: name for name in (*SKIPS, *UNITTEST, "no_type_check")}
                names |= {local: f"{module}.{name}" for name, local in imported.items()}
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """The full name that a node refers to, such as `pytest.mark.skip`, however it was imported."""
    match node:
        case ast.Name(id=name):
            return names.get(name)
        case ast.Attribute(value=value, attr=attribute):
            owner = _dotted(value, names)
            return None if owner is None else f"{owner}.{attribute}"
        case _:
            return None


def _silencer(node: ast.AST, names: dict[str, str]) -> tuple[str, str] | None:
    """The kind of exemption that `node` refers to, and its short name; None if it is no exemption."""
    dotted = _dotted(node, names) or ""
    library, _, name = dotted.replace("typing_extensions", "typing").partition(".")
    name = name.rpartition(".")[2]
    if isinstance(node, ast.Attribute) and node.attr == "skipTest":
        return "skip", "skipTest"
    if library in {"pytest", "_pytest"} and name in SKIPS:
        return SKIPS[name], name
    if library == "unittest" and name in UNITTEST:
        return "skip", name
    if library == "unittest" and name == "expectedFailure":
        return "xfail", name
    if f"{library}.{name}" in SILENCERS:
        return "no type check", name
    return None


def _reason_of(name: str, call: ast.Call) -> str:
    """The text of the reason, including literal parts of an f-string; a variable counts as a text."""
    reasons = [keyword.value for keyword in call.keywords if keyword.arg in {"reason", "msg"}]
    if not reasons and name in {*UNITTEST, "xfail"}:
        position = UNITTEST.get(name, 0)
        reasons = call.args[position : position + 1]
    text = ""
    for value in reasons:
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                text += f" {part.value}"
            elif isinstance(part, ast.Name):
                text += f" given as {part.id}"
    return text


def in_calls(file: Path, source: str) -> Iterator[Exemption]:
    """The tests that are skipped or expected to fail, and the functions without type checking."""
    tree = ast.parse(source, filename=str(file))
    names = _imported(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        silencer = _silencer(node, names)
        if silencer is None:
            continue
        kind, name = silencer
        call = calls.get(id(node))
        reason = "" if call is None else _reason_of(name, call)
        fault = None if _is_reason(reason) else "no reason in its call"
        if kind == "no type check":
            fault = _SILENCES_ALL
        yield Exemption(kind=kind, file=file, line=getattr(node, "lineno", 0), fault=fault)


def find(places: list[Path]) -> Iterator[Exemption]:
    """Every exemption in these files and folders, in the order of the files."""
    for place in places:
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            source = file.read_text(encoding="utf-8")
            yield from in_comments(file, source)
            yield from in_calls(file, source)


def main(arguments: list[str]) -> int:
    """Print the counts; return 1 if an exemption has a fault, 2 if a place does not exist."""
    places = [Path(argument) for argument in arguments]
    places = places or [ROOT / place for place in PLACES if (ROOT / place).exists()]
    if absent := [place for place in places if not place.exists()]:
        print("no such file or folder:", *absent, file=sys.stderr)
        return 2
    exemptions = list(find(places))
    counts = Counter(exemption.kind for exemption in exemptions)
    kinds = [*COMMENTS, *dict.fromkeys(SKIPS.values()), "no type check"]
    print(f"{'exemption':<16} count")
    for kind in kinds:
        print(f"{kind:<16} {counts[kind]:>5}")
    print(f"{'total':<16} {counts.total():>5}")
    faulty = [exemption for exemption in exemptions if exemption.fault]
    for exemption in faulty:
        file = (
            exemption.file.relative_to(ROOT)
            if exemption.file.is_relative_to(ROOT)
            else exemption.file
        )
        print(f"{file}:{exemption.line}: {exemption.kind}: {exemption.fault}", file=sys.stderr)
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
