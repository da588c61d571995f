"""The enterprise certificate: which files are accepted, that no secret shows, and how its chain is built."""

import base64
import itertools
import re
import ssl
import subprocess
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from doubles import frames_with_locals, shown_in

from posten_signering import EnterpriseCertificate, load_pkcs12
from posten_signering._trust.certificates import complete_chain, key_size
from posten_signering.errors import ConfigurationError

PASSWORD = "canary-passord-æøå"

ALGORITHMS = {
    "AES": (),
    "3DES": ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
    "RC2": ("-legacy",),
}


def run(folder: Path, program: str, *options: str) -> None:
    subprocess.run([program, *options], cwd=folder, check=True, capture_output=True)


@pytest.fixture(params=ALGORITHMS)
def p12(request, openssl, tmp_path):
    """A .p12 file made by openssl, with the chain in an unusual order."""
    issued = pki.sender()
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    (tmp_path / "leaf.pem").write_bytes(issued.pem)
    (tmp_path / "cas.pem").write_bytes(b"".join(issuer.pem for issuer in reversed(issued.issuers)))
    run(
        *(tmp_path, openssl, "pkcs12", "-export", *ALGORITHMS[request.param]),
        *("-inkey", "key.pem", "-in", "leaf.pem", "-certfile", "cas.pem"),
        *("-passout", f"pass:{PASSWORD}", "-out", "a.p12"),
    )
    return tmp_path / "a.p12"


def test_a_pkcs12_file_of_openssl_is_read_from_a_path_a_string_and_bytes(p12):
    for source in (p12, str(p12), p12.read_bytes()):
        certificate = EnterpriseCertificate.from_pkcs12(source, password=PASSWORD)

        names = [member.subject.rfc4514_string() for member in certificate.chain]
        assert names == ["CN=Sender,2.5.4.97=NTRNO-123456789", "CN=Sender CA", "CN=Root"]
        assert certificate.organization_number == pki.SENDER
        assert certificate.subject == "CN=Sender,organizationIdentifier=NTRNO-123456789"
        assert certificate.not_before == pki.NOW - timedelta(days=1)
        assert certificate.not_after == pki.NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("organization", "usage", "expected"),
    [
        ("Shop AS", "digital_signature", ("digitalSignature",)),
        ("Shop AS", "key_agreement", ("keyAgreement",)),
        (None, None, ()),
    ],
)
def test_it_shows_what_the_certificate_says(organization, usage, expected):
    fields = {} if organization is None else {"organization_name": organization}
    issued = pki.issue(pki.subject("Sender", **fields), pki.intermediate("Sender CA"), usage=usage)
    certificate = EnterpriseCertificate(
        chain=(issued.certificate,), others=(), _private_key=issued.key
    )
    assert certificate.organization_name == organization
    assert certificate.issuer == "CN=Sender CA"
    assert certificate.key_usage == expected
    assert certificate.sha256 == pki.sha256(issued)


@pytest.mark.anyio
async def test_load_pkcs12_gives_the_same_result_and_errors(p12):
    assert await load_pkcs12(p12, password=PASSWORD) == EnterpriseCertificate.from_pkcs12(
        p12, password=PASSWORD
    )
    with pytest.raises(ConfigurationError, match="password is wrong") as raised:
        await load_pkcs12(p12, password="canary")
    assert "canary" not in frames_with_locals(raised.value)


