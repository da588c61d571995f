"""The bytes of a create that are not the documents, before TLS: headers, messages, container, signature."""

from dataclasses import replace

from .place import KIB, RunningServer, job
from .recording import Recorded, recording_client
from .table import Limit, Row

_DOCUMENTS = (1, 10)


def most(documents: int) -> int:
    """The most bytes that a create of this many documents may add to them."""
    return 12 * KIB + 600 * documents


async def measure(server: RunningServer) -> list[Row]:
    """The table's rows: one document, and ten."""
    content = server.document(10 * KIB).read_bytes()
    rows = list[Row]()
    for documents in _DOCUMENTS:
        async with recording_client(server) as (client, requests):
            one = job(content)
            await client.create(replace(one, documents=[*one.documents] * documents))
        rows.append(
            Row(
                name=f"overhead of a create before TLS, documents: {documents}",
                measured=[_length(requests[0]) - documents * len(content)],
                unit="bytes",
                limit=Limit(value=most(documents), of_ratio=False),
            )
        )
    return rows


def _length(request: Recorded) -> int:
    target = request.url.removeprefix("https://").partition("/")
    headers = {
        **request.headers,
        "host": target[0],
        "content-length": str(len(request.body)),
    }
    head = f"{request.method} /{target[2]} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers.items()
    )
    return len(head) + len("\r\n") + len(request.body)
