"""Counts what is exempted from a check, and fails on an exemption without a reason.

    python tools/exemptions.py [FILE_OR_FOLDER ...]

An exemption is a comment that silences a type checker, the linter or the coverage measurement, or a test that
is skipped or expected to fail. The reason stands on the same line (of a skip: in its call), in at least two
words. A comment that silences every rule instead of a named one fails too, whatever its reason.
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
    "no cover": re.compile(r"#\s*pragma[:\s]\s*(?P<rules>no\s+cover)\b", re.IGNORECASE),
    "no branch": re.compile(r"#\s*pragma[:\s]\s*(?P<rules>no\s+branch)\b", re.IGNORECASE),
    "file setting": re.compile(
        r"#\s*(?:mypy:|pyright:(?!\s*ignore\b))(?P<rules>\s*[\w-]+(?:\s*=\s*\w+)?)"
    ),
}
SKIPS = {"skip": "skip", "skipif": "skip", "importorskip": "skip", "xfail": "xfail"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exemption:
    """One exemption: what it silences, where, and what is wrong with it (None: nothing)."""

    kind: str
    file: Path
    line: int
    fault: str | None


def _is_reason(text: str) -> bool:
    return len(re.findall(r"[^\W\d_]{2,}", text)) >= 2


def in_comments(file: Path, source: str) -> Iterator[Exemption]:
    """The exemptions in comments; a string or docstring that speaks of one is not one."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        found = [
            (kind, match)
            for kind, pattern in COMMENTS.items()
            for match in pattern.finditer(token.string)
        ]
        remainder = token.string
        for _, match in found:
            remainder = remainder.replace(match.group(), " ")
        for kind, match in found:
            fault = None if _is_reason(remainder) else "no reason on its line"
            if match["rules"] is None:
                fault = "silences every rule: name the one that is meant"
            yield Exemption(kind=kind, file=file, line=token.start[0], fault=fault)


def _skip_name(node: ast.AST) -> str | None:
    """The name of pytest's skip or xfail that `node` is, `unittest`'s decorators among them."""
    match node:
        case ast.Attribute(value=ast.Name(id="pytest" | "unittest" | "mark"), attr=name) if (
            name in SKIPS
        ):
            return name
        case ast.Attribute(value=ast.Attribute(attr="mark"), attr=name) if name in SKIPS:
            return name
        case ast.Attribute(
            value=ast.Name(id="unittest"), attr="skipIf" | "skipUnless" | "expectedFailure"
        ):
            return "skip"
        case _:
            return None


def _reason_of(name: str, call: ast.Call) -> str:
    """The text given as reason, literal parts of an f-string included; a name stands for a text of its own."""
    given = [keyword.value for keyword in call.keywords if keyword.arg in {"reason", "msg"}]
    if not given and name in {"skip", "xfail"}:
        given = call.args[:1]
    text = ""
    for value in given:
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                text += f" {part.value}"
            elif isinstance(part, ast.Name):
                text += f" given as {part.id}"
    return text


def in_calls(file: Path, source: str) -> Iterator[Exemption]:
    """The tests that are skipped or expected to fail."""
    tree = ast.parse(source, filename=str(file))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        name = _skip_name(node)
        if name is None:
            continue
        call = called.get(id(node))
        reason = "" if call is None else _reason_of(name, call)
        fault = None if _is_reason(reason) else "no reason in its call"
        yield Exemption(
            kind=SKIPS.get(name, "skip"), file=file, line=getattr(node, "lineno", 0), fault=fault
        )


def find(places: list[Path]) -> Iterator[Exemption]:
    """Every exemption in these files and folders, file by file."""
    for place in places:
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            source = file.read_text(encoding="utf-8")
            yield from in_comments(file, source)
            yield from in_calls(file, source)


def main(arguments: list[str]) -> int:
    """Print the counts; 1 when an exemption has a fault, 2 when a place does not exist."""
    places = [Path(argument) for argument in arguments]
    places = places or [ROOT / place for place in PLACES if (ROOT / place).exists()]
    if absent := [place for place in places if not place.exists()]:
        print("no such place:", *absent, file=sys.stderr)
        return 2
    exemptions = list(find(places))
    counts = Counter(exemption.kind for exemption in exemptions)
    kinds = [*COMMENTS, *dict.fromkeys(SKIPS.values())]
    print(f"{'exemption':<16} count")
    for kind in kinds:
        print(f"{kind:<16} {counts[kind]:>5}")
    print(f"{'in all':<16} {counts.total():>5}")
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
