"""Checks URLs, builds the few that the client builds itself, and reads the token in an exit URL. Pure.

URLs are passed as secrets, because a URL of the service may contain a token.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from posten_signering._values.arguments import require
from posten_signering._values.secret import Secret
from posten_signering.errors import StatusQueryTokenMissingError, UntrustedUrlError

STATUS_QUERY_TOKEN = "status_query_token"  # noqa: S105 - the parameter's name, not a token

# This allow-list accepts only URLs in which every parser finds the same host: ASCII only, without
# user, white space or backslash.
_URL = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
    r"(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}

# A proxy's URL has neither a path nor a query. It may have a user and a password.
_PROXY = re.compile(r"([a-z]+://)(?:[^\s/?#@\\]*@)?([^/?#@]+)/?", re.IGNORECASE)

# Every character that RFC 3986 does not allow in a URL, and a percent sign that begins no escape.
_NOT_IN_URL = re.compile(r"[^!#-;=?-\[\]_a-z~]|%(?![0-9A-Fa-f]{2})")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(/?)", re.IGNORECASE)

# An http or https URL of RFC 3986, with a host. Square brackets are tolerated in the query and the
# fragment, because browsers keep them and web frameworks use them, as in `?id[]=7`.
_WEB_URL = re.compile(
    r"https?://(?:[^/?#@\[\]]*@)?"
    r"(\[[0-9a-f:.]+\]|[^/?#@:\[\].]+(?:\.[^/?#@:\[\].]+)*\.?)(?::([0-9]{0,5}))?"
    r"(?:/[^?#\[\]]*)?(?:\?[^#]*)?(?:#[^#]*)?",
    re.IGNORECASE,
)

# Browsers run or open these themselves, or refuse them as the target of a redirect.
_NOT_FOR_REDIRECTS = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source"}
)

# httpx takes a host of this form for an IPv4 address, and raises an error if it is not one.
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")


def organization(root: str, organization_number: str) -> Secret[str]:
    """The URL that describes the access of an organisation."""
    return Secret(f"{root}/{quote(organization_number, safe='')}")


def organization_in(url: Secret[str], root: str) -> str | None:
    """The organisation number at the beginning of a URL's path; None if the URL has none."""
    match = re.match(re.escape(root) + "/([0-9]{9})(?![^/?])", url.reveal())
    return match[1] if match else None


def signature_jobs(root: str, organization_number: str) -> Secret[str]:
    """The URL at which jobs are created and the default queue is polled."""
    return Secret(f"{organization(root, organization_number).reveal()}/direct/signature-jobs")


def polling_queue(root: str, organization_number: str, queue: str | None) -> Secret[str]:
    """The URL of a polling queue. The default queue has no parameter."""
    jobs = signature_jobs(root, organization_number)
    if queue is None:
        return jobs
    return Secret(f"{jobs.reveal()}?polling_queue={quote(queue, safe='')}")


def with_token(url: Secret[str], token: Secret[str]) -> Secret[str]:
    """The status URL with the token added to its query."""
    parts = urlsplit(url.reveal())
    parameter = f"{STATUS_QUERY_TOKEN}={quote(token.reveal(), safe='')}"
    query = f"{parts.query}&{parameter}" if parts.query else parameter
    return Secret(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))


def status_query_token_in(url_or_query: str) -> str:
    """The token in an exit URL that a signer was redirected to, for `DirectClient.get_status`.

    Args:
        url_or_query: The URL that the signer's browser requested, absolute or not, or only its query.
            If it has two tokens, the last one counts: the service appends its token to your exit URL.

    Raises:
        ArgumentTypeError: `url_or_query` is not text, for example a URL object of a web framework.
        StatusQueryTokenMissingError: `url_or_query` has no token.
    """
    hidden = Secret(url_or_query)
    del url_or_query
    require("url_or_query", hidden, "text", str)
    query = Secret(hidden.reveal().partition("#")[0].split("?", 1)[-1])
    tokens = Secret(parse_qs(query.reveal()).get(STATUS_QUERY_TOKEN, []))
    if not tokens.reveal():
        raise StatusQueryTokenMissingError(
            f"The URL has no {STATUS_QUERY_TOKEN}. The service appends it to the exit URL when it "
            "redirects a signer. Either the URL was opened directly, or your application redirected "
            "the signer without the query: check its redirects."
        )
    return tokens.reveal()[-1]


def address_of(url: Secret[str]) -> tuple[str, str, int] | None:
    """Scheme, host (in lower case) and port of an absolute http or https URL; None for anything else."""
    match = _URL.fullmatch(url.reveal())
    if match is None:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3] or _PORTS[scheme])
    return (scheme, host, port) if _is_address(host, port) else None


def _is_address(host: str, port: int) -> bool:
    """Whether the port exists, and a host in the form of an IP address is one."""
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif _IPV4.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return False
    return 0 < port < 65536


def exit_url_rule(url: Secret[str]) -> str | None:
    """The rule that an exit URL breaks, in words that do not quote it; None if a browser can follow it."""
    wrong = _NOT_IN_URL.search(url.reveal())
    if wrong is not None:
        return (
            f"must not contain U+{ord(wrong[0]):04X} at position {wrong.start()}, which RFC 3986 does not "
            "allow there: percent-encode it (in a host name, use the form that begins with xn--)"
        )
    scheme = _SCHEME.match(url.reveal())
    name = "" if scheme is None else scheme[1].lower()
    if name in _NOT_FOR_REDIRECTS:
        return f"must not have the scheme {name}, because browsers do not follow a redirect to it"
    if name in _PORTS:
        web = _WEB_URL.fullmatch(url.reveal())
        valid = web is not None and _is_address(web[1], int(web[2] or _PORTS[name]))
    else:
        valid = scheme is not None and scheme[2] == "/"
    if valid:
        return None
    return (
        "must be an http or https URL with a host, such as https://shop.example/signed, or begin with "
        "an app's own scheme and :/, such as com.example.app:/signed"
    )


def is_proxy(url: Secret[str]) -> bool:
    """Whether the URL is an http or https URL without path and query, with or without a password."""
    parts = _PROXY.fullmatch(url.reveal())
    return parts is not None and address_of(Secret(parts[1] + parts[2])) is not None


def origin_of(url: Secret[str]) -> tuple[str, int] | None:
    """The host (in lower case) and the port of an absolute https URL; None for anything else."""
    address = address_of(url)
    return None if address is None or address[0] != "https" else address[1:]


def check_origin(url: Secret[str], root: str) -> None:
    """Checks that a URL has the origin of the service root.

    Raises:
        UntrustedUrlError: The URL has a different origin, or is not an absolute https URL. The message
            does not contain the URL.
    """
    # No local variable holds a part of the URL, because a traceback may show local variables.
    if origin_of(url) not in _own_origin(root):
        raise UntrustedUrlError(
            f"The URL does not belong to the service at {root}, and was not followed. Use a URL that "
            "came from this environment; where a signer URL is needed, a redirect URL does not work."
        )


@lru_cache(maxsize=16)
def _own_origin(root: str) -> tuple[tuple[str, int], ...]:
    """The origin of a service root, which is no secret. Empty if the root is not an absolute https URL."""
    origin = origin_of(Secret(root))
    return () if origin is None else (origin,)
