"""Hooks of MkDocs for the documentation site: what mkdocs.yml has no setting for.

MkDocs calls the functions whose names begin with `on_`. They change what is published, never a file of docs/.
"""

import importlib
import os
import posixpath
import re
from html import unescape
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("", ".errors", ".worker", ".sandbox", ".opentelemetry")
# Pages that lie outside docs/, and where the site has them.
PAGES_OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "README.md": "index.md",
}
_FENCE = re.compile(r"^```python (?P<file>\S+)[^\n]*$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>[^)\s#:]+)(?P<fragment>#[^)\s]*)?\)")
_CODE = re.compile(r"(?P<name>[A-Z]\w+)(?:\.(?P<member>[a-z_]\w*))?(?:\(.*\))?")
# Code outside links, headings and blocks. The other alternatives skip what must stay as it is.
_CODE_IN_HTML = re.compile(
    r"<(?P<tag>a|autoref|h[1-6]|pre)\b.*?</(?P=tag)>|<code>(?P<code>[^<]*)</code>", re.DOTALL
)
_EXTERNAL = re.compile(r'href="(https?://[^"]+)"')

_external_links: dict[str, set[str]] = {}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Publish the pages that lie outside docs/, and llms.txt."""
    for name, place in PAGES_OUTSIDE.items():
        if place != "index.md":
            text = (ROOT / name).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=published(text, Path(name), place)))
    llms = (ROOT / "llms.txt").read_text(encoding="utf-8")
    linked = re.sub(r"\(docs/([^)]+)\.md\)", r"(\1.html)", llms)
    files.append(
        File.generated(config, "llms.txt", content=linked.replace("(README.md)", "(index.html)"))
    )
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Prepare a page of docs/ for MkDocs."""
    del config, files
    if page.file.generated_by is not None:
        return markdown
    place = page.file.src_uri
    return published(markdown, Path("docs", place), place)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Collect the links to other sites, and link public names in code to the reference."""
    del config, files
    for link in _EXTERNAL.findall(html):
        _external_links.setdefault(unescape(link), set()).add(page.file.src_uri)
    return with_links_to_names(html)


def on_post_build(*, config: MkDocsConfig) -> None:
    """List the links to other sites, which no check opens, with their pages."""
    lines = [f"{link}  {', '.join(sorted(pages))}\n" for link, pages in _external_links.items()]
    listing = Path(config.site_dir, "external-links.txt")
    listing.write_text("".join(sorted(lines)), encoding="utf-8")


def published(markdown: str, source: Path, place: str) -> str:
    """The text of a page with the headings of quotations, and with links that work in the site.

    Args:
        markdown: The text.
        source: The path of its file in the repository, to which its links are relative.
        place: Its path in the site.
    """

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(source.parent.as_posix(), match["path"]))
        if target.startswith("docs/"):
            in_site = target.removeprefix("docs/")
        elif target in PAGES_OUTSIDE:
            in_site = PAGES_OUTSIDE[target]
        else:  # a file of the repository that the site does not have
            return match["text"]
        path = os.path.relpath(in_site, posixpath.dirname(place))
        return f"[{match['text']}]({path}{match['fragment'] or ''})"

    quoted = _FENCE.sub(r'```python title="\g<file>"', markdown)
    return _LINK.sub(link, quoted)


def with_links_to_names(html: str) -> str:
    """The HTML with a link to the reference around each public name in code."""

    def linked(match: re.Match[str]) -> str:
        name = identifier(unescape(match["code"] or ""))
        if name is None:
            return match[0]
        return f'<autoref identifier="{name}" optional>{match[0]}</autoref>'

    return _CODE_IN_HTML.sub(linked, html)


def identifier(code: str) -> str | None:
    """The reference's identifier of the public name in this code, such as `DirectClient.create(job)`."""
    match = _CODE.fullmatch(code)
    module = _MODULE_OF_NAME.get(match["name"]) if match else None
    if match is None or module is None:
        return None
    owner = getattr(importlib.import_module(module), match["name"])
    name = match["member"]
    # A field is described in its class. Methods and properties have an entry of their own.
    member = getattr(owner, name or "", None)
    if callable(member) or isinstance(member, property):
        return f"{module}.{match['name']}.{name}"
    documented = " ".join(part.__doc__ or "" for part in getattr(owner, "__mro__", ()))
    if name and not re.search(rf"\b{name}:", documented):
        return None  # a name of a different package, such as `ExitUrls.singleExitUrl` of the Java client
    return f"{module}.{match['name']}"


_MODULE_OF_NAME = {
    name: f"posten_signering{module}"
    for module in reversed(MODULES)
    for name in importlib.import_module(f"posten_signering{module}").__all__
}
