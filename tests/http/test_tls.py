"""The TLS context: which services it trusts, what the client sends, and that no key stays on a disk.

Handshakes run in memory, against Python's own TLS server, without a socket.
"""

import contextlib
import os
import socket
import ssl
import stat
import tempfile
from functools import partial
from pathlib import Path

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from doubles import frames_with_locals
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._http import tls
from posten_signering._http.tls import (
    UntrustedChain,
    WrongOrganization,
    client_context,
    organization_number_of,
)
from posten_signering._trust.certificates import complete_chain, key_and_chain
from posten_signering.errors import ConfigurationError

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request):
    return request.param


def context_for(*anchors, number=pki.SERVICE, certificate=None):
    anchors = [anchor.der for anchor in anchors or (pki.root(),)]
    certificate = certificate or pki.sender().enterprise()
    chain, _ = complete_chain(certificate, anchors)
    return client_context(
        chain,
        partial(key_and_chain, certificate),
        anchors=anchors,
        server_organization_number=number,
    )


class Handshake:
    """Both sides of one handshake. `sent` has what the client sends."""

    def __init__(self, client, server):
        to_client, to_server, out, back = (ssl.MemoryBIO() for _ in range(4))
        self.client = client.wrap_bio(to_client, out, server_hostname="localhost")
        self.server = server.wrap_bio(to_server, back, server_side=True)
        self.sent = b""
        done = set()
        while len(done) < 2:
            for name, side, inbox, outbox in (
                ("client", self.client, to_server, out),
                ("server", self.server, to_client, back),
            ):
                try:
                    side.do_handshake()
                    done.add(name)
                except ssl.SSLWantReadError:
                    pass
                data = outbox.read()
                self.sent += data if name == "client" else b""
                inbox.write(data)


def test_the_expected_organisation_is_trusted(version):
    handshake = Handshake(context_for(), pki.server_context(pki.service(), version=version))
    assert handshake.client.version() == version.name.replace("v1_", "v1.")


@pytest.mark.parametrize("anchor", [pki.root(), pki.intermediate(), pki.service()])
def test_any_certificate_of_the_chain_can_be_the_trust_anchor(anchor, version):
    assert Handshake(context_for(anchor), pki.server_context(pki.service(), version=version))


def test_renegotiation_is_refused():
    assert context_for().options & ssl.OP_NO_RENEGOTIATION


def test_an_untrusted_chain_is_refused_and_its_certificates_are_in_the_error(version):
    server = pki.server_context(pki.service(), version=version)
    with pytest.raises(UntrustedChain, match="unable to get local issuer") as raised:
        Handshake(context_for(pki.root("Other")), server)
    assert raised.value.sent == (pki.service().der, pki.intermediate().der)


