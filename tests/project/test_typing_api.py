"""`tests/typing/api.py`, which mypy and pyright check, uses every public name."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

from posten_signering import ClientConfiguration, DirectClient, StatusChanges
from posten_signering.sandbox import Sandbox

API = (Path(__file__).parents[1] / "typing" / "api.py").read_text(encoding="utf-8")
MODULES = ["", ".errors", ".worker", ".sandbox"]


def used(source: str) -> set[str]:
    """Every name and attribute that a source uses; to import a name is not to use it."""
    tree = ast.parse(source)
    names = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    names |= {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    return names | {each.arg or "" for each in ast.walk(tree) if isinstance(each, ast.keyword)}


@pytest.mark.parametrize("module", MODULES, ids=lambda each: each or "root")
def test_every_public_name_is_used(module):
    public = importlib.import_module(f"posten_signering{module}").__all__
    assert set(public) - used(API) == set()


@pytest.mark.parametrize("kind", [DirectClient, StatusChanges, Sandbox])
def test_every_public_method_is_used(kind):
    public = {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    assert public - used(API) == set()


def test_every_setting_of_a_client_is_used():
    assert {each.name for each in dataclasses.fields(ClientConfiguration)} - used(API) == set()


def test_a_name_that_is_only_imported_is_missed():
    assert "Sender" not in used("from posten_signering import Sender")
    assert "Sender" in used("x: Sender")
