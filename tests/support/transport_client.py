"""A transport to a server on loopback, for tests of the HTTP layer."""

from functools import partial

import loopback
import pki

from posten_signering._http.tls import client_context
from posten_signering._http.transport import HttpTransport
from posten_signering._trust.certificates import complete_chain, key_and_chain
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Request


class Body:
    """A request body in pieces. After the last piece it raises `error`, if one is given."""

    def __init__(self, *pieces, error=None, length=None):
        self.pieces, self.error = pieces, error
        self.length = sum(map(len, pieces)) if length is None else length
        self.closed = 0

    async def chunks(self):
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


def server_context(version=None, *, issued=None, clients=None):
    return pki.server_context(
        issued or pki.service(), version=version, clients=clients or pki.root()
    )


def context_for(*anchors, certificate=None, number=pki.SERVICE):
    anchors_der = [anchor.der for anchor in anchors or (pki.root(),)]
    certificate = certificate or pki.sender().enterprise()
    chain, _ = complete_chain(certificate, anchors_der)
    return client_context(
        chain,
        partial(key_and_chain, certificate),
        anchors=anchors_der,
        server_organization_number=number,
    )


class Client:
    """A transport to a server on loopback."""

    def __init__(self, server, *, context=None, **more):
        settings = {
            "service_root": server.url("/api"),
            "ssl_context": context or context_for(),
            "connect_seconds": 5,
            "api_seconds": 5,
            "download_seconds": 5,
            "user_agent": "posten-signering/1 (Python)",
            "explain": lambda sent: f"Sent: {len(sent)}.",
        }
        self.transport = HttpTransport(**{**settings, **more})
        self.server = server

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.transport.aclose()

    def request(self, path="/api/job", method="GET", **more):
        return Request(method=method, url=Secret(self.server.url(path)), **more)

    async def fetch(self, *args, **more):
        async with self.transport.exchange(self.request(*args, **more)) as answer:
            return answer, b"".join([piece async for piece in answer.chunks()])


def connected(handler, version=None, **more):
    return loopback.http_server(handler, server_context(version, **more))


def alerting(version):
    return loopback.alerting_server(loopback.answer(body=b"answer"), server_context(version))


OK = loopback.always(loopback.answer(body=b"answer", X_Header="value"))
