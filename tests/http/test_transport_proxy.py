"""Requests through a proxy: what the proxy receives, what it is not trusted with, and errors."""

import base64
import hashlib
import ssl

import loopback
import pki
import pytest
from transport_client import OK, Client, connected

from posten_signering import CertificateAuthority, Environment, TrustAnchors
from posten_signering._values.secret import Secret
from posten_signering.errors import (
    ConfigurationError,
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


async def test_only_the_proxy_receives_its_user_and_password(version):
    async with connected(OK, version) as server, loopback.connect_proxy() as proxy:
        address = Secret(f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        async with Client(server, proxy=address) as client:
            assert (await client.fetch())[1] == b"answer"
            assert (await client.fetch())[1] == b"answer"
    [received] = proxy.received
    assert (received.method, received.target) == ("CONNECT", f"localhost:{server.port}")
    assert base64.b64decode(received.headers["proxy-authorization"][6:]) == b"user:p@ss"
    assert all("proxy-authorization" not in request.headers for request in server.received)


async def test_a_certificate_that_the_proxy_forged_for_the_service_is_not_trusted(version):
    forged = pki.issue(
        pki.subject("Posten Bring AS", organization_identifier=f"NTRNO-{pki.SERVICE}"),
        pki.root("Proxy"),
    )
    async with (
        connected(OK, version, issued=forged) as server,
        loopback.connect_proxy() as proxy,
        Client(server, proxy=Secret(f"http://127.0.0.1:{proxy.port}")) as client,
    ):
        with pytest.raises(TlsError, match="is not trusted") as raised:
            await client.fetch()
    assert raised.value.request_may_have_left is False
    assert server.received == []


async def test_when_the_proxy_requires_a_password_nothing_was_sent():
    refusal = loopback.answer(407, body=b"canary", Connection="close")
    async with loopback.connect_proxy(refusal) as proxy:
        address = Secret(f"http://127.0.0.1:{proxy.port}")
        async with Client(loopback.Server(port=1), proxy=address) as client:
            with pytest.raises(TransportError, match=r"proxy .* HTTP 407") as raised:
                await client.fetch()
    assert raised.value.request_may_have_left is False


async def test_when_the_proxy_does_not_respond_nothing_was_sent():
    async with loopback.connect_proxy(silent=True) as proxy:
        address = Secret(f"http://127.0.0.1:{proxy.port}")
        async with Client(loopback.Server(port=1), proxy=address, api_seconds=0.05) as client:
            with pytest.raises(TransportTimeoutError, match="proxy did not open") as raised:
                await client.fetch()
    assert raised.value.request_may_have_left is False


async def test_when_the_proxy_closes_the_connection_nothing_was_sent():
    async def hang_up(reader, writer):
        await loopback.read_head(reader)

    async with loopback.serving(hang_up) as proxy:
        address = Secret(f"http://127.0.0.1:{proxy.port}")
        async with Client(loopback.Server(port=1), proxy=address) as client:
            with pytest.raises(TransportError, match="through the proxy") as raised:
                await client.fetch()
    assert raised.value.request_may_have_left is False


async def test_when_the_proxy_refuses_the_connection_nothing_was_sent():
    address = Secret(f"http://user:canary@127.0.0.1:{loopback.closed_port()}")
    async with Client(loopback.Server(port=1), proxy=address) as client:
        with pytest.raises(TransportError, match="through the proxy: Connection") as raised:
            await client.fetch()
    assert raised.value.request_may_have_left is False
    assert "canary" not in str(raised.value)


async def test_when_a_proxy_with_an_https_url_has_no_tls_nothing_was_sent():
    async with loopback.serving(loopback.plain_refusal) as proxy:
        address = Secret(f"https://127.0.0.1:{proxy.port}")
        async with Client(loopback.Server(port=1), proxy=address) as client:
            with pytest.raises(
                TransportError, match="TLS connection to the proxy failed"
            ) as raised:
                await client.fetch()
    assert raised.value.request_may_have_left is False


async def test_when_the_connection_is_lost_behind_the_proxy_the_request_may_have_left():
    async with connected(loopback.always(None)) as server, loopback.connect_proxy() as proxy:
        address = Secret(f"http://127.0.0.1:{proxy.port}")
        async with Client(server, proxy=address) as client:
            with pytest.raises(TransportError) as raised:
                await client.fetch()
    assert raised.value.request_may_have_left is True


async def test_proxy_variables_of_the_environment_are_ignored(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{loopback.closed_port()}")
    async with connected(OK) as server, Client(server) as client:
        assert (await client.fetch())[1] == b"answer"


# --- A proxy with an https URL


def proxy_tls(host="localhost", authority="Web CA"):
    """The TLS context of a proxy whose certificate is for the host."""
    return pki.server_context(pki.issue(pki.subject(host), pki.root(authority), host=host))


@pytest.fixture
def public_authority(monkeypatch, tmp_path):
    """Makes "Web CA" the only authority in certifi's file."""
    path = tmp_path / "certifi.pem"
    path.write_bytes(pki.root("Web CA").pem)
    monkeypatch.setattr("posten_signering._http.tls.certifi.where", lambda: str(path))


@pytest.fixture
def environment_variables(monkeypatch, tmp_path):
    """Sets variables that name a different authority, and a file for session keys. Both are ignored."""
    path = tmp_path / "environment.pem"
    path.write_bytes(pki.root("Environment CA").pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    yield
    assert not (tmp_path / "keys.log").exists(), "session keys were written"


@pytest.mark.usefixtures("public_authority", "environment_variables")
async def test_a_proxy_with_a_public_certificate_is_trusted(version):
    async with (
        connected(OK, version) as server,
        loopback.connect_proxy(context=proxy_tls()) as proxy,
    ):
        address = Secret(f"HTTPS://user:p%40ss@localhost:{proxy.port}")
        async with Client(server, proxy=address) as client:
            assert (await client.fetch())[1] == b"answer"
    [received] = proxy.received
    assert base64.b64decode(received.headers["proxy-authorization"][6:]) == b"user:p@ss"
    assert proxy.server_names == ["localhost"]


@pytest.mark.usefixtures("public_authority", "environment_variables")
@pytest.mark.parametrize(
    "presented",
    [{"authority": "Environment CA"}, {"authority": "Nobody's CA"}, {"host": "elsewhere.example"}],
    ids=str,
)
async def test_a_proxy_with_any_other_certificate_is_not_trusted(presented):
    """From an authority that only an environment variable names, an unknown one, or for another host."""
    async with (
        connected(OK) as server,
        loopback.connect_proxy(context=proxy_tls(**presented)) as proxy,
    ):
        async with Client(server, proxy=Secret(f"https://localhost:{proxy.port}")) as client:
            with pytest.raises(TlsError, match="proxy's certificate is not trusted") as raised:
                await client.fetch()
        assert (proxy.received, server.connections) == ([], 0)
    assert raised.value.request_may_have_left is False
    assert raised.value.__context__ is None


def local():
    """An environment with one authority, which is published at a URL."""
    root = CertificateAuthority(
        name="Root",
        sha256=hashlib.sha256(pki.root().der).hexdigest(),
        published_at="http://ca.invalid/root.cer",
    )
    return Environment(name="L", service_root="https://localhost/api", authorities=[root])


@pytest.mark.usefixtures("public_authority", "environment_variables")
@pytest.mark.parametrize("authority", ["Web CA", "Environment CA"])
async def test_trust_anchors_are_fetched_through_an_https_proxy(authority, caplog):
    pages = loopback.always(loopback.answer(body=pki.root().der))
    async with loopback.http_server(pages, proxy_tls(authority=authority)) as proxy:
        fetching = TrustAnchors.fetch(local(), proxy=f"https://localhost:{proxy.port}")
        if authority == "Web CA":
            assert (await fetching).candidates == (pki.root().der,)
            return
        with pytest.raises(ConfigurationError, match="None of"):
            await fetching
        assert proxy.received == []
    assert "the proxy's certificate is not trusted" in caplog.text


# --- Validation of the proxy's URL

INVALID_PROXIES = [
    "http://proxy.example:65536",
    "http://proxy.example:0",
    "http://proxy.example:99999",
    "http://[::1::2]:8080",
    "http://[1.2.3.4]:8080",
    "https://[fe80::1%25eth0]:8080",
    "http://999.1.1.1:8080",
    "http://1.2.3.4.5.6:port",
    "http://ca\u007fnary@proxy.example",
    "http://ca\ud800nary@proxy.example",
    "http://canary@proxy.example/path",
    "http://canary@proxy.example?query",
    "http://canary@canary@proxy.example",
    "socks5://user:canary@proxy.example",
    "proxy.example:8080",
    "http://",
    "",
]


@pytest.mark.parametrize("url", INVALID_PROXIES, ids=ascii)
async def test_an_invalid_proxy_url_is_refused_immediately(url):
    with pytest.raises(ConfigurationError, match="proxy must be") as raised:
        Client(loopback.Server(port=1), proxy=Secret(url))
    assert "nary" not in str(raised.value)
    assert raised.value.__context__ is None
    with pytest.raises(ConfigurationError, match="proxy must be"):
        await TrustAnchors.fetch(local(), proxy=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example:65535",
        "HTTP://proxy.example:1/",
        "http://user:p%40ss@[::1]:8080",
        "http://us\u00e6r:p:q@10.0.0.1",
        "https://proxy_1.example",
        "http://1234567:8080",
    ],
    ids=ascii,
)
async def test_a_valid_proxy_url_is_accepted(url):
    async with Client(loopback.Server(port=1), proxy=Secret(url)):
        pass
