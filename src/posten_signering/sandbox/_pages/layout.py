"""What every page of the sandbox has around it, as HTML. Performs no I/O."""

from posten_signering.sandbox._pages.html import Markup, fill, joined
from posten_signering.sandbox._pages.language import Language
from posten_signering.sandbox._pages.texts import TEXTS

OVERVIEW = "/overview"
"""The path of the overview page."""

_NAMES = {Language.BOKMAL: "Norsk", Language.ENGLISH: "English"}
_TONES = {"SIGNED": "good", "FAILED": "bad", "completion": "good", "error": "bad"}
_NOTHING = Markup("")


def notice_page(
    language: Language,
    what: str,
    *,
    head: Markup = _NOTHING,
    more: Markup = _NOTHING,
    overview: str = OVERVIEW,
) -> Markup:
    """A page that says one thing.

    Args:
        language: Of the page.
        what: Which thing: the texts `<what>_title` and `<what>_text` say it.
        head: Further elements of the head.
        more: What follows the text.
        overview: Where the overview of the sandbox is.
    """
    texts = TEXTS[language]
    title = texts[f"{what}_title"]
    body = fill(
        "notice",
        texts,
        tone=_TONES.get(what, "neutral"),
        heading=title,
        text=texts[f"{what}_text"],
        more=more,
    )
    return page(language, title=title, body=body, head=head, overview=overview)


def page(
    language: Language,
    *,
    title: str,
    body: Markup,
    head: Markup = _NOTHING,
    overview: str = OVERVIEW,
) -> Markup:
    """A whole page that is there in every language.

    Args:
        language: Of the page.
        title: What the browser's tab says.
        body: What stands in `main`.
        head: Further elements of the head.
        overview: Where the overview of the sandbox is.
    """
    links = joined(
        fill(
            "switch-here" if each is language else "switch-there",
            {},
            tag=each.value,
            name=_NAMES[each],
        )
        for each in Language
    )
    texts = TEXTS[language]
    more = fill("footer-overview", texts, overview_address=overview)
    return whole(
        language,
        title=title,
        body=body,
        head=head,
        nav=fill("switch", texts, links=links),
        footer=more,
    )


def whole(
    language: Language, *, title: str, body: Markup, head: Markup, nav: Markup, footer: Markup
) -> Markup:
    """A page with what every page has: the warning that this is a sandbox, and the styles.

    Args:
        language: Of the page.
        title: What the browser's tab says.
        body: What stands in `main`.
        head: Further elements of the head.
        nav: What stands beside the warning.
        footer: What stands at the end.
    """
    return fill(
        "layout", TEXTS[language], title=title, body=body, head=head, nav=nav, footer=footer
    )
