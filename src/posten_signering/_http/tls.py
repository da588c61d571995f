"""The TLS context: mutual TLS, own trust anchors, the organisation number in place of a host name.

The only I/O is a private key's short stay in memory (Linux) or, encrypted under a passphrase that
nothing keeps, in a temporary file.
"""

import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.x509.oid import NameOID

from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

KeyAndChain = Callable[[Sequence[x509.Certificate], Secret[bytes] | None], Secret[bytes]]
"""Gives the client's private key, followed by a chain, in PEM; encrypted if there is a passphrase."""

# Where the organisation number stands in a subject, in the order in which the official Java client
# looks: organizationIdentifier (ETSI EN 319 412-1, 5.1.4, with or without its prefix), serialNumber,
# and a common name that begins with it.
_ORGANIZATION_NUMBERS = (
    (NameOID.ORGANIZATION_IDENTIFIER, re.compile(r"(?:NTRNO-)?([0-9]{9})\Z")),
    (NameOID.SERIAL_NUMBER, re.compile(r"([0-9]{9})\Z")),
    (NameOID.COMMON_NAME, re.compile(r"([0-9]{9})(?![0-9])")),
)


def organization_number_of(certificate: x509.Certificate) -> str | None:
    """The organisation number that a certificate's subject names; the first field that has one wins.

    Read by OID and matched whole: organizationIdentifier (2.5.4.97, `NTRNO-` may precede the number),
    then serialNumber (2.5.4.5), then a common name that begins with exactly nine digits.
    """
    for oid, form in _ORGANIZATION_NUMBERS:
        for attribute in certificate.subject.get_attributes_for_oid(oid):
            match = form.match(str(attribute.value))
            if match is not None:
                return match[1]
    return None


class UntrustedChain(ssl.SSLCertVerificationError):
    """The other side's certificate leads to no trust anchor.

    Attributes:
        sent: What it sent, in DER form, its own certificate first; empty where that can't be told.
        reason: OpenSSL's reason in words.
    """

    def __init__(self, reason: str, sent: tuple[bytes, ...]) -> None:
        super().__init__(1, reason)
        self.reason_in_words = reason
        self.sent = sent


class OtherOrganization(ssl.SSLCertVerificationError):
    """The certificate is trusted, but belongs to another organisation.

    Attributes:
        found: The organisation number in the certificate; None when it names none.
        expected: The number that it should have.
    """

    def __init__(self, *, found: str | None, expected: str) -> None:
        super().__init__(1, "another organisation")
        self.found = found
        self.expected = expected


def client_context(
    chain: Sequence[x509.Certificate],
    key_and_chain: KeyAndChain,
    *,
    anchors: Sequence[bytes],
    server_organization_number: str,
) -> ssl.SSLContext:
    """The context for every connection to the service. Takes milliseconds: for a worker thread.

    The service's certificate names no host, so that the organisation number is checked instead: in
    the handshake, before a byte of a request can be sent.

    Args:
        chain: The client's certificate, then its issuers as far as they are known.
        key_and_chain: Gives the private key, and what is offered of the chain.
        anchors: In DER form. Each may end a chain, roots and intermediates alike.
        server_organization_number: Whose certificate the service must show.

    Raises:
        ConfigurationError: TLS does not take the certificate, such as one with too short a key.
    """
    # Not create_default_context: it reads the system's store and SSLKEYLOGFILE, and from Python 3.13
    # on is stricter about the form of CA certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.sslobject_class = _checked_by_organization(server_organization_number)
    context.load_verify_locations(cadata=b"".join(anchors))
    # A root that the service does not have already would not convince it (RFC 8446, 4.4.2).
    ends_in_root = chain[-1].issuer == chain[-1].subject
    offered = chain[:-1] if ends_in_root and len(chain) > 1 else chain
    _load(context, partial(key_and_chain, offered))
    return context


def proxy_context() -> ssl.SSLContext:
    """The context for the way to an https proxy: its host name, vouched for by certifi's authorities.

    Made by hand for the same reasons as `client_context`: neither the system's store nor a variable
    of the environment has a say.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=certifi.where())
    return context


def _load(context: ssl.SSLContext, pem: Callable[[Secret[bytes] | None], Secret[bytes]]) -> None:
    reason = ""
    try:
        with _in_memory(pem(None)) as path:
            if path is not None:
                context.load_cert_chain(path)
                return
        passphrase = Secret(secrets.token_hex(32).encode())
        with _in_temporary_file(pem(passphrase)) as path:
            context.load_cert_chain(path, password=passphrase.reveal)
    except ssl.SSLError as error:
        reason = _words(error)
    if reason:
        raise ConfigurationError(f"TLS does not take the enterprise certificate: {reason}.")


@contextmanager
def _in_memory(pem: Secret[bytes]) -> Generator[str | None, None, None]:
    """The path of a file that exists in this process's memory only; None where there is no such."""
    descriptor = _memory_file()
    if descriptor is None:
        yield None
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem.reveal())
        file.flush()
        path = f"/proc/self/fd/{descriptor}"
        yield path if Path(path).exists() else None