@pytest.mark.parametrize("password", ["", None])
def test_a_file_without_a_password_is_read_with_an_empty_password_or_none(password):
    content = pki.sender().p12(None)
    assert EnterpriseCertificate.from_pkcs12(content, password=password).chain


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("canary", "`password` does not open .* the password is wrong, or the file is damaged"),
        ("\udcff", "`password` does not open .* the password is wrong, or the file is damaged"),
        ("canary\n", "^`password` ends in a line break"),
        ("canary\r\n", "^`password` ends in a line break"),
        ("canary ", "^`password` begins or ends with white space"),
        ("", "with an empty password, and `password` is empty"),
        (None, "without a password, and `password` is not set"),
    ],
)
def test_the_error_for_a_wrong_password_says_what_is_wrong_and_does_not_show_it(password, message):
    with pytest.raises(ConfigurationError, match=message) as raised:
        EnterpriseCertificate.from_pkcs12(pki.sender().p12(b"other"), password=password)
    assert raised.value.__cause__ is None
    assert "canary" not in frames_with_locals(raised.value)


@pytest.mark.parametrize("password", [b"canary", 4711, ["canary"]])
def test_a_password_that_is_not_text_is_refused(password):
    with pytest.raises(
        ConfigurationError, match=r"password is of type (bytes|int|list)\."
    ) as raised:
        EnterpriseCertificate.from_pkcs12(pki.sender().p12(b"canary"), password=password)
    assert not shown_in(frames_with_locals(raised.value), ["canary", "4711"])
    with pytest.raises(
        ConfigurationError, match=r"password is of type (bytes|int|list)\."
    ) as raised:
        EnterpriseCertificate.from_pem(pki.sender().pem, pki.sender().key_pem, password=password)
    assert not shown_in(frames_with_locals(raised.value), ["canary", "4711", "PRIVATE"])


@pytest.mark.parametrize("password", ["canary\0", "\0canary", "c\0a\0n\0a\0r\0y\0"])
def test_a_password_with_a_nul_character_is_refused(password):
    """The library panics, with an error that is no `Exception`."""
    for stored in (b"canary", None):
        with pytest.raises(ConfigurationError, match=r"password` has a NUL character") as raised:
            EnterpriseCertificate.from_pkcs12(pki.sender().p12(stored), password=password)
        assert not shown_in(frames_with_locals(raised.value), ["canary", "99, 97", "c\\x00"])


class TestWhiteSpaceAroundThePassword:
    @staticmethod
    def load(form: str, stored: bytes, password: str) -> EnterpriseCertificate:
        issued = pki.sender()
        if form == "PKCS#12":
            return EnterpriseCertificate.from_pkcs12(issued.p12(stored), password=password)
        return EnterpriseCertificate.from_pem(
            issued.pem, issued.encrypted_key_pem(stored), password=password
        )

    @pytest.mark.parametrize("form", ["PKCS#12", "PEM"])
    @pytest.mark.parametrize("password", ["canary\n", "canary\r\n", " canary", "canary\u00a0"])
    def test_the_error_says_that_white_space_may_be_the_cause(self, form, password):
        message = "begins or ends with white space|ends in a line break"
        with pytest.raises(ConfigurationError, match=message) as raised:
            self.load(form, b"canary", password)
        assert "canary" not in frames_with_locals(raised.value)
        assert self.load(form, password.encode(), password).chain
        with pytest.raises(ConfigurationError) as raised:
            self.load(form, b"other", "can ary")
        assert "white space" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"canary", r"is not PKCS#12\. Use the \.p12"),
        (pki.root().der, r"is not PKCS#12\. Use the \.p12"),
        (pki.sender().p12(b"canary")[:-1], r"it has \d+ bytes, and the rest is missing"),
    ],
)
def test_the_error_for_a_file_that_is_not_pkcs12_does_not_blame_the_password(content, message):
    with pytest.raises(ConfigurationError, match=r"^The file is not PKCS#12") as raised:
        EnterpriseCertificate.from_pkcs12(content, password="canary")
    assert re.search(message, str(raised.value))
    assert "password" not in str(raised.value)


@pytest.mark.parametrize("content", [pki.sender().pem, b"\n" + pki.sender().key_pem])
@pytest.mark.parametrize("password", ["canary", None])
def test_a_file_in_pem_form_has_the_advice_to_use_from_pem(content, password, tmp_path):
    path = tmp_path / "key.p12"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ConfigurationError, match=r"Read it with .*from_pem") as raised:
            EnterpriseCertificate.from_pkcs12(source, password=password)
        assert not shown_in(frames_with_locals(raised.value), ["canary", "PRIVATE"])


