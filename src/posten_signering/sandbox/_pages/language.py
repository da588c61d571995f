"""Which language a page is shown in: Norwegian (bokmål) or English. Performs no I/O."""

from collections.abc import Mapping
from enum import StrEnum

PARAMETER = "lang"
"""Query parameter of the switch of languages."""

COOKIE = "posten-signering-language"


class Language(StrEnum):
    """By its tag, as `lang` attributes have it."""

    BOKMAL = "nb"
    ENGLISH = "en"


_OFFERED = frozenset(language.value for language in Language)

# Who reads any Norwegian reads bokmål. Sami, Danish and Swedish readers can use the switch.
_TAGS = {
    "nb": Language.BOKMAL,
    "no": Language.BOKMAL,
    "nn": Language.BOKMAL,
    "en": Language.ENGLISH,
}


def language_of(
    query: Mapping[str, str], cookies: Mapping[str, str], accept_language: str
) -> Language:
    """The language that a reader asked for: by the switch just now, by the switch before, by browser.

    Args:
        query: The parameters of the address.
        cookies: The cookies sent along.
        accept_language: The header `Accept-Language` (RFC 9110, section 12.5.4).
    """
    for asked in (query.get(PARAMETER), cookies.get(COOKIE)):
        if asked in _OFFERED:
            return Language(asked)
    return _preferred(accept_language)


def _preferred(accept_language: str) -> Language:
    best, weight = Language.BOKMAL, 0.0
    for item in accept_language.split(","):
        tag, *parameters = (part.strip() for part in item.split(";"))
        language = _TAGS.get(tag.partition("-")[0].lower())
        quality = _quality(parameters)
        if language is not None and quality > weight:
            best, weight = language, quality
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
