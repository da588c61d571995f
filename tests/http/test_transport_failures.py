"""The error for each failure of the network, and whether the request may have left."""

import asyncio
import socket
import ssl

import httpx
import loopback
import pytest
from transport_client import OK, Body, Client, connected, server_context

from posten_signering._http.failures import FailureContext, transport_error
from posten_signering._http.trace import Trace
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import TimeoutKind
from posten_signering.errors import (
    TlsError,
    TransportError,
    TransportTimeoutError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)
def version(request):
    return request.param


class TestFailures:
    async def test_after_a_refused_connection_nothing_was_sent(self):
        async with Client(loopback.Server(port=loopback.closed_port())) as client:
            with pytest.raises(TransportError, match="Connection refused") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False
        assert not isinstance(raised.value, TlsError | TransportTimeoutError)

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
    @pytest.mark.parametrize("silent", [True, False])
    async def test_a_proxy_variable_that_is_not_used_is_named(self, name, silent, monkeypatch):
        """The name of the variable only, because its value may have a password."""
        monkeypatch.setenv(name, "http://user:canary@proxy.invalid:8080")
        message = f"The variable {name} is set, but the client does not use it"
        async with loopback.silent_port() as listening:
            server = listening if silent else loopback.Server(port=loopback.closed_port())
            async with Client(server, connect_seconds=0.05) as client:
                with pytest.raises(TransportError, match=message) as raised:
                    await client.fetch()
        assert "POSTEN_SIGNERING_PROXY" in str(raised.value)
        assert "canary" not in str(raised.value)

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"HTTPS_PROXY": ""},
            {"HTTP_PROXY": "http://proxy.invalid"},
            {"HTTPS_PROXY": "http://proxy.invalid", "NO_PROXY": "localhost"},
        ],
    )
    async def test_without_a_proxy_for_the_service_in_the_variables_none_is_named(
        self, variables, monkeypatch
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        async with Client(loopback.Server(port=loopback.closed_port())) as client:
            with pytest.raises(TransportError, match=r"Connection refused\.$"):
                await client.fetch()

    async def test_a_client_with_a_proxy_names_no_variable(self, monkeypatch):
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
        closed = loopback.closed_port()
        proxy = Secret(f"http://127.0.0.1:{closed}")
        async with Client(loopback.Server(port=closed), proxy=proxy) as client:
            with pytest.raises(TransportError, match=r"through the proxy: Connection refused\.$"):
                await client.fetch()

    async def test_a_server_without_tls_causes_a_tls_error(self):
        async with loopback.serving(loopback.plain_refusal) as server, Client(server) as client:
            with pytest.raises(TlsError, match="TLS error: wrong version number") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_when_the_connection_is_lost_in_the_handshake_nothing_was_sent(self):
        async def hang_up(reader, writer):
            await reader.read(1)

        async with loopback.serving(hang_up) as server, Client(server) as client:
            with pytest.raises(TransportError, match="lost in the TLS handshake") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_when_the_handshake_times_out_nothing_was_sent(self):
        async with loopback.silent_port() as server, Client(server, connect_seconds=0.05) as client:
            with pytest.raises(TransportTimeoutError, match=r"within 0\.05 seconds") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False

    async def test_when_the_service_does_not_respond_the_request_may_have_left(self, version):
        async def never(received):
            await asyncio.Event().wait()

        async with connected(never, version) as server, Client(server, api_seconds=0.05) as client:
            with pytest.raises(TransportTimeoutError, match=r"silent for 0\.05 seconds") as raised:
                await client.fetch()
            assert raised.value.request_may_have_left is True
            assert len(server.received) == 1

    async def test_when_the_response_stops_the_request_may_have_left(self):
        content = loopback.answer(body=b"answer")[:-1]
        async with (
            connected(loopback.always(content)) as server,
            Client(server, download_seconds=0.05) as client,
        ):
            with pytest.raises(TransportTimeoutError, match=r"response .* stopped for") as raised:
                await client.fetch(timeout=TimeoutKind.DOWNLOAD)
        assert raised.value.request_may_have_left is True

    async def test_when_the_service_does_not_read_the_body_the_request_may_have_left(self):
        async def read_nothing(reader, writer):
            writer.transport.pause_reading()
            await asyncio.Event().wait()

        async with (
            loopback.serving(read_nothing, server_context()) as server,
            Client(server, api_seconds=0.1) as client,
        ):
            with pytest.raises(TransportTimeoutError) as raised:
                await client.fetch(method="POST", body=Body(*[b"a" * 65536] * 256))
        assert raised.value.request_may_have_left is True

    async def test_when_the_connection_is_lost_the_request_may_have_left(self, version):
        async with connected(loopback.always(None), version) as server, Client(server) as client:
            with pytest.raises(TransportError, match="lost before a response came") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True
        # check_access sends no body either, so it would not fail in a clearer way.
        assert "refusing the client certificate. The issuer delivers two" in str(raised.value)
        assert "check_access" not in str(raised.value)

    async def test_a_lost_request_with_a_body_advises_to_call_check_access(self, version):
        async with connected(loopback.always(None), version) as server, Client(server) as client:
            with pytest.raises(TransportError, match=r"Call check_access, which"):
                await client.fetch(method="POST", body=Body(b"small"))

    async def test_a_lost_keep_alive_connection_gives_no_hint_about_the_certificate(self):
        answers = iter([loopback.answer(body=b"first"), None])

        async def handler(received):
            return next(answers)

        async with connected(handler) as server, Client(server) as client:
            await client.fetch()
            with pytest.raises(TransportError, match="lost before a response came") as raised:
                await client.fetch()
        assert "check_access" not in str(raised.value)
        assert raised.value.request_may_have_left is True

    async def test_when_the_headers_are_incomplete_the_request_may_have_left(self):
        async with (
            connected(loopback.always(b"HTTP/1.1 200 OK\r\nConnection: close")) as server,
            Client(server) as client,
        ):
            with pytest.raises(TransportError, match="lost before a response came") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True

    @pytest.mark.parametrize("reset", [False, True])
    async def test_when_the_response_is_cut_off_the_request_may_have_left(self, version, reset):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"

        async def cut(reader, writer):
            await loopback.read_head(reader)
            writer.write(head)
            await writer.drain()
            if reset:
                loopback.reset(writer)

        async with (
            loopback.serving(cut, server_context(version)) as server,
            Client(server) as client,
            client.transport.exchange(client.request()) as response,
        ):
            with pytest.raises(TransportError, match="was cut off") as raised:
                assert [chunk async for chunk in response.chunks()]
            # Reading further does not look like a complete response.
            with pytest.raises(TransportError, match="interrupted"):
                assert [chunk async for chunk in response.chunks()]
        assert raised.value.request_may_have_left is True

    async def test_a_response_that_is_not_http_is_refused_without_showing_it(self):
        async with (
            connected(loopback.always(b"SSH-2.0-canary\r\n\r\n")) as server,
            Client(server) as client,
        ):
            with pytest.raises(TransportError, match=r"is not HTTP/1\.1") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True
        assert "canary" not in str(raised.value)

    @pytest.mark.parametrize("error", [LookupError("mine"), OSError(5, "mine"), TimeoutError()])
    async def test_an_error_of_the_request_body_is_not_changed(self, error):
        body = Body(b"a" * 10, error=error, length=20)
        async with connected(OK) as server, Client(server) as client:
            with pytest.raises(type(error)) as raised:
                await client.fetch(method="POST", body=body)
            assert raised.value is error
            assert body.closed == 1
            assert (await client.fetch())[1] == b"answer"
        assert server.connections == 2
        assert len(server.received) == 1

    async def test_a_response_is_received_even_before_the_whole_body_was_sent(self):
        async def refuse_early(reader, writer):
            await loopback.read_head(reader)
            writer.write(loopback.answer(413, body=b"too large", Connection="close"))
            await writer.drain()
            await reader.read()

        body = Body(*[b"a" * 65536] * 4)
        async with (
            loopback.serving(refuse_early, server_context()) as server,
            Client(server) as client,
        ):
            response, text = await client.fetch(method="POST", body=body)
        assert (response.status, text) == (413, b"too large")


class TestCauses:
    """Causes that are hard to produce on loopback, as Python and anyio raise them."""

    context = FailureContext(
        service_root="https://api.example/api",
        proxied=False,
        connect_seconds=1,
        silence_seconds=1,
        explain=lambda sent: "",
    )

    @pytest.mark.parametrize(
        ("cause", "reason"),
        [
            (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
            (OSError("All connection attempts failed"), "the other side closed the connection"),
            (OSError(113, "canary"), "No route to host"),
        ],
    )
    def test_the_message_has_the_operating_systems_text(self, cause, reason):
        # The host has several addresses, and all fail. httpx keeps only the context of the exception.
        all_failed = OSError("All connection attempts failed")
        all_failed.__cause__ = ExceptionGroup("multiple connection attempts failed", [cause])
        error = httpx.ConnectError("")
        error.__context__ = all_failed
        raised = transport_error(error, Trace(None), self.context)
        assert str(raised) == f"The service at https://api.example/api can't be reached: {reason}."
        assert raised.request_may_have_left is False

    def test_after_an_unknown_tls_alert_the_request_may_have_left(self):
        alert = ssl.SSLError(1, "")
        trace = Trace(None, tls="TLSv1.3", request_begun=True)
        raised = transport_error(alert, trace, self.context)
        assert isinstance(raised, TlsError)
        assert raised.request_may_have_left is True

    def test_a_cycle_of_exception_contexts_is_followed_once(self):
        error = OSError()
        error.__context__ = other = OSError()
        other.__context__ = error
        assert transport_error(error, Trace(None), self.context).request_may_have_left is True
