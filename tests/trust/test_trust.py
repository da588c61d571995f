"""Trust anchors: how files are read, which certificates are used, and the messages about missing ones."""

import base64
import hashlib
import logging
from pathlib import Path

import certifi
import loopback
import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from doubles import shown_in

from posten_signering import CertificateAuthority, Environment, TrustAnchors
from posten_signering._trust.anchors import explain_untrusted, unpinned
from posten_signering.errors import ConfigurationError

pytestmark = pytest.mark.anyio


def authority(issued, **more):
    return CertificateAuthority(
        name=issued.name, sha256=hashlib.sha256(issued.der).hexdigest(), **more
    )


def environment(*authorities, name="LOCAL"):
    return Environment(name=name, service_root="https://localhost/api", authorities=authorities)


class TestCandidates:
    def test_every_pem_and_der_file_of_a_directory_is_read(self, tmp_path):
        one, two, three = pki.root(), pki.intermediate(), pki.intermediate("Sender CA")
        (tmp_path / "a.cer").write_bytes(one.der)
        (tmp_path / "b.pem").write_bytes(b"# a comment\r\n" + two.pem + three.pem)
        (tmp_path / "directory").mkdir()
        (tmp_path / ".hidden").write_bytes(b"of a file manager")

        anchors = TrustAnchors.from_directory(tmp_path)

        assert anchors.candidates == (one.der, two.der, three.der)
        assert TrustAnchors.from_directory(str(tmp_path)) == anchors
        assert repr(anchors) == "TrustAnchors(3 candidates, 0 trusted)"

    def test_a_short_certificate_is_read(self, tmp_path):
        """An elliptic curve and a short name: the length of the certificate's content has one byte."""
        key = ec.generate_private_key(ec.SECP256R1())
        small = pki.issue(pki.subject("EC"), ca=True, key=key, usage=None)
        assert len(small.certificate.tbs_certificate_bytes) < 256 < len(small.der)
        (tmp_path / "small.cer").write_bytes(small.der)
        assert TrustAnchors.from_directory(tmp_path).candidates == (small.der,)
        assert TrustAnchors().trusting(small.der).trusted == (small.der,)

    def test_the_error_names_every_file_without_a_certificate(self, tmp_path):
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
        ids=[
            *("too short", "too long", "pkcs12", "key", "encrypted key", "pkcs7"),
            *("invalid base64", "empty"),
        ],
    )
    def test_a_file_without_a_certificate_is_refused(self, content, tmp_path):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ConfigurationError, match="hold no certificate"):
            TrustAnchors.from_files(tmp_path / "a")

    def test_a_path_that_is_not_a_directory_is_refused(self, tmp_path):
        (tmp_path / "file").write_bytes(pki.root().der)
        for path in (tmp_path / "missing", tmp_path / "file"):
            with pytest.raises(ConfigurationError, match="directory of trust anchors"):
                TrustAnchors.from_directory(path)

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"missing\.cer can't be read: No such file"):
            TrustAnchors.from_files(tmp_path / "missing.cer")

    def test_certificates_in_pem_form_are_read_from_bytes(self):
        assert TrustAnchors.from_pem(pki.root().pem).candidates == (pki.root().der,)
        with pytest.raises(ConfigurationError, match="holds no certificate"):
            TrustAnchors.from_pem(b"")

    def test_written_files_can_be_read(self, tmp_path):
        anchors = TrustAnchors.from_pem(pki.root().pem + pki.intermediate().pem)
        anchors.write_to(tmp_path / "deep" / "down")
        read = TrustAnchors.from_directory(tmp_path / "deep" / "down")
        assert set(read.candidates) == set(anchors.candidates)

        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="can't be written to"):
            anchors.write_to(tmp_path / "file")


