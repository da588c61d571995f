"""URLs: whether one leads to the service, the few that the client builds, and the token in an exit URL. Pure.

Functions take and give secrets, because a URL of the service may carry a token.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from posten_signering._values.secret import Secret
from posten_signering.errors import StatusQueryTokenMissingError, UntrustedUrlError

STATUS_QUERY_TOKEN = "status_query_token"  # noqa: S105 - the parameter's name, not a token

# An allow-list, so that no other parser can see another host in the same text: no user, no white
# space, no backslash, nothing but ASCII.
_URL = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
    r"(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}

# Neither a path nor a query.
_PROXY = re.compile(r"([a-z]+://)(?:[^\s/?#@\\]*@)?([^/?#@]+)/?", re.IGNORECASE)

# What httpx takes for an IPv4 address, and then refuses where it is none.
_IPV4 = re.compile(r"[0-9]+.[0-9]+.[0-9]+.[0-9]+")


def organization(root: str, organization_number: str) -> Secret[str]:
    """Where an organisation's access is told."""
    return Secret(f"{root}/{quote(organization_number, safe='')}")


def organization_in(url: Secret[str], root: str) -> str | None:
    """The organisation whose API a URL belongs to; None where the URL does not tell."""
    found = re.match(re.escape(root) + "/([0-9]{9})(?![^/?])", url.reveal())
    return found[1] if found else None


def signature_jobs(root: str, organization_number: str) -> Secret[str]:
    """Where jobs are created and the default queue is polled."""
    return Secret(f"{organization(root, organization_number).reveal()}/direct/signature-jobs")


def polling_queue(root: str, organization_number: str, queue: str | None) -> Secret[str]:
    """Where a queue is polled; the default queue has no parameter."""
    jobs = signature_jobs(root, organization_number)
    if queue is None:
        return jobs
    return Secret(f"{jobs.reveal()}?polling_queue={quote(queue, safe='')}")


def with_token(url: Secret[str], token: Secret[str]) -> Secret[str]:
    """A status URL with the token of an exit URL added to whatever query it has."""
    parts = urlsplit(url.reveal())
    parameter = f"{STATUS_QUERY_TOKEN}={quote(token.reveal(), safe='')}"
    query = f"{parts.query}&{parameter}" if parts.query else parameter
    return Secret(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))


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
    query = Secret(hidden.reveal().partition("#")[0].split("?", 1)[-1])
    tokens = Secret(parse_qs(query.reveal()).get(STATUS_QUERY_TOKEN, []))
    if not tokens.reveal():
        raise StatusQueryTokenMissingError(
            f"The address carries no {STATUS_QUERY_TOKEN}. The service appends it to the exit URL that "
            "it sends a signer to: somebody opened the address without coming from there, or a "
            "redirect of your own lost the query."
        )
    return tokens.reveal()[-1]


def address_of(url: Secret[str]) -> tuple[str, str, int] | None:
    """Scheme, host (lower case) and port of an absolute http or https URL; None when it is not one."""
    match = _URL.fullmatch(url.reveal())
    if match is None:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3] or _PORTS[scheme])
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif _IPV4.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return None
    return (scheme, host, port) if 0 < port < 65536 else None


def is_proxy(url: Secret[str]) -> bool:
    """Whether it is the http or https URL of a host, with a user and a password or without."""
    parts = _PROXY.fullmatch(url.reveal())
    return parts is not None and address_of(Secret(parts[1] + parts[2])) is not None


def origin_of(url: Secret[str]) -> tuple[str, int] | None:
    """The host (lower case) and the port of an absolute https URL; None when it is not one."""
    address = address_of(url)
    return None if address is None or address[0] != "https" else address[1:]


def check_origin(url: Secret[str], root: str) -> None:
    """Refuses a URL that does not lead to the service root's origin.

    Raises:
        UntrustedUrlError: It leads elsewhere, or is no absolute https URL. The URL is not shown.
    """
    # No local variable holds a part of the URL.
    if origin_of(url) is None or origin_of(url) != origin_of(Secret(root)):
        raise UntrustedUrlError(
            f"The URL is not one of the service at {root}, and was not followed. Stored URLs belong "
            "to the environment that they came from; a redirect URL is for the signer's browser."
        )
