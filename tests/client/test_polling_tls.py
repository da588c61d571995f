"""Polling after failures of TLS, with real TLS on loopback: which failures the iterator waits out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import loopback
import pki
import pytest
from doubles import Clock, Sleep, configuration, status_xml
from transport_client import server_context

from posten_signering import DirectClient, Environment, FailurePolicy, TrustAnchors
from posten_signering.errors import TlsError

pytestmark = pytest.mark.anyio

Connect = Callable[..., Awaitable[None]]

A_CHANGE = loopback.answer(body=status_xml(), Connection="close")
INTERNAL_ERROR, UNRECOGNIZED_NAME, CERTIFICATE_REVOKED = 80, 112, 44  # RFC 8446, 6


def alert(description: int) -> Connect:
    async def connect(reader, writer) -> None:
        await reader.read(1)
        writer.write(bytes([21, 3, 3, 0, 2, 2, description]))
        await writer.drain()
        await reader.read()

    return connect


def server_of(issued: pki.Issued) -> Connect:
    """A different server answers in place of the service."""

    async def connect(reader, writer) -> None:
        context = server_context(issued=issued)
        async with loopback.http_server(loopback.always(A_CHANGE), context) as server:
            await loopback.forward(reader, writer, "127.0.0.1", server.port)
            assert server.received == []

    return connect


@asynccontextmanager
async def client_of_service(
    *first: Connect, clients=None
) -> AsyncIterator[tuple[DirectClient, Sleep]]:
    """A client of a service whose first connections go wrong. The client's sleep takes no time."""
    connects = list(first)
    context = server_context(clients=clients)
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(loopback.alerting_server(A_CHANGE, context))

        async def connect(reader, writer) -> None:
            if connects:
                await connects.pop(0)(reader, writer)
            else:
                await loopback.forward(reader, writer, "127.0.0.1", service.port)

        port = (await stack.enter_async_context(loopback.serving(connect))).port
        clock = Clock()
        sleep = Sleep(clock)
        environment = Environment(
            name="Loopback",
            service_root=f"https://localhost:{port}/api",
            default_poll_wait=timedelta(seconds=30),
            server_organization_number=pki.SERVICE,
        )
        anchors = TrustAnchors().trusting(pki.root().pem)
        fields = {"environment": environment, "trust_anchors": anchors}
        client = DirectClient(configuration(None, clock=clock, sleep=sleep, **fields))
        yield await stack.enter_async_context(client), sleep


@pytest.mark.parametrize(
    "connect",
    [
        loopback.plain_refusal,
        alert(INTERNAL_ERROR),
        alert(UNRECOGNIZED_NAME),
        server_of(pki.service("111111111")),
        server_of(pki.issue(pki.subject("Other"), pki.root("Other"))),
    ],
    ids=["plain HTTP", "internal error", "unknown name", "other organisation", "other issuer"],
)
async def test_a_tls_failure_that_may_end_by_itself_is_waited_out(connect):
    failures = []
    policy = FailurePolicy(on_failure=lambda error, _wait: failures.append(error))
    async with client_of_service(connect, connect) as (client, sleep):
        changes = client.status_changes(failure_policy=policy)
        assert (await anext(changes)).job_id == 7
    assert [error.certificate_refused for error in failures] == [False, False]
    assert sleep.slept == [1, 2]
    assert changes.counts.failures == 2


async def test_a_tls_failure_that_may_end_by_itself_ends_the_iterator_when_the_policy_says_so():
    async with client_of_service(*[loopback.plain_refusal] * 2) as (client, _):
        changes = client.status_changes(failure_policy=FailurePolicy(max_failures=2))
        with pytest.raises(TlsError):
            await anext(changes)


@pytest.mark.parametrize("how", ["in the handshake", "after the handshake"])
async def test_a_refused_client_certificate_is_permanent(how):
    """In TLS 1.3 the server checks it when the client's part of the handshake has ended."""
    first = [alert(CERTIFICATE_REVOKED)] if how == "in the handshake" else []
    async with client_of_service(*first, clients=pki.root("Other")) as (client, sleep):
        with pytest.raises(TlsError) as caught:
            await anext(client.status_changes())
    assert caught.value.certificate_refused
    assert sleep.slept == []