@pytest.mark.anyio
async def test_the_error_for_a_broken_file_without_encryption_does_not_show_the_key():
    content = pki.sender().p12(None)
    key = pki.sender().key.private_bytes(
        pki.serialization.Encoding.DER,
        pki.serialization.PrivateFormat.PKCS8,
        pki.serialization.NoEncryption(),
    )
    assert key in content
    with pytest.raises(ConfigurationError, match=r"^The file is not PKCS#12") as raised:
        EnterpriseCertificate.from_pkcs12(content[:-1], password=None)
    with pytest.raises(ConfigurationError, match=r"^The file is not PKCS#12") as also_raised:
        await load_pkcs12(content[:-1], password=None)
    for error in (raised.value, also_raised.value):
        assert repr(key)[2:40] not in frames_with_locals(error)
        assert repr(content)[2:40] not in frames_with_locals(error)


@pytest.mark.parametrize(
    "encode", [base64.b64encode, lambda content: b"\n" + base64.encodebytes(content)]
)
def test_a_pkcs12_file_in_base64_is_named_and_not_shown(encode):
    content = encode(pki.sender().p12(b"a"))
    with pytest.raises(ConfigurationError, match=r"is in Base64\. Decode it first") as raised:
        EnterpriseCertificate.from_pkcs12(content, password="a")
    with pytest.raises(ConfigurationError, match="bytes, decoded if it is in Base64") as as_path:
        EnterpriseCertificate.from_pkcs12(content.decode(), password="a")
    for error in (raised.value, as_path.value):
        assert content.decode()[20:40] not in frames_with_locals(error)
    decoded = base64.b64decode(content)
    assert EnterpriseCertificate.from_pkcs12(decoded, password="a").chain


class TestBer:
    """Some issuers make files in BER form: DER, but with lengths that are not known in advance."""

    @staticmethod
    def file(password: bytes) -> bytes:
        der = pki.sender().p12(password)
        assert der[:2] == b"\x30\x82"
        return b"\x30\x80" + der[4:] + b"\0\0"

    def test_it_is_read_without_a_warning_in_any_number_of_threads(self):
        content = self.file(b"a")
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as threads:
            loading = [
                threads.submit(EnterpriseCertificate.from_pkcs12, content, password="a")
                for _ in range(8)
            ]
        assert {loaded.result() for loaded in loading} == {pki.sender().enterprise()}
        added = [entry for entry in warnings.filters if entry not in before]
        assert len(added) <= 1
        assert [entry for entry in warnings.filters if entry not in added] == before

    def test_a_wrong_password_is_the_same_error(self):
        with pytest.raises(ConfigurationError, match="password is wrong"):
            EnterpriseCertificate.from_pkcs12(self.file(b"a"), password="b")

    def test_other_callers_of_the_library_still_get_its_warning(self):
        """Not every version of the library warns, so the test gives the warning itself."""
        assert EnterpriseCertificate.from_pkcs12(self.file(b"a"), password="a").chain
        with pytest.warns(UserWarning, match="could not be parsed as DER"):
            warnings.warn("PKCS#12 bundle could not be parsed as DER, falling back", stacklevel=1)


@pytest.mark.parametrize("source", [bytearray(b"canary"), None, 7, ["canary"]])
def test_a_source_that_is_neither_a_path_nor_bytes_is_refused(source):
    with pytest.raises(
        ConfigurationError, match=r"PKCS#12 file can't be read: not a path"
    ) as raised:
        EnterpriseCertificate.from_pkcs12(source, password=PASSWORD)
    assert raised.value.__context__ is None
    with pytest.raises(ConfigurationError, match=r"certificate's file can't be read: not a path"):
        EnterpriseCertificate.from_pem(source, pki.sender().key_pem)


