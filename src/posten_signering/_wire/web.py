"""What every web app needs of an exit URL, whatever its framework. Pure: performs no I/O."""

from urllib.parse import parse_qs

from posten_signering._values.secret import Secret
from posten_signering.errors import StatusQueryTokenMissingError

__all__ = ["status_query_token_in"]

_NAME = "status_query_token"


def status_query_token_in(url_or_query: str) -> str:
    """The token that a signer brought back to an exit URL, for `DirectClient.get_status`.

    Args:
        url_or_query: The address that was opened, absolute or not, or the query of it. Of two tokens
            the last counts: the service appends its own to what the exit URL holds.

    Raises:
        StatusQueryTokenMissingError: It carries no token.
    """
    hidden = Secret(url_or_query)
    del url_or_query
    tokens = _values(hidden)
    if tokens is None:
        raise StatusQueryTokenMissingError(
            f"The address carries no {_NAME}. The service appends it to the exit URL that it sends a "
            "signer to: somebody opened the address without coming from there, or a redirect of your "
            "own lost the query."
        )
    return tokens.reveal()[-1]


def _values(address: Secret[str]) -> Secret[list[str]] | None:
    before, mark, after = address.reveal().partition("#")[0].partition("?")
    found = parse_qs(after if mark else before).get(_NAME)
    return None if found is None else Secret(found)
