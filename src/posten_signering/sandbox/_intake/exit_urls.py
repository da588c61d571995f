"""Checks whether a browser can follow an exit URL. Performs no I/O.

No refusal quotes the URL: its query may hold a token of the sender's.
"""

import re
from ipaddress import IPv4Address, IPv6Address

_ALLOWED = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(/?)", re.IGNORECASE)
# Browsers run or open these themselves, or refuse to be redirected to them.
_NOT_FOLLOWED = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source"}
)
# User, host and port (RFC 3986, 3.2), and where square brackets are tolerated: in query and fragment.
_AFTER_SCHEME = re.compile(
    r"//(?:[^/?#@\[\]]*@)?(\[[0-9A-Fa-f:.]+\]|[^/?#@\[\]:]+)(?::([0-9]{0,5}))?"
    r"(?:/[^?#\[\]]*)?(?:\?[^#]*)?(?:#[^#]*)?"
)
_LARGEST_PORT = 65_535


def exit_url_problem(url: str) -> str | None:
    """Why a browser can't follow a URL, as text that follows the name of the URL. `None` if it can.

    A browser follows an http or https URL with a host, and a URL of an app that begins with the app's
    own scheme and `:/`.

    Args:
        url: The URL, unchanged.
    """
    # A match of "nothing" ends before the first character that is not allowed.
    allowed = _ALLOWED.match(url)
    position = allowed.end() if allowed else 0
    if position < len(url):
        return (
            f"has U+{ord(url[position]):04X} at position {position}, which RFC 3986 does not allow"
            " there. Remove white space around the URL, and percent-encode such characters inside it."
        )
    scheme = _SCHEME.match(url)
    name = "" if scheme is None else scheme[1].lower()
    if name in _NOT_FOLLOWED:
        return f"has the scheme {name}, to which browsers do not follow a redirect. Use https."
    if name in {"http", "https"}:
        can_follow = _has_host(url[len(name) + 1 :])
    else:
        can_follow = scheme is not None and scheme[2] == "/"
    if can_follow:
        return None
    return (
        "is not a URL that a browser can follow. Use an http or https URL with a host, such as"
        " https://shop.example/signed, or the scheme of an app and :/, such as com.example.app:/signed."
    )


def _has_host(after_scheme: str) -> bool:
    parts = _AFTER_SCHEME.fullmatch(after_scheme)
    if parts is None or not 0 < int(parts[2] or 1) <= _LARGEST_PORT:
        return False
    host = parts[1]
    labels = host.removesuffix(".").split(".")
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif len(labels) == 4 and not host.endswith(".") and "".join(labels).isdigit():
            IPv4Address(host)
    except ValueError:
        return False
    return host.startswith("[") or all(labels)