def _memory_file() -> int | None:
    try:
        return os.memfd_create("posten-signering")
    except (AttributeError, OSError):  # not Linux, or forbidden (seccomp)
        return None


@contextmanager
def _in_temporary_file(pem: Secret[bytes]) -> Generator[str, None, None]:
    """The path of a file that only this user can read, for as long as the context lasts."""
    descriptor, path = tempfile.mkstemp()  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem.reveal())
        yield path
    finally:
        Path(path).unlink()


def _checked_by_organization(expected: str) -> type[ssl.SSLObject]:
    class CheckedByOrganization(ssl.SSLObject):
        """Finishes its handshake with the expected organisation only."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLCertVerificationError as error:
                raise UntrustedChain(error.verify_message, _sent_by_peer(self)) from None
            found = _organization_number(self.getpeercert(binary_form=True))
            if found != expected:
                raise OtherOrganization(found=found, expected=expected)

    return CheckedByOrganization


def _organization_number(certificate: bytes | None) -> str | None:
    try:
        return organization_number_of(x509.load_der_x509_certificate(certificate or b""))
    except ValueError:
        return None


_UNVERIFIED_CHAIN = attrgetter("_sslobj.get_unverified_chain")
_DER = 2  # _ssl.ENCODING_DER


def _sent_by_peer(handshake: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that the other side sent, after its chain was refused.

    Python shows them in public from 3.13 on, and keeps them in the same place since 3.10. Only the
    words of an error depend on it: where they are missing, so is the issuer's name.
    """
    try:
        chain = _UNVERIFIED_CHAIN(handshake)() or ()
        return tuple(each.public_bytes(_DER) for each in chain)
    except (AttributeError, TypeError, ssl.SSLError):
        return ()


# What a server says (RFC 8446, 6.2) when it does not take the client's certificate.
_ADVICE = (
    "Of the two .p12 files that the issuer delivers, the service takes the one for authentication; "
    "test certificates are for the test environment, production ones for production."
)
_REFUSALS = {
    "CERTIFICATE_REQUIRED": "asked for a client certificate and got none that it can use",
    "CERTIFICATE_EXPIRED": "says that the client certificate has expired",
    "CERTIFICATE_REVOKED": "says that the client certificate is revoked",
    "UNKNOWN_CA": "does not know the issuer of the client certificate",
    "BAD_CERTIFICATE": "refused the client certificate",
    "UNSUPPORTED_CERTIFICATE": "refused this kind of client certificate",
    "CERTIFICATE_UNKNOWN": "refused the client certificate",
    "ACCESS_DENIED": "gives the client certificate no access",
    "DECRYPT_ERROR": "could not verify the signature made with the client certificate",
}
_HANDSHAKE_FAILURE = "HANDSHAKE_FAILURE"


def _alert(error: ssl.SSLError) -> str | None:
    match = re.search("_ALERT_([A-Z_]+)$", _reason(error))
    return None if match is None else match[1]


def is_client_certificate_alert(error: ssl.SSLError) -> bool:
    """Whether the other side ended the handshake because of the client's certificate."""
    return _alert(error) in _REFUSALS


def describe(error: ssl.SSLError) -> str:
    """What went wrong in TLS, as the end of a sentence that begins with "The service"."""
    alert = _alert(error)
    if alert == _HANDSHAKE_FAILURE:
        return f"broke off the TLS handshake, as when it gets no client certificate. {_ADVICE}"
    if alert in _REFUSALS:
        return f"{_REFUSALS[alert]}. {_ADVICE}"
    return f"could not be talked to over TLS: {_words(error)}."


def _words(error: ssl.SSLError) -> str:
    return (_reason(error) or type(error).__name__).replace("_", " ").lower()


def _reason(error: ssl.SSLError) -> str:
    # OpenSSL's name for it; errors made in Python have none.
    return str(getattr(error, "reason", None) or "")
