"""Splits the `multipart/mixed` body of a create into the request and the container.

The parts may come in either order, and may have the headers that the official Java and C# clients
add. The standard library's `email` package parses only the headers: for a body, it is slow.
"""

import email
import re
from email.message import Message

from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal, broken_bundle

_XML_TYPES = frozenset({"application/xml", "text/xml"})
_BINARY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
_MAX_SHOWN_CHARACTERS = 100
_MAX_HEADER_BYTES = 8192
_PARTS = 2


def split_body(content_type: str, body: Octets) -> tuple[Octets, Octets]:
    """The request and the container in the body of a create.

    Args:
        content_type: The request's header `Content-Type`, unchanged.
        body: The request's body, unchanged.

    Returns:
        The request's XML and the container's bytes.

    Raises:
        Refusal: The body is not `multipart/mixed`, is cut off, or does not have these two parts.
    """
    parts = _parts(content_type, body)
    requests = [part for part in parts if part[0].get_content_type() in _XML_TYPES]
    containers = [part for part in parts if part[0].get_content_type() not in _XML_TYPES]
    if len(requests) != 1 or len(containers) != 1:
        raise broken_bundle(
            f"The body has {len(requests)} XML parts and {len(containers)} other parts. Send exactly"
            " two parts: the request with the Content-Type application/xml, and the container with"
            " application/octet-stream."
        )
    return _content(*requests[0], name="request"), _content(*containers[0], name="container")


def _parts(content_type: str, body: Octets) -> "list[tuple[Message, Octets]]":
    """The headers and the content of each part, at most two."""
    line = b"--" + re.escape(_boundary(content_type))
    # The literal comes first, because `re` then searches for it quickly.
    delimiter = re.compile(
        line + b"(?:(?<=\n" + line + rb")|(?<=\A" + line + rb"))(--)?[ \t]*+(?=\r?\n|\Z)"
    )
    parts: list[tuple[Message, Octets]] = []
    start = None
    for match in delimiter.finditer(body):
        if start is not None:
            if len(parts) == _PARTS:
                raise broken_bundle(
                    f"The body has more than {_PARTS} parts. Send exactly two: the request and the"
                    " container."
                )
            # The line end before a delimiter belongs to the delimiter (RFC 2046, 5.1.1).
            part = body[start : match.start()].removesuffix(b"\n").removesuffix(b"\r")
            parts.append(_split_part(part))
        if match[1]:
            return parts
        start = match.end()
    if start is None:
        raise broken_bundle(
            "The body does not contain the boundary that its Content-Type names. Write a line of"
            " two hyphens and this boundary before each part."
        )
    raise broken_bundle(
        "The body was cut off: it ends before its closing boundary. Send the whole body, with"
        " the closing boundary at its end."
    )


def _boundary(content_type: str) -> bytes:
    if not content_type.strip():
        raise _not_multipart("missing")
    # `email` treats a type that it can't parse as text/plain.
    has_readable_type = content_type.partition(";")[0].count("/") == 1
    if not has_readable_type or any(character in content_type for character in "\r\n\0"):
        raise _not_multipart("unreadable")
    message = Message()
    message["Content-Type"] = content_type
    try:
        media_type, boundary = message.get_content_type(), message.get_boundary()
    except (TypeError, ValueError):
        # `email` does not catch every error of a parameter in the form of RFC 2231.
        raise _not_multipart("unreadable") from None
    if media_type != "multipart/mixed":
        raise _not_multipart(media_type[:_MAX_SHOWN_CHARACTERS])
    if not boundary or not boundary.isascii():
        raise broken_bundle(
            "The Content-Type multipart/mixed has no boundary in ASCII characters. Add the parameter"
            " boundary to it."
        )
    return boundary.encode()


def _split_part(part: bytes) -> "tuple[Message, Octets]":
    """The headers of a part and its content. `part` begins with the end of the delimiter's line."""
    # Without headers, the empty line comes first.
    end = re.compile(rb"\r?\n\r?\n").search(part, 0, _MAX_HEADER_BYTES)
    if end is None:
        raise broken_bundle(
            f"A part of the body has no empty line within its first {_MAX_HEADER_BYTES} bytes. Write"
            " one between the headers of the part and its content."
        )
    headers = email.message_from_bytes(part[: end.end()].lstrip())
    return headers, Octets(part[end.end() :])


def _not_multipart(content_type: str) -> Refusal:
    return broken_bundle(
        f"The Content-Type must be multipart/mixed, but is {content_type}. Send the header"
        " Content-Type with multipart/mixed and a boundary."
    )


def _content(headers: Message, content: Octets, *, name: str) -> Octets:
    encoding = str(headers.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding not in _BINARY_ENCODINGS:
        raise broken_bundle(
            f"The part with the {name} has a Content-Transfer-Encoding that changes its bytes. Send"
            " the bytes unchanged, without this header."
        )
    return content
