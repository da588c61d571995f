"""The transport over real TLS on loopback: what it sends and receives, and when it reuses a connection."""

import asyncio
import ssl

import loopback
import pytest
from transport_client import OK, Body, Client, connected

from posten_signering._http import transport
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Request, TimeoutKind, Transport
from posten_signering.errors import (
    ClientStateError,
    ConfigurationError,
    TransportError,
    UnexpectedResponseError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)
def version(request):
    return request.param


class TestOnTheWire:
    async def test_a_request_is_sent_and_its_response_received(self, version):
        async with connected(OK, version) as server, Client(server) as client:
            response, body = await client.fetch(
                "/api/job?a=%C3%A6&b", headers={"accept": "text/xml"}
            )
        assert (response.status, response.headers["x-header"], body) == (200, "value", b"answer")
        [received] = server.received
        assert (received.method, received.target) == ("GET", "/api/job?a=%C3%A6&b")
        assert received.headers == {
            "host": f"localhost:{server.port}",
            "accept": "text/xml",
            "accept-encoding": "identity",
            "user-agent": "posten-signering/1 (Python)",
        }
        assert server.server_names == ["localhost"]

    async def test_a_body_is_sent_with_its_content_length(self, version):
        body = Body(b"a" * 70_000, b"b")
        async with connected(OK, version) as server, Client(server) as client:
            await client.fetch(method="POST", body=body)
        [received] = server.received
        assert received.headers["content-length"] == "70001"
        assert "transfer-encoding" not in received.headers
        assert received.body == b"a" * 70_000 + b"b"
        assert body.closed == 1

    async def test_a_body_may_be_an_iterator_without_aclose(self):
        class Plain:
            length = 1

            def chunks(self):
                remaining = [b"a"]

                class Iterator:
                    def __aiter__(self):
                        return self

                    async def __anext__(self):
                        if not remaining:
                            raise StopAsyncIteration
                        return remaining.pop()

                return Iterator()

        async with connected(OK) as server, Client(server) as client:
            await client.fetch(method="POST", body=Plain())
        assert server.received[0].body == b"a"

    @pytest.mark.parametrize(("method", "length"), [("POST", "0"), ("GET", None), ("DELETE", None)])
    async def test_only_a_post_without_a_body_has_a_content_length(self, method, length):
        async with connected(OK) as server, Client(server) as client:
            await client.fetch(method=method)
        assert server.received[0].headers.get("content-length") == length

    async def test_it_implements_the_transport_protocol(self):
        async with connected(OK) as server, Client(server) as client:
            transport: Transport = client.transport
            async with transport.exchange(client.request()) as response:
                assert response.status == 200

    async def test_a_redirect_is_not_followed(self):
        moved = loopback.always(loopback.answer(302, Location="https://localhost/elsewhere"))
        async with connected(moved) as server, Client(server) as client:
            response, _ = await client.fetch()
        assert response.status == 302
        assert len(server.received) == 1

    async def test_values_of_a_repeated_header_are_joined(self):
        content = loopback.answer(body=b"a", Via="1.1 a").replace(b"Via", b"Via: 1.1 b\r\nVIA")
        async with connected(loopback.always(content)) as server, Client(server) as client:
            response, _ = await client.fetch()
        assert response.headers["via"] == "1.1 b, 1.1 a"

    async def test_a_large_response_is_received_completely(self):
        content = bytes(range(256)) * 4096
        async with (
            connected(loopback.always(loopback.answer(body=content))) as server,
            Client(server) as client,
        ):
            assert (await client.fetch(timeout=TimeoutKind.DOWNLOAD))[1] == content

    async def test_large_chunks_cause_no_needless_turn_of_the_event_loop(self, monkeypatch):
        """httpcore waits between them."""

        async def refuse() -> None:
            raise AssertionError("a needless turn")

        body = (b"800\r\n" + b"x" * 0x800 + b"\r\n") * 100 + b"0\r\n\r\n"
        content = loopback.answer(204, Transfer_Encoding="chunked").replace(b"204", b"200") + body
        async with connected(loopback.always(content)) as server, Client(server) as client:
            monkeypatch.setattr(transport.anyio.lowlevel, "checkpoint", refuse)
            assert (await client.fetch())[1] == b"x" * 0x800 * 100
            monkeypatch.undo()

    async def test_tiny_chunks_that_arrive_together_do_not_block_the_event_loop(self):
        """Without a pause, all chunks of one read of the socket pass in one turn of the event loop."""
        chunks = 10_000
        body = b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"
        content = loopback.answer(204, Transfer_Encoding="chunked").replace(b"204", b"200") + body
        turns = 0

        async def count_turns():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with connected(loopback.always(content)) as server, Client(server) as client:
            counting = asyncio.create_task(count_turns())
            async with client.transport.exchange(client.request()) as response:
                turns = 0
                assert len([chunk async for chunk in response.chunks()]) == chunks
            counting.cancel()
        assert turns >= chunks / 100


class TestContentEncoding:
    @pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip"])
    async def test_a_content_encoding_is_refused(self, coding):
        content = loopback.answer(body=b"canary", Content_Encoding=coding)
        async with connected(loopback.always(content)) as server, Client(server) as client:
            with pytest.raises(UnexpectedResponseError, match="did not ask for"):
                await client.fetch()

    @pytest.mark.parametrize("coding", ["identity", "Identity", ""])
    async def test_the_encoding_identity_is_accepted(self, coding):
        content = loopback.answer(body=b"canary", Content_Encoding=coding)
        async with connected(loopback.always(content)) as server, Client(server) as client:
            assert (await client.fetch())[1] == b"canary"


