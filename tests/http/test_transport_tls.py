"""Which services are trusted, and the error when the service refuses the client's certificate."""

import asyncio
import ssl

import loopback
import pki
import pytest
from transport_client import OK, Body, Client, alerting, connected, context_for, server_context

from posten_signering.errors import (
    TlsError,
    TransportError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)
def version(request):
    return request.param


class TestUntrustedServices:
    async def message(self, version, *, issued=None, context):
        """The error's message. Nothing of the request may have been sent."""
        async with (
            connected(OK, version, issued=issued) as server,
            Client(server, context=context) as client,
        ):
            with pytest.raises(TlsError) as raised:
                await client.fetch(method="POST", body=Body(b"canary"))
            assert server.received == []
            assert raised.value.request_may_have_left is False
            assert raised.value.__cause__ is None
            assert raised.value.__context__ is None
            return str(raised.value)

    async def test_a_certificate_of_an_unknown_issuer_is_refused(self, version):
        message = await self.message(version, context=context_for(pki.root("Other")))
        assert "is not trusted (unable to get local issuer certificate). Sent: 2." in message

    async def test_a_certificate_of_a_different_organisation_is_refused(self, version):
        other = pki.service("111111111")
        message = await self.message(version, issued=other, context=context_for())
        assert "belongs to organisation 111111111, not to 984661185" in message

    async def test_a_certificate_without_an_organisation_is_refused(self, version):
        without = pki.issue(pki.subject("Nobody"), pki.root())
        message = await self.message(version, issued=without, context=context_for())
        assert "belongs to no organisation, not to 984661185" in message

    async def test_every_new_connection_is_checked(self):
        closing = loopback.always(loopback.answer(Connection="close"))
        async with connected(closing) as server, Client(server) as client:
            await client.fetch()
            port = server.port
            impostor = await asyncio.start_server(
                lambda *_: None,
                "127.0.0.1",
                0,
                ssl=server_context(issued=pki.service("111111111")),
            )
            client.server = loopback.Server(port=impostor.sockets[0].getsockname()[1])
            client.transport._service_root = client.server.url("/api")
            with pytest.raises(TlsError, match="organisation 111111111"):
                await client.fetch()
            impostor.close()
        assert port != client.server.port


class TestRefusedClients:
    """The service refuses the client's certificate."""

    @staticmethod
    def of_unknown_issuer():
        name = pki.subject("Stranger", organization_identifier=f"NTRNO-{pki.SENDER}")
        return pki.issue(name, pki.root("Other"))

    @staticmethod
    def expired():
        name = pki.subject("Expired", organization_identifier=f"NTRNO-{pki.SENDER}")
        return pki.issue(name, pki.root(), not_after=pki.NOW - pki.timedelta(hours=1))

    async def message(self, version, context):
        """The error's message. Nothing of the request may have been received."""
        async with alerting(version) as server, Client(server, context=context) as client:
            for request in ({}, {"method": "POST", "body": Body(b"small")}):
                with pytest.raises(TlsError) as raised:
                    await client.fetch(**request)
                assert raised.value.request_may_have_left is False
                assert raised.value.__context__ is None
            assert server.received == []
        return str(raised.value)

    async def test_the_error_says_that_the_issuer_is_unknown(self, version):
        certificate = self.of_unknown_issuer().enterprise()
        message = await self.message(version, context_for(certificate=certificate))
        assert "does not know the issuer of the client certificate" in message
        assert "the one for authentication" in message

    async def test_the_error_says_that_the_client_certificate_has_expired(self, version):
        certificate = self.expired().enterprise()
        message = await self.message(version, context_for(certificate=certificate))
        assert "says that the client certificate has expired" in message

    async def test_a_missing_client_certificate_is_mentioned_in_the_error(self, version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=pki.root().der)
        message = await self.message(version, context)
        assert "client certificate" in message

    async def test_a_handshake_without_a_shared_cipher_is_not_blamed_on_the_certificate_alone(self):
        context = context_for()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        served = server_context(ssl.TLSVersion.TLSv1_2)
        served.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")
        answer = loopback.answer(body=b"answer")
        async with (
            loopback.alerting_server(answer, served) as server,
            Client(server, context=context) as client,
        ):
            with pytest.raises(TlsError, match="supports none of the client's cipher") as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is False
        assert "or it received no client certificate" in str(raised.value)

    async def test_a_refused_certificate_is_reported_while_a_large_body_is_sent(self, version):
        context = context_for(certificate=self.of_unknown_issuer().enterprise())
        async with alerting(version) as server, Client(server, context=context) as client:
            with pytest.raises(TlsError, match="does not know the issuer of the client"):
                await client.fetch(method="POST", body=Body(*[b"a" * 65536] * 64))
            assert server.received == []

    async def test_the_error_mentions_the_client_certificate_when_the_server_sends_no_alert(
        self, version
    ):
        """asyncio's server does this."""
        context = context_for(certificate=self.of_unknown_issuer().enterprise())
        async with connected(OK, version) as server, Client(server, context=context) as client:
            with pytest.raises(TransportError, match="client certificate") as raised:
                await client.fetch()
            assert server.received == []
        assert raised.value.request_may_have_left is (version is ssl.TLSVersion.TLSv1_3)

    async def test_an_accepted_client_certificate_gets_a_response(self, version):
        async with alerting(version) as server, Client(server) as client:
            assert (await client.fetch())[1] == b"answer"
            assert len(server.received) == 1

    async def test_after_an_alert_on_a_keep_alive_connection_the_request_may_have_left(self):
        answers = [loopback.answer(body=b"first")]

        async def handler(received):
            if answers:
                return answers.pop()
            # The alert of a server that checks the certificate again, in a TLS 1.2 renegotiation.
            [writer] = server.writers
            writer.transport._ssl_protocol._transport.write(b"\x15\x03\x03\x00\x02\x02\x2a")
            await asyncio.Event().wait()
            return None

        async with connected(handler, ssl.TLSVersion.TLSv1_2) as server, Client(server) as client:
            await client.fetch()
            with pytest.raises(TlsError) as raised:
                await client.fetch()
        assert raised.value.request_may_have_left is True
