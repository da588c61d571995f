"""tools/docs_site.py prepares the pages for the site. `make docs` runs these tests, because they need MkDocs."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def docs_site():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("code", "identifier"),
    [
        ("DirectClient", "posten_signering.DirectClient"),
        ("DirectClient.create", "posten_signering.DirectClient.create"),
        ("DirectClient.create(job)", "posten_signering.DirectClient.create"),
        ("DirectJob.title", "posten_signering.DirectJob"),  # its class describes a field
        ("TlsError", "posten_signering.errors.TlsError"),
        ("StatusChangeWorker(client, handler)", "posten_signering.worker.StatusChangeWorker"),
        ("TlsError.request_may_have_left", "posten_signering.errors.TlsError"),  # of its base class
        ("ExitUrls.singleExitUrl(url)", None),  # a name of the Java client
        ("ValueError", None),
        ("create", None),
        ("DirectClient and more", None),
    ],
)
def test_a_public_name_in_code_has_its_identifier(docs_site, code, identifier):
    assert docs_site.identifier(code) == identifier


def test_code_in_links_headings_and_blocks_stays_as_it_is(docs_site):
    code = "<code>DirectClient</code>"
    untouched = f'<a href="x">{code}</a><h2>{code}</h2><pre>{code}</pre>'
    linked = f'<autoref identifier="posten_signering.DirectClient" optional>{code}</autoref>'
    assert docs_site.with_links_to_names(f"{untouched}<p>{code}</p>") == (
        f"{untouched}<p>{linked}</p>"
    )


@pytest.mark.parametrize(
    ("markdown", "published"),
    [
        ("[a](../reference/errors.md#tls)", "[a](../reference/errors.md#tls)"),
        ("[a](../../CHANGELOG.md)", "[a](../project/changelog.md)"),
        ("[a](../../examples/shop.py)", "a"),
        ("[a](https://example.com/x)", "[a](https://example.com/x)"),
        ("![a](layers.svg)", "![a](layers.svg)"),
        ("```python examples/shop.py Shop.f\n", '```python title="examples/shop.py"\n'),
        ("```python\n", "```python\n"),
    ],
)
def test_links_and_quotations_are_those_of_the_site(docs_site, markdown, published):
    page = Path("docs/guides/worker.md")
    assert docs_site.published(markdown, page, "guides/worker.md") == published
