"""Splits the `multipart/mixed` body of a create into the request and the container.

The standard library's `email` package parses the body. The parts may come in either order, and may
have the headers that the official Java and C# clients add. Performs no I/O.
"""

import email
from email.errors import CloseBoundaryNotFoundDefect, StartBoundaryNotFoundDefect
from email.message import Message

from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal, broken_bundle

_XML_TYPES = frozenset({"application/xml", "text/xml"})
_BINARY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
_MAX_SHOWN_CHARACTERS = 100


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
    requests = [part for part in parts if part.get_content_type() in _XML_TYPES]
    containers = [part for part in parts if part.get_content_type() not in _XML_TYPES]
    if len(requests) != 1 or len(containers) != 1:
        raise broken_bundle(
            f"The body has {len(requests)} XML parts and {len(containers)} other parts. Send exactly"
            " two parts: the request with the Content-Type application/xml, and the container with"
            " application/octet-stream."
        )
    return _content(requests[0], name="request"), _content(containers[0], name="container")


def _parts(content_type: str, body: Octets) -> "list[Message]":
    if not content_type.strip():
        raise _not_multipart("missing")
    # `email` treats a type that it can't parse as text/plain.
    has_readable_type = content_type.partition(";")[0].count("/") == 1
    if not has_readable_type or any(character in content_type for character in "\r\n\0"):
        raise _not_multipart("unreadable")
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n"
    message = email.message_from_bytes(head.encode("latin-1", "replace") + body)
    if message.get_content_type() != "multipart/mixed":
        raise _not_multipart(message.get_content_type()[:_MAX_SHOWN_CHARACTERS])
    if message.get_boundary() is None:
        raise broken_bundle(
            "The Content-Type multipart/mixed has no boundary. Add the parameter boundary to it."
        )
    for defect in message.defects:
        if isinstance(defect, StartBoundaryNotFoundDefect):
            raise broken_bundle(
                "The body does not contain the boundary that its Content-Type names. Write a line of"
                " two hyphens and this boundary before each part."
            )
        if isinstance(defect, CloseBoundaryNotFoundDefect):
            raise broken_bundle(
                "The body was cut off: it ends before its closing boundary. Send the whole body, with"
                " the closing boundary at its end."
            )
    return [part for part in message.walk() if not part.is_multipart()]


def _not_multipart(content_type: str) -> Refusal:
    return broken_bundle(
        f"The Content-Type must be multipart/mixed, but is {content_type}. Send the header"
        " Content-Type with multipart/mixed and a boundary."
    )


def _content(part: Message, *, name: str) -> Octets:
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding not in _BINARY_ENCODINGS:
        raise broken_bundle(
            f"The part with the {name} has a Content-Transfer-Encoding that changes its bytes. Send"
            " the bytes unchanged, without this header."
        )
    payload = part.get_payload(decode=True)
    return Octets(payload if isinstance(payload, bytes) else b"")
