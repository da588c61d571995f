"""Request bodies and containers of documents, as the package produces them."""

import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio

from posten_signering._container.body import StreamedBody, joined
from posten_signering._container.compression import Compression
from posten_signering._container.documents import inspect
from posten_signering._container.layout import Layout, container_layout, multipart
from posten_signering._values.job import Document
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Body

CHUNK = 128 * 1024
MIB = 1024 * 1024
CANARY = "Kanarifugl"
MANIFEST = f"<manifest>{CANARY}</manifest>".encode()


def pdf_of(size: int) -> bytes:
    """A file of this many bytes that starts as a PDF. It is compressible, but only in part."""
    noise = random.Random(size).randbytes(size // 2)
    return (b"%PDF-1.7\n" + noise + CANARY.encode() * size)[:size]


@dataclass
class Sent:
    """A request body with the contents of its documents and its container."""

    body: StreamedBody
    contents: list[bytes]
    container: Layout

    def open(self):
        return io.BytesIO(joined(self.container, self.body.inspection))


def sent(contents, documents, compression=Compression.STORED, limiter=None) -> Sent:
    """A request body for these documents. `contents` has the bytes of each document."""
    inspection = inspect(documents, compression=compression)
    layout = container_layout(
        inspection.entries,
        Secret(MANIFEST),
        Secret(b"<signatures/>"),
        compression=compression,
        modified=datetime(2026, 1, 1, tzinfo=UTC),
    )
    _, whole = multipart(Secret(b"<request/>"), layout, boundary="b" * 32)
    body = StreamedBody(
        layout=whole, inspection=inspection, limiter=limiter or anyio.CapacityLimiter(1)
    )
    return Sent(body, list(contents), layout)


def write(folder: Path, contents) -> list[Document]:
    documents = []
    for index, content in enumerate(contents):
        path = folder / f"{CANARY}-{index}.pdf"
        path.write_bytes(content)
        documents.append(Document(title="x", content=path))
    return documents


def from_paths(folder: Path, *contents, **options) -> Sent:
    return sent(contents, write(folder, contents), **options)


def from_bytes(*contents, **options) -> Sent:
    return sent(contents, [Document(title="x", content=content) for content in contents], **options)


async def produce(body: Body) -> list[bytes]:
    return [chunk async for chunk in body.chunks()]