@pytest.mark.parametrize("source", ["missing.p12", "zero\0byte.p12"])
def test_the_error_for_a_file_that_can_not_be_read_does_not_show_its_path(source, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"PKCS#12 file can't be read: (No such|not a)"
    ) as raised:
        EnterpriseCertificate.from_pkcs12(f"{tmp_path}/{source}", password=PASSWORD)
    assert source[:4] not in str(raised.value)


def test_for_a_java_file_whose_first_key_is_for_signing_the_error_tells_how_to_get_the_other(
    tmp_path, keytool
):
    for name, usage in (("signing", "nonRepudiation"), ("auth", "digitalSignature")):
        run(
            *(tmp_path, keytool, "-genkeypair", "-alias", name, "-dname", f"CN={name},O=Company"),
            *("-keyalg", "RSA", "-storetype", "PKCS12", "-ext", f"KeyUsage={usage}"),
            *("-keystore", "OLD", "-storepass", "hemmelig"),
        )
    with pytest.raises(ConfigurationError, match="certificate with a different key") as raised:
        EnterpriseCertificate.from_pkcs12(tmp_path / "OLD", password="hemmelig")
    assert "use the one for authentication" not in str(raised.value)

    [command] = re.findall("`keytool (-importkeystore .+?)`", str(raised.value))
    run(
        *(tmp_path, keytool, *command.replace("ALIAS", "auth").split()),
        *("-srcstorepass", "hemmelig", "-deststorepass", "hemmelig"),
    )
    certificate = EnterpriseCertificate.from_pkcs12(tmp_path / "NEW", password="hemmelig")
    assert certificate.subject == "CN=auth,O=Company"


class TestSeveralKeys:
    """Of several keys, the library gives the first. It gives the certificates of all."""

    @staticmethod
    def issued(key, number=pki.SENDER, **options):
        name = pki.subject("Sender", organization_identifier=f"NTRNO-{number}")
        return pki.issue(name, pki.intermediate("Sender CA"), key=pki.rsa_key(key), **options)

    @pytest.mark.parametrize(
        ("other", "is_suitable"),
        [
            ({}, True),
            ({"number": "111111111"}, False),
            ({"usage": "key_encipherment"}, False),
            ({"usage": None}, False),
            ({"ca": True}, False),
        ],
    )
    def test_a_suitable_certificate_with_a_different_key_is_mentioned_in_the_error(
        self, other, is_suitable
    ):
        signing = self.issued("first", usage="content_commitment")
        content = signing.p12(b"a", [self.issued("second", **other)])
        with pytest.raises(ConfigurationError, match="not for authentication") as raised:
            EnterpriseCertificate.from_pkcs12(content, password="a")
        assert ("keytool" in str(raised.value)) is is_suitable
        assert ("use the one for authentication" in str(raised.value)) is not is_suitable

    def test_the_first_key_is_used_if_its_certificate_is_for_authentication(self):
        first, second = self.issued("first"), self.issued("second")
        for one, other in ((first, second), (second, first)):
            content = one.p12(b"a", [other])
            certificate = EnterpriseCertificate.from_pkcs12(content, password="a")
            assert certificate.chain[0] == one.certificate

    @pytest.mark.parametrize(("days", "advice"), [(100, "keytool"), (5, "Get a new one")])
    def test_a_renewed_certificate_with_a_different_key_is_mentioned_when_the_first_expires(
        self, days, advice
    ):
        renewed = self.issued("second", not_after=pki.NOW + timedelta(days=days))
        first = self.issued("first", not_after=pki.NOW + timedelta(days=5))
        certificate = EnterpriseCertificate.from_pkcs12(first.p12(b"a", [renewed]), password="a")
        with pytest.raises(ConfigurationError, match=f"expired at .*{advice}"):
            certificate.check(pki.NOW + timedelta(days=10))


