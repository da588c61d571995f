"""The TLS context: mutual TLS, own trust anchors, and a check of the service's organisation number.

While OpenSSL loads the private key, it is in a file in memory (Linux), or in an encrypted temporary file.
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
"""Returns the client's private key and then the chain, in PEM. With a passphrase, the key is encrypted."""

# The fields of a subject that may hold the organisation number, in the order of the official Java
# client: organizationIdentifier (ETSI EN 319 412-1, 5.1.4, with or without its prefix), serialNumber,
# and a common name that begins with the number.
_ORGANIZATION_NUMBERS = (
    (NameOID.ORGANIZATION_IDENTIFIER, re.compile(r"(?:NTRNO-)?([0-9]{9})\Z")),
    (NameOID.SERIAL_NUMBER, re.compile(r"([0-9]{9})\Z")),
    (NameOID.COMMON_NAME, re.compile(r"([0-9]{9})(?![0-9])")),
)


def organization_number_of(certificate: x509.Certificate) -> str | None:
    """The organisation number in a certificate's subject; None when there is none.

    The first field that matches is used: organizationIdentifier (2.5.4.97, nine digits, with or
    without `NTRNO-`), serialNumber (2.5.4.5, nine digits), or a common name that begins with exactly
    nine digits.
    """
    for oid, form in _ORGANIZATION_NUMBERS:
        for attribute in certificate.subject.get_attributes_for_oid(oid):
            match = form.match(str(attribute.value))
            if match is not None:
                return match[1]
    return None


class UntrustedChain(ssl.SSLCertVerificationError):
    """The service's certificate could not be verified with the trust anchors.

    Attributes:
        sent: The certificates that the service sent, in DER form, its own first. Empty when Python
            does not give access to them.
        reason_in_words: OpenSSL's reason.
    """

    def __init__(self, reason: str, sent: tuple[bytes, ...]) -> None:
        super().__init__(1, reason)
        self.reason_in_words = reason
        self.sent = sent


class WrongOrganization(ssl.SSLCertVerificationError):
    """The certificate is trusted, but does not belong to the expected organisation.

    Attributes:
        found: The organisation number in the certificate; None when it has none.
        expected: The organisation number that it should have.
    """

    def __init__(self, *, found: str | None, expected: str) -> None:
        super().__init__(1, "wrong organisation")
        self.found = found
        self.expected = expected


def client_context(
    chain: Sequence[x509.Certificate],
    key_and_chain: KeyAndChain,
    *,
    anchors: Sequence[bytes],
    server_organization_number: str,
) -> ssl.SSLContext:
    """The context for every connection to the service. Call it in a worker thread: it takes milliseconds.

    The service's certificate has no host name. The handshake checks its organisation number instead,
    before any byte of a request is sent.

    Args:
        chain: The client's certificate, then its known issuers.
        key_and_chain: Returns the private key and the chain to send.
        anchors: Trust anchors in DER form. A chain may end in any of them, root or intermediate.
        server_organization_number: The organisation number that the service's certificate must have.

    Raises:
        ConfigurationError: OpenSSL rejects the certificate, for example because its key is too short,
            or there is no file from which OpenSSL can read the key.
    """
    # Not create_default_context: it reads the system's store and SSLKEYLOGFILE, and from Python 3.13
    # on it accepts fewer CA certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.sslobject_class = _checked_by_organization(server_organization_number)
    context.load_verify_locations(cadata=b"".join(anchors))
    # The root is not sent, because the service trusts only a root that it already has (RFC 8446, 4.4.2).
    ends_in_root = chain[-1].issuer == chain[-1].subject
    sent_chain = chain[:-1] if ends_in_root and len(chain) > 1 else chain
    _load(context, partial(key_and_chain, sent_chain))
    return context


