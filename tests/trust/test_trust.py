"""Trust anchors: what counts as a candidate, what is kept, what a person is told."""

import base64
import hashlib
import logging

import certifi
import loopback
import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from posten_signering import CertificateAuthority, Environment, TrustAnchors
from posten_signering._trust.anchors import explain_untrusted
from posten_signering.errors import ConfigurationError

pytestmark = pytest.mark.anyio


def authority(issued, **more):
    return CertificateAuthority(
        name=issued.name, sha256=hashlib.sha256(issued.der).hexdigest(), **more
    )


def environment(*authorities, name="LOCAL"):
    return Environment(name=name, service_root="https://localhost/api", authorities=authorities)


class TestCandidates:
    def test_every_file_of_a_directory_in_pem_or_der(self, tmp_path):
        one, two, three = pki.root(), pki.intermediate(), pki.intermediate("Sender CA")
        (tmp_path / "a.cer").write_bytes(one.der)
        (tmp_path / "b.pem").write_bytes(b"# a comment\r\n" + two.pem + three.pem)
        (tmp_path / "directory").mkdir()
        (tmp_path / ".hidden").write_bytes(b"of a file manager")

        anchors = TrustAnchors.from_directory(tmp_path)

        assert anchors.candidates == (one.der, two.der, three.der)
        assert TrustAnchors.from_directory(str(tmp_path)) == anchors
        assert repr(anchors) == "TrustAnchors(3 candidates, 0 trusted)"

    def test_a_certificate_with_a_short_content_is_found_too(self, tmp_path):
        """Of an elliptic curve and with a short name: its content's length takes one byte."""
        key = ec.generate_private_key(ec.SECP256R1())
        small = pki.issue(pki.subject("EC"), ca=True, key=key, usage=None)
        assert len(small.certificate.tbs_certificate_bytes) < 256 < len(small.der)
        (tmp_path / "small.cer").write_bytes(small.der)
        assert TrustAnchors.from_directory(tmp_path).candidates == (small.der,)
        assert TrustAnchors().trusting(small.der).trusted == (small.der,)

    def test_files_that_hold_no_certificate_are_named(self, tmp_path):
        (tmp_path / "a.cer").write_bytes(pki.root().der)
        (tmp_path / "README").write_bytes(b"These are the anchors")
        (tmp_path / "key.pem").write_bytes(pki.root().key_pem)
        with pytest.raises(ConfigurationError, match=r"README, .*key\.pem") as raised:
            TrustAnchors.from_directory(tmp_path)
        assert "a.cer" not in str(raised.value)

    @pytest.mark.parametrize(
        "content",
        [
            pki.root().der[:-1],
            pki.root().der + b"\n",
            pki.sender().p12(b"a"),
            pki.sender().key.private_bytes(
                Encoding.DER,
                pki.serialization.PrivateFormat.PKCS8,
                pki.serialization.NoEncryption(),
            ),
            pki.sender().key.private_bytes(
                Encoding.DER,
                pki.serialization.PrivateFormat.PKCS8,
                pki.serialization.BestAvailableEncryption(b"a"),
            ),
            pkcs7.serialize_certificates([pki.root().certificate], Encoding.DER),
            b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
            b"",
        ],
        ids=["cut off", "longer", "pkcs12", "key", "encrypted key", "pkcs7", "no base64", "empty"],
    )
    def test_what_is_no_certificate(self, content, tmp_path):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ConfigurationError, match="hold no certificate"):
            TrustAnchors.from_files(tmp_path / "a")

    def test_a_directory_that_is_none(self, tmp_path):
        for path in (tmp_path / "missing", tmp_path / "file"):
            (tmp_path / "file").write_bytes(pki.root().der)
            with pytest.raises(ConfigurationError, match="directory of trust anchors"):
                TrustAnchors.from_directory(path)

    def test_a_file_that_is_missing(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"missing\.cer can't be read: No such file"):
            TrustAnchors.from_files(tmp_path / "missing.cer")

    def test_a_text_in_pem_form(self):
        assert TrustAnchors.from_pem(pki.root().pem).candidates == (pki.root().der,)
        with pytest.raises(ConfigurationError, match="no certificate in PEM form"):
            TrustAnchors.from_pem(b"")

    def test_what_is_written_can_be_read_again(self, tmp_path):
        anchors = TrustAnchors.from_pem(pki.root().pem + pki.intermediate().pem)
        anchors.write_to(tmp_path / "deep" / "down")
        again = TrustAnchors.from_directory(tmp_path / "deep" / "down")
        assert set(again.candidates) == set(anchors.candidates)

        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="can't be written to"):
            anchors.write_to(tmp_path / "file")