class TestPem:
    def test_the_certificates_may_be_in_any_order(self, tmp_path):
        issued = pki.sender()
        pem = issued.issuers[1].pem + issued.pem + issued.issuers[0].pem
        (tmp_path / "all.pem").write_bytes(pem + issued.key_pem)

        from_bytes = EnterpriseCertificate.from_pem(pem, issued.key_pem)
        from_one_file = EnterpriseCertificate.from_pem(tmp_path / "all.pem", tmp_path / "all.pem")

        assert from_bytes.chain == from_one_file.chain
        assert from_bytes.chain[0] == issued.certificate
        assert len(from_bytes.chain) == 3

    def test_a_certificate_with_an_unknown_kind_of_key_is_ignored(self):
        rsa_encryption = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
        der = pki.root().der.replace(rsa_encryption, rsa_encryption[:-1] + b"\x7f")
        assert der != pki.root().der
        unknown = ssl.DER_cert_to_PEM_cert(der).encode()
        issued = pki.sender()
        assert EnterpriseCertificate.from_pem(unknown + issued.pem, issued.key_pem).chain == (
            issued.certificate,
        )

    def test_an_encrypted_key_needs_its_password(self):
        issued = pki.sender()
        key = issued.encrypted_key_pem(PASSWORD.encode())
        assert EnterpriseCertificate.from_pem(issued.pem, key, password=PASSWORD).chain
        for wrong in (None, "canary"):
            with pytest.raises(ConfigurationError, match="private key can't be read") as raised:
                EnterpriseCertificate.from_pem(issued.pem, key, password=wrong)
            assert "canary" not in frames_with_locals(raised.value)

    def test_a_password_for_a_key_without_one_is_refused(self):
        issued = pki.sender()
        with pytest.raises(ConfigurationError, match="for a key without one") as raised:
            EnterpriseCertificate.from_pem(issued.pem, issued.key_pem, password="canary")
        shown = frames_with_locals(raised.value)
        assert "canary" not in shown
        assert "PRIVATE" not in shown

    def test_several_keys_are_refused(self):
        keys = pki.sender().key_pem + pki.rsa_key("other").private_bytes(
            pki.serialization.Encoding.PEM,
            pki.serialization.PrivateFormat.TraditionalOpenSSL,
            pki.serialization.NoEncryption(),
        )
        with pytest.raises(ConfigurationError, match="2 private keys") as raised:
            EnterpriseCertificate.from_pem(pki.sender().pem, keys)
        assert "PRIVATE" not in frames_with_locals(raised.value)

    def test_a_missing_key_is_refused(self):
        with pytest.raises(ConfigurationError, match="has no private key"):
            EnterpriseCertificate.from_pem(pki.sender().pem, b"")

    def test_a_missing_certificate_is_refused(self):
        with pytest.raises(ConfigurationError, match="No certificate belongs"):
            EnterpriseCertificate.from_pem(b"", pki.sender().key_pem)

    @pytest.mark.parametrize("broken", [0, 1, 2])
    def test_a_certificate_that_can_not_be_read_is_refused(self, broken):
        pems = [pki.sender().pem, *(issuer.pem for issuer in pki.sender().issuers)]
        assert len(EnterpriseCertificate.from_pem(b"".join(pems), pki.sender().key_pem).chain) == 3
        pems[broken] = pems[broken].replace(b"MII", b"AAA", 1)
        with pytest.raises(ConfigurationError, match="One of the certificates in PEM") as raised:
            EnterpriseCertificate.from_pem(b"".join(pems), pki.sender().key_pem)
        assert raised.value.__context__ is None

    @pytest.mark.parametrize("kind", [str, Path])
    def test_the_error_for_a_key_that_is_given_as_text_does_not_show_it(self, kind):
        text = kind(pki.sender().key_pem.decode())
        for call in (
            lambda: EnterpriseCertificate.from_pem(pki.sender().pem, text),
            lambda: EnterpriseCertificate.from_pem(text, pki.sender().key_pem),
            lambda: EnterpriseCertificate.from_pkcs12(text, password=None),
        ):
            with pytest.raises(ConfigurationError, match=r"for example text\.encode") as raised:
                call()
            assert "PRIVATE" not in frames_with_locals(raised.value)
            assert "PRIVATE" not in "".join(traceback.format_exception(raised.value))

    def test_an_empty_password_means_none(self):
        issued = pki.sender()
        assert EnterpriseCertificate.from_pem(issued.pem, issued.key_pem, password="").chain


