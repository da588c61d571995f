"""The body of a create: `multipart/mixed`, the request and then the container. Performs no I/O."""

from collections.abc import Iterable

from posten_signering._container.layout import Layout, Segment


def mixed(request_xml: bytes, container: Layout, *, boundary: str) -> tuple[str, Layout]:
    """The Content-Type of the request, and its body (RFC 2046, section 5.1).

    As the official clients send it: the request's XML first, and of each part's headers Content-Type
    alone.

    Args:
        request_xml: The rendered job request.
        container: The layout of the container.
        boundary: Random, so that no part can contain it; 1 to 70 ASCII letters and digits.
    """
    start = (
        f"--{boundary}\r\nContent-Type: application/xml\r\n\r\n".encode("ascii")
        + request_xml
        + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode("ascii")
    )
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    body = Layout(
        segments=_merged((start, *container.segments, end)),
        length=len(start) + container.length + len(end),
    )
    return f"multipart/mixed; boundary={boundary}", body


def _merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Bytes beside bytes as one segment: each is a write of its own, and a TLS record."""
    merged = list[Segment]()
    for segment in segments:
        if isinstance(segment, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += segment
        else:
            merged.append(segment)
    return tuple(merged)