class TestSelection:
    def test_only_certificates_with_pinned_fingerprints_are_used(self):
        anchors = TrustAnchors.from_pem(pki.root().pem + pki.root("Other").pem + pki.root().pem)
        local = environment(authority(pki.root()))
        assert anchors.select(local, certificate=None) == (pki.root().der,)

    def test_without_any_trust_anchor_the_error_says_where_to_get_them(self):
        local = environment(authority(pki.root(), published_at="http://ca.example/root.cer"))
        with pytest.raises(ConfigurationError, match="no trust anchor for LOCAL") as raised:
            TrustAnchors.from_pem(pki.root("Other").pem).select(local, certificate=None)
        assert "http://ca.example/root.cer (Root)" in str(raised.value)
        assert "TrustAnchors.fetch" in str(raised.value)

    def test_the_error_for_the_test_environment_names_its_urls(self):
        with pytest.raises(ConfigurationError, match=r"STAGING.*crt\.test4\.buypassca\.com"):
            TrustAnchors().select(Environment.STAGING, certificate=None)

    def test_without_authorities_the_error_suggests_trusting(self):
        with pytest.raises(ConfigurationError, match=r"TrustAnchors\.trusting"):
            TrustAnchors.from_pem(pki.root().pem).select(environment(), certificate=None)

    def test_trust_anchors_of_a_different_environment_are_not_used(self):
        production = environment(authority(pki.root("Production")), name="A")
        test = environment(authority(pki.root("Test")), name="B")
        both = TrustAnchors.from_pem(pki.root("Production").pem + pki.root("Test").pem)
        assert both.select(production, certificate=None) == (pki.root("Production").der,)
        assert both.select(test, certificate=None) == (pki.root("Test").der,)

    def test_the_ca_certificates_of_the_senders_p12_are_candidates(self):
        local = environment(authority(pki.intermediate("Sender CA")))
        own = pki.sender().enterprise()
        selected = TrustAnchors().select(local, certificate=own)
        assert selected == (pki.intermediate("Sender CA").der,)

    def test_certifi_has_one_trust_anchor_of_production(self):
        [anchor] = TrustAnchors().select(Environment.PRODUCTION, certificate=None)
        name = x509.load_der_x509_certificate(anchor).subject.rfc4514_string()
        assert name == "CN=Buypass Class 3 Root CA,O=Buypass AS-983163327,C=NO"

    def test_other_certificates_of_certifi_are_not_trusted(self):
        pem = certifi.contents().split("-----BEGIN CERTIFICATE-----\n")[1]
        der = base64.b64decode(pem.partition("-----END")[0])
        assert der not in TrustAnchors().select(Environment.PRODUCTION, certificate=None)

    def test_certificates_can_be_trusted_without_a_pinned_fingerprint(self, tmp_path):
        (tmp_path / "root.cer").write_bytes(pki.root().der)
        trusting = TrustAnchors().trusting(tmp_path / "root.cer", pki.root("Other").pem)
        selected = trusting.select(Environment.STAGING, certificate=None)
        assert selected == (pki.root().der, pki.root("Other").der)
        assert TrustAnchors().trusted == ()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"canary",
            # The first bytes of a certificate, and nothing else.
            b"-----BEGIN CERTIFICATE-----\nMIIABA==\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_trusting_refuses_content_that_is_not_a_certificate(self, content):
        with pytest.raises(ConfigurationError, match="not a certificate"):
            TrustAnchors().trusting(pki.root().pem, content)


class TestNeitherPathNorBytes:
    PEM = (pki.root().pem + pki.sender().key_pem).decode()

    @pytest.mark.parametrize(
        "source", [PEM, Path(PEM), "zero\0byte", 7, None, bytearray(b"canary")]
    )
    @pytest.mark.parametrize(
        "read",
        [TrustAnchors.from_directory, TrustAnchors.from_files, TrustAnchors().trusting],
        ids=["from_directory", "from_files", "trusting"],
    )
    def test_it_is_refused_and_not_shown(self, read, source):
        with pytest.raises(ConfigurationError, match=r"path of trust anchors is") as raised:
            read(source)
        assert raised.value.__context__ is None
        assert not shown_in(str(raised.value), ["BEGIN", "zero", "7", "canary"])

    @pytest.mark.parametrize("content", [PEM, Path("root.pem"), None])
    def test_from_pem_takes_only_bytes(self, content):
        with pytest.raises(ConfigurationError, match=r"Give bytes, for example") as raised:
            TrustAnchors.from_pem(content)
        assert not shown_in(str(raised.value), ["BEGIN", "root.pem"])
        assert TrustAnchors.from_pem(self.PEM.encode()).candidates == (pki.root().der,)