class TestRefused:
    def test_a_key_of_a_different_certificate_is_refused(self):
        with pytest.raises(ConfigurationError, match="No certificate belongs"):
            EnterpriseCertificate.from_pem(pki.sender().pem, pki.service().key_pem)

    def test_a_pkcs12_file_without_a_certificate_is_refused(self, openssl, tmp_path):
        (tmp_path / "key.pem").write_bytes(pki.sender().key_pem)
        run(
            *(tmp_path, openssl, "pkcs12", "-export", "-nocerts", "-inkey", "key.pem"),
            *("-passout", "pass:a", "-out", "a.p12"),
        )
        with pytest.raises(ConfigurationError, match="No certificate belongs"):
            EnterpriseCertificate.from_pkcs12(tmp_path / "a.p12", password="a")

    def test_a_pkcs12_file_without_a_key_is_refused(self, openssl, tmp_path):
        (tmp_path / "leaf.pem").write_bytes(pki.sender().pem)
        run(
            *(tmp_path, openssl, "pkcs12", "-export", "-nokeys", "-in", "leaf.pem"),
            *("-passout", "pass:a", "-out", "a.p12"),
        )
        with pytest.raises(ConfigurationError, match="has no private key"):
            EnterpriseCertificate.from_pkcs12(tmp_path / "a.p12", password="a")

    def test_a_key_that_is_not_rsa_is_refused(self):
        issued = pki.issue(
            pki.subject("EC"), pki.root(), key=ec.generate_private_key(ec.SECP256R1())
        )
        with pytest.raises(ConfigurationError, match="not an RSA key"):
            issued.enterprise()
        with pytest.raises(ConfigurationError, match="not an RSA key"):
            EnterpriseCertificate.from_pkcs12(issued.p12(b"a"), password="a")


def test_a_certificate_without_the_key_usage_extension_is_accepted():
    assert pki.issue(pki.subject("Seal"), pki.root(), usage=None).enterprise().chain


class TestValidity:
    certificate = pki.sender().enterprise()

    def test_it_expires_after_its_last_second(self):
        end = self.certificate.not_after
        self.certificate.check(end)
        with pytest.raises(ConfigurationError, match=f"expired at {end.isoformat()[:10]}"):
            self.certificate.check(end + timedelta(seconds=1))

    def test_it_is_not_valid_before_its_first_second(self):
        start = self.certificate.not_before
        self.certificate.check(start)
        with pytest.raises(ConfigurationError, match="not valid before"):
            self.certificate.check(start - timedelta(seconds=1))