class TestConnections:
    async def test_a_connection_is_reused(self, version):
        async with connected(OK, version) as server, Client(server) as client:
            for _ in range(3):
                await client.fetch()
        assert server.connections == 1

    @pytest.mark.parametrize("content", [loopback.answer(204), loopback.answer(200)])
    async def test_after_an_empty_response_the_connection_is_reused_without_reading(self, content):
        async with connected(loopback.always(content)) as server, Client(server) as client:
            for _ in range(3):
                async with client.transport.exchange(client.request(method="POST")):
                    pass
            assert (await client.fetch())[1] == b""
        assert server.connections == 1

    async def test_a_connection_is_not_reused_when_its_response_was_not_read_to_the_end(self):
        async with connected(OK) as server, Client(server) as client:
            async with client.transport.exchange(client.request()):
                pass
            async with client.transport.exchange(client.request()) as response:
                async for _ in response.chunks():
                    break
            await client.fetch()
        assert server.connections == 3

    async def test_an_error_of_the_caller_does_not_affect_the_next_call(self):
        async with connected(OK) as server, Client(server) as client:

            async def fail(*, read):
                async with client.transport.exchange(client.request()) as response:
                    if read:
                        assert [chunk async for chunk in response.chunks()]
                    raise LookupError

            for read in (True, False):
                with pytest.raises(LookupError):
                    await fail(read=read)
            await client.fetch()
        assert server.connections == 2

    async def test_a_connection_that_the_service_closed_is_replaced(self):
        closing = loopback.always(loopback.answer(body=b"a", Connection="close"))
        async with connected(closing) as server, Client(server) as client:
            for _ in range(2):
                assert (await client.fetch())[1] == b"a"
        assert server.connections == 2

    async def test_another_task_may_end_an_exchange(self):
        async with connected(OK) as server, Client(server) as client:
            exchange = client.transport.exchange(client.request())
            await asyncio.create_task(exchange.__aenter__())
            await asyncio.create_task(exchange.__aexit__(None, None, None))
            assert (await client.fetch())[1] == b"answer"

    async def test_a_response_can_be_read_once(self):
        async with connected(OK) as server, Client(server) as client:
            request = client.request()
            async with client.transport.exchange(request) as response:
                assert [chunk async for chunk in response.chunks()] == [b"answer"]
                assert [chunk async for chunk in response.chunks()] == []

    async def test_a_closed_transport_raises_a_clear_error(self):
        async with connected(OK) as server:
            async with Client(server) as client:
                await client.fetch()
            await client.transport.aclose()
            with pytest.raises(ClientStateError, match="is closed"):
                await client.fetch()

    async def test_closing_ends_calls_in_flight(self):
        arrived = asyncio.Event()

        async def never(received):
            arrived.set()
            await asyncio.Event().wait()

        async with connected(never) as server, Client(server) as client:
            call = asyncio.create_task(client.fetch())
            await arrived.wait()
            await client.transport.aclose()
            with pytest.raises(TransportError):
                await call

    async def test_a_user_agent_with_a_line_break_is_refused(self):
        with pytest.raises(ConfigurationError, match="user agent") as raised:
            Client(loopback.Server(port=1), user_agent="a\r\nX: canary")
        assert "canary" not in str(raised.value)


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "https://elsewhere.example/canary",
            "https://localhost/canary",
            "http://localhost:{port}/canary",
            "https://localhost:{port}@elsewhere.example/canary",
            "https://canary@localhost:{port}/",
            "https://localhost.:{port}/canary",
            "https://127.0.0.1:{port}/canary",
            "//localhost:{port}/canary",
            "/canary",
            "",
            "https://localhost:{port}/kan\nari",
            "https://localhost:{port}/kan ari",
            "https://localhost:{port}\\@elsewhere.example/canary",
            "https://løcalhost:{port}/canary",
            "https://localhost:0{port}0/canary",
            "https://localhost:0/canary",
            "https://localhost:65536/canary",
            "https://[::1::2]:{port}/canary",
            "https://[::1:{port}/canary",
            "https://999.1.1.1:{port}/canary",
        ],
    )
    async def test_a_url_with_a_different_origin_is_not_followed(self, url):
        async with connected(OK) as server, Client(server) as client:
            request = Request(method="GET", url=Secret(url.format(port=server.port)))
            with pytest.raises(UntrustedUrlError, match="was not followed") as raised:
                async with client.transport.exchange(request):
                    pass
            assert "canary" not in str(raised.value)
            assert server.connections == 0

    async def test_upper_case_is_the_same_origin(self):
        async with connected(OK) as server, Client(server) as client:
            url = server.url("/api", host="LOCALHOST", scheme="HTTPS")
            async with client.transport.exchange(
                Request(method="GET", url=Secret(url))
            ) as response:
                assert response.status == 200

    async def test_a_url_that_is_too_long_for_httpx_is_refused(self):
        async with connected(OK) as server, Client(server) as client:
            with pytest.raises(UntrustedUrlError, match="URL is not valid") as raised:
                await client.fetch("/" + "canary" * 20_000)
            assert "canary" not in str(raised.value)
            assert raised.value.__context__ is None
