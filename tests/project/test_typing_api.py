"""`tests/typing/api.py` uses every public name, so that mypy and pyright check all of them."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

from posten_signering import ClientConfiguration, DirectClient, StatusChanges
from posten_signering.sandbox import Sandbox

API = (Path(__file__).parents[1] / "typing" / "api.py").read_text(encoding="utf-8")
MODULES = ["", ".errors", ".worker", ".sandbox", ".opentelemetry"]


def used(source: str) -> set[str]:
    """Every name, attribute and keyword that a source uses. An import alone is not a use."""
    tree = ast.parse(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names | {node.arg or "" for node in ast.walk(tree) if isinstance(node, ast.keyword)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "root")
def test_every_public_name_is_used(module):
    public = importlib.import_module(f"posten_signering{module}").__all__
    assert set(public) - used(API) == set()


@pytest.mark.parametrize("kind", [DirectClient, StatusChanges, Sandbox])
def test_every_public_method_is_used(kind):
    public = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    assert public - used(API) == set()


def test_every_setting_of_the_configuration_is_used():
    settings = {field.name for field in dataclasses.fields(ClientConfiguration)}
    assert settings - used(API) == set()


def test_an_import_alone_does_not_count_as_a_use():
    assert "Sender" not in used("from posten_signering import Sender")
    assert "Sender" in used("x: Sender")
