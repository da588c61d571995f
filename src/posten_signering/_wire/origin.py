"""Whether a URL leads to the service. Pure: performs no I/O.

The client certificate is offered to the origin of the service root and to nobody else (RFC 6454: the
scheme, the host and the port).
"""

import re
from ipaddress import IPv4Address, IPv6Address

from posten_signering._values.secret import Secret
from posten_signering.errors import UntrustedUrlError

__all__ = ["address_of", "check_origin", "is_proxy", "origin_of", "same_origin"]

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