class TestSelection:
    def test_what_is_pinned_is_kept_and_nothing_else(self):
        anchors = TrustAnchors.from_pem(pki.root().pem + pki.root("Other").pem + pki.root().pem)
        local = environment(authority(pki.root()))
        assert anchors.select(local, certificate=None) == (pki.root().der,)

    def test_nothing_pinned_is_an_error_that_says_where_to_get_it(self):
        local = environment(authority(pki.root(), published_at="http://ca.example/root.cer"))
        with pytest.raises(ConfigurationError, match="no trust anchor for LOCAL") as raised:
            TrustAnchors.from_pem(pki.root("Other").pem).select(local, certificate=None)
        assert "http://ca.example/root.cer (Root)" in str(raised.value)
        assert "TrustAnchors.fetch" in str(raised.value)

    def test_the_message_of_the_test_environment_names_its_addresses(self):
        with pytest.raises(ConfigurationError, match=r"STAGING.*crt\.test4\.buypassca\.com"):
            TrustAnchors().select(Environment.STAGING, certificate=None)

    def test_an_environment_without_authorities_needs_names(self):
        with pytest.raises(ConfigurationError, match=r"TrustAnchors\.trusting"):
            TrustAnchors.from_pem(pki.root().pem).select(environment(), certificate=None)

    def test_anchors_of_another_environment_are_not_used(self):
        production = environment(authority(pki.root("Production")), name="A")
        test = environment(authority(pki.root("Test")), name="B")
        both = TrustAnchors.from_pem(pki.root("Production").pem + pki.root("Test").pem)
        assert both.select(production, certificate=None) == (pki.root("Production").der,)
        assert both.select(test, certificate=None) == (pki.root("Test").der,)

    def test_the_certificates_of_ones_own_p12_are_candidates(self):
        local = environment(authority(pki.intermediate("Sender CA")))
        own = pki.sender().enterprise()
        selected = TrustAnchors().select(local, certificate=own)
        assert selected == (pki.intermediate("Sender CA").der,)

    def test_certifi_holds_one_root_of_production(self):
        [found] = TrustAnchors().select(Environment.PRODUCTION, certificate=None)
        name = x509.load_der_x509_certificate(found).subject.rfc4514_string()
        assert name == "CN=Buypass Class 3 Root CA,O=Buypass AS-983163327,C=NO"

    def test_certifi_is_no_trust_store(self):
        pem = certifi.contents().split("-----BEGIN CERTIFICATE-----\n")[1]
        der = base64.b64decode(pem.partition("-----END")[0])
        assert der not in TrustAnchors().select(Environment.PRODUCTION, certificate=None)

    def test_others_are_trusted_by_name(self, tmp_path):
        (tmp_path / "root.cer").write_bytes(pki.root().der)
        trusting = TrustAnchors().trusting(tmp_path / "root.cer", pki.root("Other").pem)
        selected = trusting.select(Environment.STAGING, certificate=None)
        assert selected == (pki.root().der, pki.root("Other").der)
        assert TrustAnchors().trusted == ()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"kanari",
            # The frame of a certificate around nothing.
            b"-----BEGIN CERTIFICATE-----\nMIIABA==\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_what_is_trusted_must_be_a_certificate(self, content):
        with pytest.raises(ConfigurationError, match="not a certificate"):
            TrustAnchors().trusting(pki.root().pem, content)