def test_the_system_store_is_not_used(version, monkeypatch, tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.root().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    server = pki.server_context(pki.service(), version=version)
    with pytest.raises(UntrustedChain):
        Handshake(context_for(pki.root("Other")), server)

    # Shows that Python's default context would use it.
    default = ssl.create_default_context()
    default.check_hostname = False
    default.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the test PKI has no Authority Key Identifier
    assert Handshake(default, pki.server_context(pki.service(), version=version))


def test_session_keys_are_not_written_to_sslkeylogfile(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert Handshake(context_for(), pki.server_context(pki.service()))
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("found", ["111111111", "98466118"])
def test_a_trusted_certificate_of_a_different_organisation_is_refused(found, version):
    server = pki.server_context(pki.service(found), version=version)
    with pytest.raises(WrongOrganization) as raised:
        Handshake(context_for(), server)
    assert raised.value.expected == pki.SERVICE
    assert raised.value.found == (found if len(found) == 9 else None)


def test_the_expected_organisation_can_be_configured(version):
    server = pki.server_context(pki.service("111111111"), version=version)
    assert Handshake(context_for(number="111111111"), server)


def test_an_expired_certificate_of_the_service_is_refused(version):
    name = pki.subject("Posten", organization_identifier=f"NTRNO-{pki.SERVICE}")
    expired = pki.issue(name, pki.root(), not_after=pki.NOW - pki.timedelta(hours=1))
    with pytest.raises(UntrustedChain, match="certificate has expired"):
        Handshake(context_for(), pki.server_context(expired, version=version))


def test_older_versions_of_tls_are_refused():
    context = context_for()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED


def test_the_context_is_a_plain_ssl_context_which_anyio_wraps_without_a_thread():
    assert type(context_for()) is ssl.SSLContext


def test_the_client_sends_its_certificate_and_the_issuers(version):
    # The server has only the root, so it needs the intermediate to verify the client.
    server = pki.server_context(pki.service(), version=version, clients=pki.root())
    handshake = Handshake(context_for(), server)
    assert handshake.server.getpeercert(binary_form=True) == pki.sender().der


def test_a_missing_issuer_is_taken_from_the_trust_anchors(version):
    server = pki.server_context(pki.service(), version=version, clients=pki.root())
    alone = pki.sender().enterprise([])
    assert Handshake(
        context_for(pki.root(), pki.intermediate("Sender CA"), certificate=alone), server
    )


def test_a_client_without_its_issuer_is_refused(version):
    server = pki.server_context(pki.service(), version=version, clients=pki.root())
    alone = pki.sender().enterprise([])
    with pytest.raises(ssl.SSLError):
        Handshake(context_for(pki.root("Other"), pki.intermediate(), certificate=alone), server)


def test_a_self_signed_client_certificate_is_sent(version):
    name = pki.subject("Self", organization_identifier=f"NTRNO-{pki.SENDER}")
    issued = pki.issue(name)
    server = pki.server_context(pki.service(), version=version, clients=issued)
    assert Handshake(context_for(certificate=issued.enterprise()), server)


@pytest.fixture
def not_to_be_opened():
    """Returns descriptors that can be written, but can't be opened by their path in /proc/self/fd."""
    with contextlib.ExitStack() as open_sockets:

        def descriptor(name: str) -> int:
            reader, writer = socket.socketpair()
            open_sockets.enter_context(reader)
            return writer.detach()

        yield descriptor


class TestKeysOnDisk:
    @pytest.fixture
    def opened(self, monkeypatch):
        """The paths of files that Python opened for writing."""
        paths = []

        def spy(path, flags, mode=0o777, *, dir_fd=None):
            if flags & (os.O_WRONLY | os.O_RDWR):
                paths.append(os.fspath(path))
            return real(path, flags, mode, dir_fd=dir_fd)

        real = os.open
        monkeypatch.setattr(os, "open", spy)
        return paths

    @pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has memory files")
    def test_on_linux_no_file_is_written(self, opened):
        before = set(Path("/proc/self/fd").iterdir())
        assert context_for()
        assert opened == []
        assert set(Path("/proc/self/fd").iterdir()) == before

    @pytest.mark.parametrize("reason", ["forbidden", "not on Linux", "not to be opened"])
    def test_without_memory_files_the_key_is_in_an_encrypted_private_file(
        self, reason, monkeypatch, opened, not_to_be_opened
    ):
        def forbidden(name):
            raise PermissionError

        if reason == "forbidden":
            monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
        elif reason == "not on Linux":
            monkeypatch.delattr(os, "memfd_create", raising=False)
        else:
            monkeypatch.setattr(os, "memfd_create", not_to_be_opened, raising=False)
        seen = []

        def unlink(path, **more):
            seen.append((path, stat.S_IMODE(path.stat().st_mode), path.read_bytes()))
            real(path, **more)

        real = Path.unlink
        monkeypatch.setattr(Path, "unlink", unlink)

        server = pki.server_context(pki.service(), clients=pki.root())
        seen.clear()
        opened.clear()
        assert Handshake(context_for(), server)

        [(path, mode, content)] = seen
        assert mode == 0o600
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
        assert b"BEGIN PRIVATE KEY" not in content
        assert opened == [str(path)]
        assert not path.exists()

    def test_the_file_is_deleted_when_loading_fails(self, monkeypatch, tmp_path):
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(ConfigurationError):
            context_for(certificate=short_key())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("reason", ["no folder", "not writable"])
    def test_without_any_file_the_error_says_what_is_needed(
        self, reason, monkeypatch, tmp_path, not_to_be_opened
    ):
        monkeypatch.setattr(os, "memfd_create", not_to_be_opened, raising=False)
        folder = tmp_path / "absent"
        if reason == "not writable":
            folder.write_bytes(b"")
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        certificate = pki.sender().enterprise()
        with pytest.raises(ConfigurationError, match=r"Mount /proc, or set TMPDIR") as raised:
            context_for(certificate=certificate)
        assert raised.value.__context__ is None
        assert "PRIVATE KEY" not in frames_with_locals(raised.value)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        assert context_for(certificate=certificate)


def short_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = pki.subject("Short", organization_identifier=f"NTRNO-{pki.SENDER}")
    return pki.issue(name, pki.root(), key=key).enterprise()


def test_a_key_that_is_too_short_for_tls_is_refused():
    with pytest.raises(ConfigurationError, match=r"OpenSSL rejects .*: ee key too small") as raised:
        context_for(certificate=short_key())
    assert raised.value.__cause__ is None


class TestMissingInformation:
    def test_the_sent_chain_is_empty_where_python_does_not_give_access_to_it(self):
        class OlderSslObject:
            _sslobj = object()

        assert tls._sent_by_peer(OlderSslObject()) == ()

    @pytest.mark.parametrize("content", [None, b"canary"])
    def test_a_certificate_that_can_not_be_read_has_no_organisation_number(self, content):
        assert tls._organization_number(content) is None

    def test_an_error_without_a_reason_is_described_by_its_type(self):
        assert "caused a TLS error: sslerror" in tls.describe(ssl.SSLError(1, ""))


# --- The field of a subject that has the organisation number


class TestOrganizationNumber:
    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"organization_identifier": "NTRNO-984661185"}, "984661185"),
            ({"organization_identifier": "984661185"}, "984661185"),
            ({"serial_number": "984661185"}, "984661185"),
            ({"common_name": "984661185"}, "984661185"),
            ({"common_name": "984661185 Posten"}, "984661185"),
            # The first field that matches is used.
            (
                {"organization_identifier": "NTRNO-111111111", "serial_number": "984661185"},
                "111111111",
            ),
            ({"organization_identifier": "VATNO-1", "serial_number": "984661185"}, "984661185"),
            ({"serial_number": "98466118", "common_name": "984661185"}, "984661185"),
            # The whole value must match, not only a part.
            ({"organization_identifier": "NTRNO-9846611850"}, None),
            ({"organization_identifier": "NTRSE-984661185"}, None),
            ({"organization_identifier": "ntrno-984661185"}, None),
            ({"organization_identifier": "NTRNO-984661185\n"}, None),
            ({"organization_identifier": "984 661 185"}, None),
            ({"serial_number": "NTRNO-984661185"}, None),
            ({"common_name": "9846611850"}, None),
            ({"common_name": "Posten 984661185"}, None),
            ({"common_name": "٩٨٤٦٦١١٨٥"}, None),
            ({"organization_name": "984661185"}, None),
            ({"organizational_unit_name": "984661185"}, None),
        ],
    )
    def test_the_organisation_number_is_read_from_the_first_matching_field(self, fields, found):
        name = x509.Name(
            [
                x509.NameAttribute(getattr(x509.NameOID, field.upper()), value)
                for field, value in fields.items()
            ]
        )
        issued = pki.issue(name, pki.root(), key=pki.rsa_key("any"))
        assert organization_number_of(issued.certificate) == found

    @given(st.text(st.characters(categories=["L", "N", "P", "Z"]), min_size=1, max_size=12))
    def test_no_other_text_is_read_as_an_organisation_number(self, text):
        certificate = type(
            "Certificate",
            (),
            {"subject": x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, text)])},
        )
        expected = text if len(text) == 9 and set(text) <= set("0123456789") else None
        assert organization_number_of(certificate) == expected
