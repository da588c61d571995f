"""Whether a URL leads to the service. Pure: performs no I/O.

The client certificate is offered to the origin of the service root and to nobody else (RFC 6454: the
scheme, the host and the port).
"""

import re

from posten_signering._secret import Secret
from posten_signering.errors import UntrustedUrlError

__all__ = ["check_origin", "origin_of", "same_origin"]

# An allow-list, so that no other parser can see another host in the same text: no user, no white
# space, no backslash, nothing but ASCII.
_HTTPS_URL = re.compile(
    r"https://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
    r"(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)


def origin_of(url: Secret[str]) -> tuple[str, int] | None:
    """The host (lower case) and the port of an absolute https URL; None when it is not one."""
    match = _HTTPS_URL.fullmatch(url.reveal())
    return None if match is None else (match[1].lower(), int(match[2] or "443"))


def same_origin(url: Secret[str], root: str) -> bool:
    """Whether the URL has the scheme, the host and the port of the service root."""
    origin = origin_of(url)
    return origin is not None and origin == origin_of(Secret(root))


def check_origin(url: Secret[str], root: str) -> None:
    """Refuses a URL that does not lead to the service root's origin.

    Raises:
        UntrustedUrlError: It leads elsewhere, or is no absolute https URL. The URL is not shown.
    """
    if not same_origin(url, root):
        raise UntrustedUrlError(
            f"The URL is not one of the service at {root}, and was not followed. Stored URLs belong "
            "to the environment that they came from; a redirect URL is for the signer's browser."
        )