class TestFetch:
    async def fetched(self, contents, *, pins=None, **more):
        """What `fetch` keeps of a server with these answers, by path."""

        async def handler(received):
            return contents[received.target]

        async with loopback.http_server(handler) as server:
            names = pins or {"/root.cer": pki.root()}
            local = environment(
                *(
                    authority(issued, published_at=server.url(path, scheme="http"))
                    for path, issued in names.items()
                ),
                authority(pki.root("Published nowhere")),
            )
            try:
                return await TrustAnchors.fetch(local, **more)
            finally:
                self.asked = [(each.method, each.target) for each in server.received]

    async def test_der_and_pem_are_kept_when_they_match(self):
        anchors = await self.fetched(
            {
                "/root.cer": loopback.answer(body=pki.root().der),
                "/other.crt": loopback.answer(body=pki.root("Other").pem),
            },
            pins={"/root.cer": pki.root(), "/other.crt": pki.root("Other")},
        )
        assert anchors == TrustAnchors(candidates=(pki.root().der, pki.root("Other").der))

    async def test_another_certificate_is_thrown_away(self, caplog):
        with (
            caplog.at_level(logging.WARNING, logger="posten_signering"),
            pytest.raises(ConfigurationError, match="None of the CA certificates of LOCAL"),
        ):
            await self.fetched({"/root.cer": loopback.answer(body=pki.root("Other").der)})
        assert "has another fingerprint" in caplog.text

    async def test_a_redirect_is_not_followed(self, caplog):
        moved = loopback.answer(302, Location="/there.cer")
        with pytest.raises(ConfigurationError, match="None of"):
            await self.fetched(
                {"/root.cer": moved, "/there.cer": loopback.answer(body=pki.root().der)}
            )
        assert self.asked == [("GET", "/root.cer")]
        assert "HTTP 302" in caplog.text

    async def test_what_is_missing_is_passed_over(self, caplog):
        anchors = await self.fetched(
            {
                "/root.cer": loopback.answer(body=pki.root().der),
                "/other.crt": loopback.answer(404),
                "/gone.crt": None,
            },
            pins={
                "/root.cer": pki.root(),
                "/other.crt": pki.root("Other"),
                "/gone.crt": pki.root("Gone"),
            },
        )
        assert anchors.candidates == (pki.root().der,)
        assert "HTTP 404" in caplog.text
        assert "Gone was not fetched from http://localhost" in caplog.text

    async def test_too_large_a_file(self, caplog):
        padding = b"\n" * 64 * 1024
        with pytest.raises(ConfigurationError, match="None of"):
            await self.fetched({"/root.cer": loopback.answer(body=padding + pki.root().pem)})
        assert "more than 65536 bytes" in caplog.text
        assert await self.fetched(
            {"/root.cer": loopback.answer(body=padding[:-4096] + pki.root().pem)}
        )

    async def test_a_server_that_says_nothing(self, caplog):
        async with loopback.silent_port() as server:
            local = environment(authority(pki.root(), published_at=server.url(scheme="http")))
            with pytest.raises(ConfigurationError, match="None of"):
                await TrustAnchors.fetch(local, timeout=pki.timedelta(milliseconds=50))
        assert "no answer within 0.05 seconds" in caplog.text

    async def test_an_address_that_is_none(self, caplog):
        too_long = f"http://localhost/{'x' * 70_000}"
        local = environment(authority(pki.root(), published_at=too_long))
        with pytest.raises(ConfigurationError, match="None of"):
            await TrustAnchors.fetch(local)
        assert "address can't be understood" in caplog.text

    async def test_through_a_proxy(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{loopback.closed_port()}")
        pages = loopback.always(loopback.answer(body=pki.root().der))
        async with loopback.http_server(pages) as proxy:
            local = environment(authority(pki.root(), published_at="http://ca.invalid/root.cer"))
            address = f"http://user:kanari@127.0.0.1:{proxy.port}"
            assert await TrustAnchors.fetch(local, proxy=address)
            [received] = proxy.received
        assert received.target == "http://ca.invalid/root.cer"
        assert base64.b64decode(received.headers["proxy-authorization"][6:]) == b"user:kanari"

    async def test_a_proxy_that_is_none(self):
        with pytest.raises(ConfigurationError, match="proxy must be") as raised:
            await TrustAnchors.fetch(Environment.STAGING, proxy="socks5://user:kanari@host")
        assert "kanari" not in str(raised.value)


class TestWhyAChainIsNotTrusted:
    sent = (pki.service().der, pki.intermediate().der)

    def test_the_issuer_that_is_missing_and_where_it_is_published(self):
        local = environment(
            authority(pki.root(), published_at="http://ca.example/root.cer"),
            authority(pki.intermediate(), published_at="http://ca.example/business.cer"),
        )
        said = explain_untrusted(local, [pki.root("Other").der], self.sent)
        assert "lacked the anchor “Business CA”" in said
        assert "published at http://ca.example/business.cer" in said

    def test_the_root_where_the_issuer_itself_is_not_pinned(self):
        local = environment(authority(pki.root(), published_at="http://ca.example/root.cer"))
        said = explain_untrusted(local, [], self.sent)
        assert "lacked the anchor “Root”" in said

    def test_an_authority_that_is_published_nowhere(self):
        said = explain_untrusted(environment(authority(pki.intermediate())), [], self.sent)
        assert f"SHA-256 {hashlib.sha256(pki.intermediate().der).hexdigest()}" in said

    def test_an_issuer_of_the_other_environment(self):
        name = "Buypass Class 3 Test4 CA G2 ST Business"
        issued = pki.issue(pki.subject("Posten"), pki.intermediate(name))
        said = explain_untrusted(Environment.PRODUCTION, [], [issued.der])
        assert "belongs to STAGING" in said
        assert "set up for PRODUCTION" in said

    def test_an_issuer_that_nobody_knows(self):
        said = explain_untrusted(Environment.STAGING, [], self.sent)
        assert "“Business CA” is not one of STAGING" in said
        assert "TrustAnchors.trusting" in said

    def test_an_issuer_that_is_there(self):
        said = explain_untrusted(environment(), [pki.intermediate().der], self.sent)
        assert "among the trust anchors" in said

    def test_an_issuer_without_a_common_name(self):
        nameless = pki.issue(
            x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Org")]), ca=True
        )
        issued = pki.issue(pki.subject("Posten"), nameless)
        assert "“O=Org”" in explain_untrusted(environment(), [], [issued.der])

    @pytest.mark.parametrize("sent", [(), (b"kanari",)])
    def test_nothing_that_can_be_read(self, sent):
        said = explain_untrusted(Environment.STAGING, [], sent)
        assert "can't be told" in said
        assert "http://crt.test4.buypassca.com/" in said
