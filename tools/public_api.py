"""Writes the public interface of posten_signering to api.txt, or compares it with that file.

    python tools/public_api.py [--check] [--source FOLDER] [--snapshot FILE]

The file has one line for each public name and each public member, with types and default values.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "posten_signering"
MODULES = ("", "errors", "opentelemetry", "sandbox", "sandbox.pytest", "worker")
# The special methods that callers use, for example through `async with`.
SPECIAL = {
    *("__aenter__", "__enter__"),
    *("__aiter__", "__anext__", "__iter__", "__contains__", "__len__"),
    *("__call__", "__init__", "__str__"),
}
KIND = griffe.ParameterKind
STARS = {KIND.var_positional: "*", KIND.var_keyword: "**"}
ADVICE = (
    "The public interface differs from {snapshot}. A change of the interface is a decision. If you made it: "
    "run `make api`, commit the file, and mention the change in CHANGELOG.md."
)


class Interface:
    """Reads the public interface from the source, without importing it.

    Args:
        source: The folder that contains the package.
    """

    def __init__(self, source: Path) -> None:
        self._package = griffe.load(PACKAGE, search_paths=[source], allow_inspection=False)
        self._modules = [self._package[name] if name else self._package for name in MODULES]
        # The public names by the path of their definition.
        self._public = {
            _resolved(module.members[str(export)]).path: f"{module.path}.{export}"
            for module in self._modules
            for export in module.exports or ()
        }
        # Names that are not public, but that signatures of public names refer to.
        self._reached = list[str]()

    def lines(self) -> list[str]:
        """The lines of the snapshot, sorted."""
        lines = {
            line for path, name in self._public.items() for line in self._lines(self[path], name)
        }
        for path in self._reached:  # grows in this loop
            name = path.rpartition(".")[2]
            lines.update(self._lines(self[path], f"(not exported) {name}"))
        return sorted(lines)

    def __getitem__(self, path: str) -> griffe.Object:
        return _resolved(self._package.modules_collection[path])

    def _lines(self, target: griffe.Object, name: str) -> Iterator[str]:
        """The lines of a name, and of its public members."""
        match target:
            case griffe.Class():
                yield f"{name}: {self._class(target)}"
                members = dict(target.members)
                if not any(str(base).endswith("Enum") for base in target.bases):
                    members = {**target.inherited_members, **members}
                for member_name, member in members.items():
                    if self._is_public(target, member_name, member):
                        yield from self._lines(_resolved(member), f"{name}.{member_name}")
            case griffe.Function():
                yield f"{name}: {self._function(target)}"
            case griffe.Attribute():
                yield f"{name}: {self._attribute(target)}"
            case _:  # a module has no lines
                pass

    def _is_public(
        self, owner: griffe.Class, name: str, member: griffe.Object | griffe.Alias
    ) -> bool:
        if name.startswith("_") and name not in SPECIAL:
            return False
        if name != "__init__":
            return True
        if "kw_only=True" in _decorators(owner):
            return False  # the lines of the fields say the same
        # A constructor that takes an object without a public class is for the package only.
        constructor = _resolved(member)
        return isinstance(constructor, griffe.Function) and not any(
            self._private_names(parameter.annotation)
            for parameter in constructor.parameters
            if parameter.kind not in STARS
        )

    def _class(self, target: griffe.Class) -> str:
        bases = [str(base) for base in target.bases if not self._private_names(base)]
        return f"{_decorators(target)}class({', '.join(bases)})"

    def _function(self, function: griffe.Function) -> str:
        keyword = "async def" if "async" in function.labels else "def"
        parts = list[str]()
        before: griffe.ParameterKind | None = None
        for parameter in function.parameters:
            kind = parameter.kind
            if before is KIND.positional_only and kind is not before:
                parts.append("/")
            if kind is KIND.keyword_only and before not in {kind, KIND.var_positional}:
                parts.append("*")
            before = kind
            if parameter.name not in {"self", "cls"}:
                parts.append(self._parameter(parameter))
        if before is KIND.positional_only:
            parts.append("/")
        result = "" if function.returns is None else f" -> {self._type(function.returns)}"
        return f"{_decorators(function)}{keyword}({', '.join(parts)}){result}"

    def _parameter(self, parameter: griffe.Parameter) -> str:
        stars = "" if parameter.kind is None else STARS.get(parameter.kind, "")
        text = f"{stars}{parameter.name}"
        if parameter.annotation is not None:
            text += f": {self._type(parameter.annotation)}"
        return text if stars or parameter.default is None else f"{text} = {parameter.default}"

    def _attribute(self, attribute: griffe.Attribute) -> str:
        if isinstance(attribute.parent, griffe.Module):  # the name of a type
            return f"type = {self._type(attribute.value)}"
        kind = "property" if "property" in attribute.labels else "attribute"
        annotation = "" if attribute.annotation is None else f" {self._type(attribute.annotation)}"
        # What a constructor assigns is no default value.
        is_default = attribute.value is not None and "class-attribute" in attribute.labels
        return f"{kind}{annotation}" + (f" = {attribute.value}" if is_default else "")

    def _type(self, expression: griffe.Expr | str | None) -> str:
        """The text of a type, whose names without a public name get lines of their own."""
        for path in self._private_names(expression):
            if path not in self._reached:
                self._reached.append(path)
        return str(expression)

    def _private_names(self, expression: griffe.Expr | str | None) -> list[str]:
        """The names of this package in an expression that are not public, by the path of their definition."""
        if not isinstance(expression, griffe.Expr):
            return []
        names = [
            part for part in expression.iterate(flat=True) if isinstance(part, griffe.ExprName)
        ]
        paths = [name.canonical_path for name in names]
        inside = [self[path].path for path in paths if path.startswith(f"{PACKAGE}.")]
        return [path for path in inside if path not in self._public]


def _resolved(member: griffe.Object | griffe.Alias) -> griffe.Object:
    return member.final_target if isinstance(member, griffe.Alias) else member


def _decorators(target: griffe.Class | griffe.Function) -> str:
    return "".join(f"@{decorator.value} " for decorator in target.decorators)


def main(arguments: list[str] | None = None) -> int:
    """Writes or compares the snapshot; returns 1 if it differs."""
    parser = argparse.ArgumentParser(description="Write or compare the public interface.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--source", type=Path, default=ROOT / "src")
    parser.add_argument("--snapshot", type=Path, default=ROOT / "api.txt")
    options = parser.parse_args(arguments)
    snapshot: Path = options.snapshot
    now = [f"{line}\n" for line in Interface(options.source).lines()]
    if not options.check:
        snapshot.write_text("".join(now), encoding="utf-8")
        return 0
    before = snapshot.read_text(encoding="utf-8").splitlines(keepends=True)
    difference = list(difflib.unified_diff(before, now, snapshot.name, "the source", n=0))
    if not difference:
        return 0
    sys.stdout.writelines(difference)
    print(f"\n{ADVICE.format(snapshot=snapshot.name)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
