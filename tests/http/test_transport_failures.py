"""What every failure of the network is called, and whether the request may have left."""

import asyncio
import socket
import ssl

import httpx
import loopback
import pytest
from transport_client import OK, Body, Client, connected, server_context

from posten_signering._http.failures import Setting, failure
from posten_signering._http.trace import Trace
from posten_signering._wire.exchange import TimeoutKind
from posten_signering.errors import (
    TlsError,
    TransportError,
    TransportTimeoutError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
def version(request):
    return request.param


class TestFailures:
    async def test_nobody_listens(self):
        async with Client(loopback.Server(port=loopback.closed_port())) as client:
            with pytest.raises(TransportError, match="Connection refused") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False
        assert not isinstance(raised.value, TlsError | TransportTimeoutError)

    async def test_a_server_that_speaks_no_tls(self):
        async with loopback.serving(loopback.plain_refusal) as server, Client(server) as client:
            with pytest.raises(TlsError, match="over TLS: wrong version number") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_a_handshake_that_is_broken_off(self):
        async def hang_up(reader, writer):
            await reader.read(1)

        async with loopback.serving(hang_up) as server, Client(server) as client:
            with pytest.raises(TransportError, match=r"handshake .* was broken off") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_a_handshake_that_hangs(self):
        async with loopback.silent_port() as server, Client(server, connect_seconds=0.05) as client:
            with pytest.raises(TransportTimeoutError, match=r"within 0\.05 seconds") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_a_service_that_says_nothing(self, version):
        async def never(received):
            await asyncio.Event().wait()

        async with connected(never, version) as server, Client(server, api_seconds=0.05) as client:
            with pytest.raises(TransportTimeoutError, match=r"silent for 0\.05 seconds") as raised:
                await client.fetch()
            assert raised.value.request_may_have_left is True
            assert len(server.received) == 1

    async def test_an_answer_that_stops(self):
        content = loopback.answer(body=b"answer")[:-1]
        async with (
            connected(loopback.always(content)) as server,
            Client(server, download_seconds=0.05) as client,
        ):
            with pytest.raises(TransportTimeoutError, match=r"answer .* stopped for") as raised:
                await client.fetch(timeout=TimeoutKind.DOWNLOAD)
        assert raised.value.request_may_have_left is True

    async def test_a_service_that_does_not_take_the_body(self):
        async def deaf(reader, writer):
            writer.transport.pause_reading()
            await asyncio.Event().wait()

        async with (
            loopback.serving(deaf, server_context()) as server,
            Client(server, api_seconds=0.1) as client,
        ):
            with pytest.raises(TransportTimeoutError) as raised:
                await client.fetch(method="POST", body=Body(*[b"a" * 65536] * 256))
        assert raised.value.request_may_have_left is True

    async def test_a_connection_lost_before_the_answer(self, version):
        async with connected(loopback.always(None), version) as server, Client(server) as client:
            with pytest.raises(TransportError, match="lost before an answer came") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True
        assert "check_access" in str(raised.value)

    async def test_a_kept_connection_lost_gives_no_hint_at_the_certificate(self):
        answers = [None, loopback.answer(body=b"first")]

        async def handler(received):
            return answers.pop()

        async with connected(handler) as server, Client(server) as client:
            await client.fetch()
            with pytest.raises(TransportError, match="lost before an answer came") as raised:
                await client.fetch()
        assert "check_access" not in str(raised.value)
        assert raised.value.request_may_have_left is True

    async def test_a_connection_closed_before_the_answer(self):
        async with (
            connected(loopback.always(b"HTTP/1.1 200 OK\r\nConnection: close")) as server,
            Client(server) as client,
        ):
            with pytest.raises(TransportError, match="lost before an answer came") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True

    @pytest.mark.parametrize("more", [b"", b"Connection: close"])
    async def test_an_answer_that_is_cut_off(self, version, more):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"

        async def cut(reader, writer):
            await loopback.read_head(reader)
            writer.write(head)
            await writer.drain()
            if more:
                loopback.reset(writer)

        async with (
            loopback.serving(cut, server_context(version)) as server,
            Client(server) as client,
            client.transport.exchange(client.request()) as answer,
        ):
            with pytest.raises(TransportError, match="was cut off") as raised:
                assert [piece async for piece in answer.chunks()]
            # What is missing stays missing.
            with pytest.raises(TransportError, match="broken off"):
                assert [piece async for piece in answer.chunks()]
        assert raised.value.request_may_have_left is True

    async def test_something_that_is_not_http(self):
        async with (
            connected(loopback.always(b"SSH-2.0-kanari\r\n\r\n")) as server,
            Client(server) as client,
        ):
            with pytest.raises(TransportError, match=r"not an answer in HTTP/1\.1") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True
        assert "kanari" not in str(raised.value)

    @pytest.mark.parametrize("error", [LookupError("mine"), OSError(5, "mine"), TimeoutError()])
    async def test_an_error_of_the_body_comes_through_unchanged(self, error):
        body = Body(b"a" * 10, error=error, length=20)
        async with connected(OK) as server, Client(server) as client:
            with pytest.raises(type(error)) as raised:
                await client.fetch(method="POST", body=body)
            assert raised.value is error
            assert body.closed == 1
            assert (await client.fetch())[1] == b"answer"
        assert server.connections == 2
        assert len(server.received) == 1

    async def test_an_answer_that_comes_before_the_body_is_through(self):
        async def impatient(reader, writer):
            await loopback.read_head(reader)
            writer.write(loopback.answer(413, body=b"too large", Connection="close"))
            await writer.drain()
            await reader.read()

        body = Body(*[b"a" * 65536] * 4)
        async with (
            loopback.serving(impatient, server_context()) as server,
            Client(server) as client,
        ):
            answer, text = await client.fetch(method="POST", body=body)
        assert (answer.status, text) == (413, b"too large")


class TestWords:
    """Causes that are hard to make on loopback, as Python and anyio raise them."""

    setting = Setting(
        service_root="https://api.example/api",
        proxied=False,
        connect_seconds=1,
        silence_seconds=1,
        explain=lambda sent: "",
    )

    @pytest.mark.parametrize(
        ("cause", "said"),
        [
            (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
            (OSError("All connection attempts failed"), "the other side closed the connection"),
            (OSError(113, "kanari"), "No route to host"),
        ],
    )
    def test_the_operating_systems_words(self, cause, said):
        # Several addresses fail together; whoever wraps it cuts the cause, and leaves the context.
        several = OSError("All connection attempts failed")
        several.__cause__ = ExceptionGroup("multiple connection attempts failed", [cause])
        error = httpx.ConnectError("")
        error.__context__ = several
        told = failure(error, Trace(None), self.setting)
        assert str(told) == f"The service at https://api.example/api can't be reached: {said}."
        assert told.request_may_have_left is False

    def test_an_alert_that_no_one_foresaw(self):
        alert = ssl.SSLError(1, "")
        told = failure(alert, Trace(None, tls="TLSv1.3", sending=True), self.setting)
        assert isinstance(told, TlsError)
        assert told.request_may_have_left is True

    def test_a_cause_that_leads_to_itself(self):
        error = OSError()
        error.__context__ = other = OSError()
        other.__context__ = error
        assert failure(error, Trace(None), self.setting).request_may_have_left is True