def proxy_context() -> ssl.SSLContext:
    """The context for an https proxy, whose certificate must name its host and have an issuer in certifi.

    As in `client_context`, the system's store and environment variables are not used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=certifi.where())
    return context


def _load(context: ssl.SSLContext, pem: Callable[[Secret[bytes] | None], Secret[bytes]]) -> None:
    rejected, unwritable = "", ""
    try:
        if _loaded_from_memory(context, pem(None)):
            return
        passphrase = Secret(secrets.token_hex(32).encode())
        with _temporary_file(pem(passphrase)) as path:
            context.load_cert_chain(path, password=passphrase.reveal)
    except ssl.SSLError as error:
        rejected = _reason_in_words(error)
    except OSError as error:
        unwritable = error.strerror or type(error).__name__
    if rejected:
        raise ConfigurationError(
            f"OpenSSL rejects the enterprise certificate: {rejected}. Use a certificate and key that "
            "OpenSSL accepts."
        )
    if unwritable:
        raise ConfigurationError(
            "OpenSSL reads the private key from a file, and no file could be used: a file in memory "
            "can't be opened in /proc/self/fd, and a temporary file can't be written "
            f"({unwritable}). Mount /proc, or set TMPDIR to a directory that this process may write to."
        )


def _loaded_from_memory(context: ssl.SSLContext, pem: Secret[bytes]) -> bool:
    """Loads a key and chain from a file that exists only in memory. False if that is not possible.

    Raises:
        ssl.SSLError: OpenSSL rejects the key or the chain.
    """
    try:
        descriptor = os.memfd_create("posten-signering")
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem.reveal())
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError:  # a subclass of OSError
        raise
    except (AttributeError, OSError):
        # Not on Linux, forbidden by seccomp, no /proc, or a /proc that this process may not read.
        return False
    return True


@contextmanager
def _temporary_file(pem: Secret[bytes]) -> Generator[str, None, None]:
    """The path of a file that only this user can read. It is deleted when the context ends."""
    descriptor, path = tempfile.mkstemp()  # creates it with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem.reveal())
        yield path
    finally:
        Path(path).unlink()


def _checked_by_organization(expected: str) -> type[ssl.SSLObject]:
    class CheckedByOrganization(ssl.SSLObject):
        """A TLS connection whose handshake fails unless the peer is the expected organisation."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLCertVerificationError as error:
                raise UntrustedChain(error.verify_message, _sent_by_peer(self)) from None
            found = _organization_number(self.getpeercert(binary_form=True))
            if found != expected:
                raise WrongOrganization(found=found, expected=expected)

    return CheckedByOrganization


def _organization_number(certificate: bytes | None) -> str | None:
    try:
        return organization_number_of(x509.load_der_x509_certificate(certificate or b""))
    except ValueError:
        return None


_UNVERIFIED_CHAIN = attrgetter("_sslobj.get_unverified_chain")
_DER = 2  # _ssl.ENCODING_DER


def _sent_by_peer(handshake: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that the peer sent, after its chain was rejected; empty when not available.

    Python 3.13 has a public method for this. Earlier versions since 3.10 have it as a private one. Only
    the text of an error depends on it: without the certificates it can't name the issuer.
    """
    try:
        chain = _UNVERIFIED_CHAIN(handshake)() or ()
        return tuple(certificate.public_bytes(_DER) for certificate in chain)
    except (AttributeError, TypeError, ssl.SSLError):
        return ()


CERTIFICATE_ADVICE = (
    "The issuer delivers two .p12 files: use the one for authentication. Use a test certificate in the "
    "test environment, and a production certificate in production."
)
# The TLS alerts of a server that rejects the client's certificate (RFC 8446, 6.2).
_REFUSALS = {
    "CERTIFICATE_REQUIRED": "requires a client certificate, and received none that it accepts",
    "CERTIFICATE_EXPIRED": "says that the client certificate has expired",
    "CERTIFICATE_REVOKED": "says that the client certificate is revoked",
    "UNKNOWN_CA": "does not know the issuer of the client certificate",
    "BAD_CERTIFICATE": "refused the client certificate",
    "UNSUPPORTED_CERTIFICATE": "refused this kind of client certificate",
    "CERTIFICATE_UNKNOWN": "refused the client certificate",
    "ACCESS_DENIED": "denies access to the client certificate",
    "DECRYPT_ERROR": "could not verify the signature made with the client certificate",
}
_HANDSHAKE_FAILURE = "HANDSHAKE_FAILURE"


def _alert(error: ssl.SSLError) -> str | None:
    match = re.search("_ALERT_([A-Z_]+)$", _reason(error))
    return None if match is None else match[1]


def is_client_certificate_alert(error: ssl.SSLError) -> bool:
    """Whether the service ended the handshake because of the client's certificate."""
    return _alert(error) in _REFUSALS


def describe(error: ssl.SSLError, certificate_advice: str = CERTIFICATE_ADVICE) -> str:
    """What failed in TLS, as the end of a sentence that begins with "The service".

    Args:
        error: The failure.
        certificate_advice: What to do when the service refuses the client certificate.
    """
    alert = _alert(error)
    if alert == _HANDSHAKE_FAILURE:
        return (
            "ended the TLS handshake without a clear reason. Either it supports none of the client's "
            "cipher suites or signature algorithms (check whether this machine's OpenSSL is restricted, "
            "and whether a proxy or firewall answers in place of the service), or it received no client "
            f"certificate. {certificate_advice}"
        )
    if alert in _REFUSALS:
        return f"{_REFUSALS[alert]}. {certificate_advice}"
    return f"caused a TLS error: {_reason_in_words(error)}."


def _reason_in_words(error: ssl.SSLError) -> str:
    return (_reason(error) or type(error).__name__).replace("_", " ").lower()


def _reason(error: ssl.SSLError) -> str:
    # OpenSSL's name of the reason. Errors that Python raises itself have none.
    return str(getattr(error, "reason", None) or "")