class TestFetch:
    async def fetched(self, contents, *, published=None, **more):
        """The result of `fetch` with a server that gives these responses, by path."""

        async def handler(received):
            return contents[received.target]

        async with loopback.http_server(handler) as server:
            by_path = published or {"/root.cer": pki.root()}
            local = environment(
                *(
                    authority(issued, published_at=server.url(path, scheme="http"))
                    for path, issued in by_path.items()
                ),
                authority(pki.root("Published nowhere")),
            )
            try:
                return await TrustAnchors.fetch(local, **more)
            finally:
                self.requests = [(request.method, request.target) for request in server.received]

    async def test_matching_der_and_pem_files_are_used(self):
        anchors = await self.fetched(
            {
                "/root.cer": loopback.answer(body=pki.root().der),
                "/other.crt": loopback.answer(body=pki.root("Other").pem),
            },
            published={"/root.cer": pki.root(), "/other.crt": pki.root("Other")},
        )
        assert anchors == TrustAnchors(candidates=(pki.root().der, pki.root("Other").der))

    async def test_a_certificate_with_a_different_fingerprint_is_not_used(self, caplog):
        with (
            caplog.at_level(logging.WARNING, logger="posten_signering"),
            pytest.raises(ConfigurationError, match="None of the CA certificates of LOCAL"),
        ):
            await self.fetched({"/root.cer": loopback.answer(body=pki.root("Other").der)})
        assert "has a different fingerprint" in caplog.text

    async def test_a_redirect_is_not_followed(self, caplog):
        moved = loopback.answer(302, Location="/there.cer")
        with pytest.raises(ConfigurationError, match="None of"):
            await self.fetched(
                {"/root.cer": moved, "/there.cer": loopback.answer(body=pki.root().der)}
            )
        assert self.requests == [("GET", "/root.cer")]
        assert "HTTP 302" in caplog.text

    async def test_a_missing_file_is_skipped_with_a_warning(self, caplog):
        anchors = await self.fetched(
            {
                "/root.cer": loopback.answer(body=pki.root().der),
                "/other.crt": loopback.answer(404),
                "/gone.crt": None,
            },
            published={
                "/root.cer": pki.root(),
                "/other.crt": pki.root("Other"),
                "/gone.crt": pki.root("Gone"),
            },
        )
        assert anchors.candidates == (pki.root().der,)
        assert "HTTP 404" in caplog.text
        assert "Gone could not be downloaded from http://localhost" in caplog.text

    async def test_a_file_that_is_too_large_is_skipped(self, caplog):
        padding = b"\n" * 64 * 1024
        with pytest.raises(ConfigurationError, match="None of"):
            await self.fetched({"/root.cer": loopback.answer(body=padding + pki.root().pem)})
        assert "more than 65536 bytes" in caplog.text
        assert await self.fetched(
            {"/root.cer": loopback.answer(body=padding[:-4096] + pki.root().pem)}
        )

    async def test_a_server_that_does_not_respond_is_skipped_after_the_timeout(self, caplog):
        async with loopback.silent_port() as server:
            local = environment(authority(pki.root(), published_at=server.url(scheme="http")))
            with pytest.raises(ConfigurationError, match="None of"):
                await TrustAnchors.fetch(local, timeout=pki.timedelta(milliseconds=50))
        assert "no complete response within 0.05 seconds" in caplog.text

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    @pytest.mark.parametrize("silent", [True, False])
    async def test_a_proxy_variable_that_is_not_used_is_named(self, name, silent, monkeypatch):
        """The name of the variable only, because its value may have a password."""
        monkeypatch.setenv(name, "http://user:canary@proxy.invalid:8080")
        async with loopback.silent_port() as server:
            port = server.port if silent else loopback.closed_port()
            local = environment(
                authority(pki.root(), published_at=f"http://127.0.0.1:{port}/root.cer")
            )
            with pytest.raises(
                ConfigurationError, match=f"The variable {name} is set, but is not used"
            ) as raised:
                await TrustAnchors.fetch(local, timeout=pki.timedelta(milliseconds=50))
        assert "canary" not in str(raised.value)
        assert "TrustAnchors.fetch" not in str(raised.value)
        assert "TrustAnchors.from_directory" in str(raised.value)

    async def test_a_proxy_variable_is_not_named_if_it_would_not_help(self, monkeypatch, caplog):
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:8080")
        for contents in ({"/root.cer": loopback.answer(404)}, {"/root.cer": None}):
            with pytest.raises(ConfigurationError, match="None of") as raised:
                await self.fetched(contents)
            assert "HTTP_PROXY" not in str(raised.value)
        refused = f"http://127.0.0.1:{loopback.closed_port()}"
        local = environment(authority(pki.root(), published_at=f"{refused}/root.cer"))
        with pytest.raises(ConfigurationError, match="None of") as raised:
            await TrustAnchors.fetch(local, proxy=refused)
        assert "HTTP_PROXY" not in str(raised.value)
        assert f"{refused}/root.cer: no connection through the proxy: " in caplog.text

    async def test_a_url_that_is_too_long_is_skipped(self, caplog):
        too_long = f"http://localhost/{'x' * 70_000}"
        local = environment(authority(pki.root(), published_at=too_long))
        with pytest.raises(ConfigurationError, match="None of"):
            await TrustAnchors.fetch(local)
        assert "URL is not valid" in caplog.text

    async def test_only_the_proxy_in_the_argument_is_used(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{loopback.closed_port()}")
        pages = loopback.always(loopback.answer(body=pki.root().der))
        async with loopback.http_server(pages) as proxy:
            local = environment(authority(pki.root(), published_at="http://ca.invalid/root.cer"))
            address = f"http://user:canary@127.0.0.1:{proxy.port}"
            assert await TrustAnchors.fetch(local, proxy=address)
            [received] = proxy.received
        assert received.target == "http://ca.invalid/root.cer"
        assert base64.b64decode(received.headers["proxy-authorization"][6:]) == b"user:canary"

    async def test_an_invalid_proxy_is_refused(self):
        with pytest.raises(ConfigurationError, match="proxy must be") as raised:
            await TrustAnchors.fetch(Environment.STAGING, proxy="socks5://user:canary@host")
        assert "canary" not in str(raised.value)


class TestExplainUntrusted:
    sent = (pki.service().der, pki.intermediate().der)

    def test_the_missing_issuer_is_named_with_its_url(self):
        local = environment(
            authority(pki.root(), published_at="http://ca.example/root.cer"),
            authority(pki.intermediate(), published_at="http://ca.example/business.cer"),
        )
        text = explain_untrusted(local, [pki.root("Other").der], self.sent)
        assert "The trust anchor “Business CA” is missing" in text
        assert "published at http://ca.example/business.cer" in text

    def test_the_root_is_named_when_the_environment_does_not_list_the_issuer(self):
        local = environment(authority(pki.root(), published_at="http://ca.example/root.cer"))
        text = explain_untrusted(local, [], self.sent)
        assert "The trust anchor “Root” is missing" in text

    def test_the_fingerprint_is_given_when_the_authority_has_no_url(self):
        text = explain_untrusted(environment(authority(pki.intermediate())), [], self.sent)
        assert f"SHA-256 {hashlib.sha256(pki.intermediate().der).hexdigest()}" in text

    def test_an_issuer_of_the_other_environment_is_recognised(self):
        name = "Buypass Class 3 Test4 CA G2 ST Business"
        issued = pki.issue(pki.subject("Posten"), pki.intermediate(name))
        text = explain_untrusted(Environment.PRODUCTION, [], [issued.der])
        assert "belongs to STAGING" in text
        assert "configured for PRODUCTION" in text

    def test_an_unknown_issuer_is_named(self):
        text = explain_untrusted(Environment.STAGING, [], self.sent)
        assert "“Business CA” is not an authority of STAGING" in text
        assert "TrustAnchors.trusting" in text

    def test_the_issuer_may_be_among_the_trust_anchors(self):
        text = explain_untrusted(environment(), [pki.intermediate().der], self.sent)
        assert "among the trust anchors" in text

    @pytest.mark.parametrize("name", ["Sandbox Root CA 1", "Sandbox Root CA 2"])
    def test_a_sandbox_that_has_a_new_ca_is_recognised(self, name):
        """The new CA may have the same name as the old one, which is a trust anchor."""
        owner = {"organization_name": "posten-signering sandbox"}
        old = pki.issue(pki.subject("Sandbox Root CA 1", **owner), ca=True)
        new = pki.issue(pki.subject(name, **owner), ca=True, key=pki.rsa_key("new"))
        sent = [pki.issue(pki.subject("Posten"), new).der]
        text = explain_untrusted(environment(), [old.der], sent)
        assert "A sandbox makes a new CA at each start" in text
        assert ("among the trust anchors" in text) == (name == "Sandbox Root CA 1")
        other = pki.issue(pki.subject("Posten"), pki.issue(pki.subject(name), ca=True))
        assert "sandbox makes" not in explain_untrusted(environment(), [old.der], [other.der])

    def test_an_issuer_without_a_common_name_is_named_by_its_subject(self):
        nameless = pki.issue(
            x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Org")]), ca=True
        )
        issued = pki.issue(pki.subject("Posten"), nameless)
        assert "“O=Org”" in explain_untrusted(environment(), [], [issued.der])

    @pytest.mark.parametrize("sent", [(), (b"canary",)])
    def test_without_readable_certificates_the_issuer_is_not_known(self, sent):
        text = explain_untrusted(Environment.STAGING, [], sent)
        assert "issuer is not known" in text
        assert "http://crt.test4.buypassca.com/" in text

    def test_given_certificates_that_the_environment_does_not_use_are_mentioned(self):
        given = TrustAnchors.from_pem(pki.root().pem + pki.intermediate().pem)
        note = unpinned(given, Environment.PRODUCTION)
        assert note.startswith(
            "The TrustAnchors were given 2 certificate(s), but PRODUCTION uses none of them"
        )
        text = explain_untrusted(Environment.PRODUCTION, [], self.sent, note=note)
        assert text == f"{note} {explain_untrusted(Environment.PRODUCTION, [], self.sent)}"
        with pytest.raises(ConfigurationError, match="were given 2 certificate"):
            given.select(Environment.STAGING, certificate=None)

    def test_the_environment_of_given_certificates_is_named(self):
        certifi = TrustAnchors().select(Environment.PRODUCTION, certificate=None)
        note = unpinned(TrustAnchors(candidates=certifi), Environment.STAGING)
        assert "They belong to PRODUCTION: check the environment" in note

    @pytest.mark.parametrize(
        "given",
        [
            TrustAnchors(),
            TrustAnchors().trusting(pki.root().pem),
            TrustAnchors.from_pem(pki.root().pem + pki.intermediate().pem),
        ],
        ids=["none", "trusted", "one of two"],
    )
    def test_without_unused_certificates_nothing_is_mentioned(self, given):
        assert unpinned(given, environment(authority(pki.root()))) is None