def test_openssl_verifies_a_signature(openssl, tmp_path):
    certificate = pki.sender().enterprise()
    (tmp_path / "key.pub").write_bytes(
        pki.sender()
        .key.public_key()
        .public_bytes(
            pki.serialization.Encoding.PEM, pki.serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "signature").write_bytes(certificate.sign(b"content"))
    for content, exit_code in ((b"content", 0), (b"Content", 1)):
        (tmp_path / "content").write_bytes(content)
        verified = subprocess.run(
            [
                *(openssl, "dgst", "-sha256", "-verify", "key.pub"),
                *("-signature", "signature", "content"),
            ],
            cwd=tmp_path,
            check=False,
            capture_output=True,
        )
        assert verified.returncode == exit_code


def test_the_repr_shows_only_the_organisation_and_the_expiry():
    assert repr(pki.sender().enterprise()) == (
        "EnterpriseCertificate(organization_number='123456789', "
        f"not_after='{(pki.NOW + timedelta(days=365)).isoformat()}')"
    )


# --- The choice between several certificates, and the chain


class TestChain:
    def test_missing_issuers_are_taken_from_the_trust_anchors(self):
        alone = pki.sender().enterprise([])
        assert len(alone.chain) == 1
        anchors = [
            issued.der for issued in (pki.root(), pki.intermediate(), pki.intermediate("Sender CA"))
        ]

        chain, missing = complete_chain(alone, anchors)

        assert missing is None
        assert chain == pki.sender().enterprise().chain

    def test_the_name_of_a_missing_issuer_is_returned(self):
        chain, missing = complete_chain(pki.sender().enterprise([]), [])
        assert (len(chain), missing) == (1, "CN=Sender CA")
        chain, missing = complete_chain(
            pki.sender().enterprise([]), [pki.intermediate("Sender CA").der]
        )
        assert (len(chain), missing) == (2, "CN=Root")

    def test_an_issuer_with_the_right_name_and_a_wrong_key_is_not_used(self):
        impostor = pki.issue(
            pki.subject("Sender CA"), pki.root(), ca=True, key=pki.rsa_key("impostor")
        )
        chain, missing = complete_chain(pki.sender().enterprise([impostor]), [pki.root().der])
        assert (len(chain), missing) == (1, "CN=Sender CA")

    def test_a_renewed_certificate_for_the_same_key_is_used(self):
        name = pki.subject("Sender", organization_identifier=f"NTRNO-{pki.SENDER}")
        renewed = pki.issue(
            name,
            pki.intermediate("Sender CA"),
            key=pki.sender().key,
            not_after=pki.NOW + timedelta(days=700),
        )
        both = EnterpriseCertificate.from_pem(pki.sender().pem + renewed.pem, pki.sender().key_pem)
        assert both.chain[0] == renewed.certificate

    def test_the_search_ends_when_issuers_certify_each_other(self):
        a, b = pki.subject("A"), pki.subject("B")
        self_a = pki.Issued(pki.issue(a, ca=True).certificate, pki.rsa_key("CN=A"))
        b_by_a = pki.issue(b, self_a, ca=True)
        a_by_b = pki.issue(a, b_by_a, ca=True)
        leaf = pki.issue(pki.subject("leaf"), a_by_b)
        chain, missing = complete_chain(leaf.enterprise([a_by_b, b_by_a]), [])
        assert len(chain) == 3
        assert missing == "CN=A"


class TestCrossSigned:
    """An authority's key has certificates of several issuers. Only one chain reaches a root."""

    old = pki.issue(pki.subject("Old root that is missing"), ca=True)
    by_old = pki.issue(pki.subject("Cross CA"), old, ca=True)
    by_root = pki.issue(pki.subject("Cross CA"), pki.root(), ca=True)
    leaf = pki.issue(pki.subject("leaf"), by_root)

    @pytest.mark.parametrize("order", list(itertools.permutations(["by_old", "by_root", "root"])))
    def test_the_chain_to_a_root_is_found_in_any_order(self, order):
        issuers = {"by_old": self.by_old, "by_root": self.by_root, "root": pki.root()}
        certificate = self.leaf.enterprise([issuers[name] for name in order])
        expected = (self.leaf.certificate, self.by_root.certificate, pki.root().certificate)
        assert certificate.chain == expected
        completed = complete_chain(self.leaf.enterprise([]), [issuers[name].der for name in order])
        assert completed == (expected, None)

    @pytest.mark.parametrize("in_reverse", [False, True])
    def test_without_a_root_the_longest_chain_is_used(self, in_reverse):
        higher = pki.issue(pki.subject("Higher CA"), pki.root("Far root"), ca=True)
        by_higher = pki.issue(pki.subject("Cross CA"), higher, ca=True)
        issuers = [self.by_old, by_higher, higher]
        certificate = self.leaf.enterprise(issuers[::-1] if in_reverse else issuers)
        expected = (self.leaf, by_higher, higher)
        assert certificate.chain == tuple(issued.certificate for issued in expected)
        assert complete_chain(certificate, [])[1] == "CN=Far root"
        assert certificate.missing_issuer() == "CN=Far root"

    def test_the_search_visits_each_authority_once(self):
        """Fourteen authorities all certify each other. Searching every chain would take far too long."""
        names = [f"CA {number}" for number in range(14)]
        self_signed = {
            name: pki.issue(pki.subject(name), ca=True, key=self.by_old.key) for name in names
        }
        issuers = [
            pki.issue(pki.subject(name), self_signed[other], ca=True, key=self.by_old.key)
            for name, other in itertools.permutations(names, 2)
        ]
        leaf = pki.issue(pki.subject("leaf"), self_signed["CA 0"])
        chain = leaf.enterprise(issuers).chain
        assert chain[0] == leaf.certificate
        assert chain[1].subject == pki.subject("CA 0")


class TestSeveralCertificatesForOneKey:
    @staticmethod
    def issued(usage, days=365):
        return pki.issue(
            pki.subject("Sender", organization_identifier=f"NTRNO-{pki.SENDER}"),
            pki.intermediate("Sender CA"),
            key=pki.sender().key,
            usage=usage,
            not_after=pki.NOW + timedelta(days=days),
        )

    @staticmethod
    def of(*issued):
        pems = b"".join(certificate.pem for certificate in issued)
        return EnterpriseCertificate.from_pem(pems, pki.sender().key_pem)

    @pytest.mark.parametrize("other", ["key_encipherment", "content_commitment"])
    @pytest.mark.parametrize("usage", ["digital_signature", None])
    def test_the_one_for_authentication_is_used_even_if_it_expires_first(self, usage, other):
        suitable, unsuitable = self.issued(usage, days=100), self.issued(other, days=900)
        for order in ((suitable, unsuitable), (unsuitable, suitable)):
            assert self.of(*order).chain[0] == suitable.certificate

    def test_of_several_for_authentication_the_last_to_expire_is_used(self):
        short, long = self.issued("digital_signature", 100), self.issued("digital_signature", 200)
        for order in ((short, long), (long, short)):
            assert self.of(*order).chain[0] == long.certificate

    def test_one_with_unreadable_extensions_is_ignored_if_another_is_suitable(self):
        broken = x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x04\x01")
        builder = (
            x509.CertificateBuilder()
            .subject_name(pki.subject("Sender"))
            .issuer_name(pki.subject("Sender"))
            .public_key(pki.sender().key.public_key())
            .serial_number(1)
            .not_valid_before(pki.NOW)
            .not_valid_after(pki.NOW + timedelta(days=999))
            .add_extension(broken, critical=False)
        )
        unreadable = pki.Issued(builder.sign(pki.sender().key, hashes.SHA256()), pki.sender().key)
        suitable = self.issued("digital_signature")
        assert self.of(unreadable, suitable).chain[0] == suitable.certificate
        with pytest.raises(ConfigurationError, match="extensions can't be read"):
            self.of(unreadable)

    def test_when_no_certificate_is_for_authentication_the_error_explains_it(self):
        with pytest.raises(ConfigurationError, match="use the one for authentication"):
            self.of(self.issued("key_encipherment"), self.issued("content_commitment"))


@pytest.mark.parametrize("bits", [1024, 2048])
def test_the_key_size_is_in_bits(bits):
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    assert key_size(pki.issue(pki.subject("Sender"), key=key).enterprise()) == bits
