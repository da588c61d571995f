"""Describes certificates in PEM or DER form, and those of a PKCS#12 file. Performs no I/O."""

import warnings
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs12
from cryptography.x509.oid import NameOID

from posten_signering import EnterpriseCertificate, Environment, Secret, TrustAnchors
from posten_signering._cli.inspection.loading import loaded
from posten_signering._cli.inspection.report import Report, Row, Section, row, section
from posten_signering._cli.names import name_text
from posten_signering._cli.setup.authorities import at_hand
from posten_signering._cli.setup.steps import environment_of, wrong_environment
from posten_signering.errors import ConfigurationError

_MOST_CERTIFICATES = 50

# The end of the message for a file without its password. It names an argument in Python.
_WITHOUT_ONE = ", and `password` is not set. Set it to the file's password."
_ADVICE_WITHOUT_ONE = (
    "No password was given. Give it with --certificate-password-file or "
    "POSTEN_SIGNERING_CERTIFICATE_PASSWORD."
)

# The names of RFC 5280, 4.2.1.3, and the attributes of `x509.KeyUsage`.
_USES = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}


def inspect_pkcs12(
    content: Secret[bytes],
    password: Secret[str | None],
    *,
    environment: Environment | None,
    given_anchors: TrustAnchors,
    now: datetime,
) -> Report:
    """What is in a PKCS#12 file, and which key a client would use.

    Args:
        content: The file.
        password: Its password.
        environment: The environment that the certificate must be for; None if any is right.
        given_anchors: CA certificates that may complete the chain.
        now: The current time.

    Raises:
        ConfigurationError: The file can't be read: for example, the password is wrong.
    """
    used, problem = None, ""
    try:
        used = EnterpriseCertificate.from_pkcs12(content.reveal(), password=password.reveal())
    except ConfigurationError as error:
        problem = str(error)
    key, certificates = _pkcs12_content(content, password)
    if not certificates:
        raise ConfigurationError(problem.replace(_WITHOUT_ONE, f". {_ADVICE_WITHOUT_ONE}"))
    summary = _unusable(problem) if used is None else _usable(used, environment, given_anchors, now)
    sections = [
        _certificate_section(
            f"Certificate {number}",
            certificate,
            now,
            _role(certificate, used, key),
        )
        for number, certificate in enumerate(certificates[:_MOST_CERTIFICATES], start=1)
    ]
    return Report(kind="a PKCS#12 file (.p12, .pfx)", sections=(summary, *sections))


def inspect_certificates(content: Secret[bytes], *, now: datetime) -> Report:
    """What certificates in PEM or DER form are.

    Raises:
        ConfigurationError: There is no certificate, or one can't be read.
    """
    found = certificates_in(content)
    sections = [
        _certificate_section(f"Certificate {number}", certificate, now, _pinned_row(certificate))
        for number, certificate in enumerate(found[:_MOST_CERTIFICATES], start=1)
    ]
    if b"PRIVATE KEY-----" in content.reveal():
        sections.append(section("Private key", row("private key", "in the file, not shown")))
    if len(found) > _MOST_CERTIFICATES:
        sections.append(section("More", row("certificates", f"{len(found)} in all")))
    return Report(kind="a file of certificates in PEM or DER form", sections=tuple(sections))


def certificates_in(content: Secret[bytes]) -> list[x509.Certificate]:
    """The certificates in PEM or DER form.

    Raises:
        ConfigurationError: There is no certificate, or one can't be read.
    """
    if b"-----BEGIN" not in content.reveal():
        found = loaded(lambda: [x509.load_der_x509_certificate(content.reveal())])
    else:
        found = loaded(lambda: x509.load_pem_x509_certificates(content.reveal()))
    if found:
        return found
    raise ConfigurationError(
        "The file has no certificate that can be read. Check that it is complete, and that it is a "
        "certificate and not only a key."
    )


def is_certificate(content: Secret[bytes]) -> bool:
    """Whether the content is a certificate in DER form."""
    try:
        return bool(certificates_in(content))
    except ConfigurationError:
        return False


def _pkcs12_content(
    content: Secret[bytes], password: Secret[str | None]
) -> tuple[bytes | None, list[x509.Certificate]]:
    """The public key of the private key, and all certificates; none if the file can't be read."""
    secret = Secret((password.reveal() or "").encode(errors="replace"))
    if b"\0" in secret.reveal():  # the library panics
        return None, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some issuers write BER, not DER
        try:
            bundle = pkcs12.load_pkcs12(content.reveal(), secret.reveal() or None)
        except (ValueError, UnsupportedAlgorithm):
            return None, []
    entries = [*([] if bundle.cert is None else [bundle.cert]), *bundle.additional_certs]
    public = None if bundle.key is None else _public(bundle.key.public_key())
    return public, loaded(lambda: [entry.certificate for entry in entries])


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of(certificate: x509.Certificate) -> bytes | None:
    try:
        return _public(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _unusable(problem: str) -> Section:
    return section("As the enterprise certificate", row("usable", problem, good=False))


def _usable(
    used: EnterpriseCertificate,
    environment: Environment | None,
    given_anchors: TrustAnchors,
    now: datetime,
) -> Section:
    rows = [
        row("organisation", used.organization_name or "no name"),
        row(
            "organisation number",
            used.organization_number or "none",
            good=used.organization_number is not None,
        ),
        row("key that is used", used.subject),
    ]
    valid = used.not_before <= now <= used.not_after
    rows.append(
        row("valid now", f"{(used.not_after - now).days} days left" if valid else "no", good=valid)
    )
    anchors: Sequence[bytes] = given_anchors.candidates
    own = environment_of(used)
    if environment is not None:
        misplaced = wrong_environment(used, environment)
        words = misplaced or f"nothing contradicts {environment.name}"
        rows.append(row("environment", words, good=misplaced is None))
    elif own is not None:
        rows.append(row("environment", f"{own.name}, by the names of its issuers"))
    known = environment or own
    if known is not None:
        anchors = [anchor.der for anchor in at_hand(given_anchors, known, used)]
    missing = used.missing_issuer(anchors)
    words = (
        "complete up to the root" if missing is None else f"the certificate of {missing} is missing"
    )
    rows.append(row("chain", words, good=missing is None))
    return section("As the enterprise certificate", *rows)


def _role(
    certificate: x509.Certificate, used: EnterpriseCertificate | None, key: bytes | None
) -> Row:
    if used is not None and certificate == used.chain[0]:
        return row("role", "used, for TLS and for signatures", good=True)
    if used is not None and certificate in used.chain:
        return row("role", "part of the chain")
    if _is_ca(certificate):
        return row("role", "a CA certificate that is not part of the chain")
    if _public_of(certificate) != key:
        return row(
            "role", "not used: it belongs to no key, or to a key other than the file's first"
        )
    if "digitalSignature" not in key_uses(certificate):
        return row("role", "not used: it is not for authentication (key usage digitalSignature)")
    return row("role", "not used: a different certificate of the same key is valid for longer")


def _pinned_row(certificate: x509.Certificate) -> Row:
    sha256 = certificate.fingerprint(hashes.SHA256()).hex()
    for environment in (Environment.PRODUCTION, Environment.STAGING):
        if any(authority.sha256 == sha256 for authority in environment.authorities):
            return row("trust anchor", f"pinned for {environment.name}")
    return row("trust anchor", "not pinned for any environment")


def _certificate_section(
    title: str, certificate: x509.Certificate, now: datetime, *more: Row
) -> Section:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    validity = f"{not_before:%Y-%m-%d} to {not_after:%Y-%m-%d}"
    return section(
        f"{title}: {str(names[0].value) if names else 'no common name'}",
        row("subject", name_text(certificate.subject)),
        row("issuer", name_text(certificate.issuer)),
        row("valid", validity, good=not_before <= now <= not_after),
        row("CA", "yes" if _is_ca(certificate) else "no"),
        row("key usage", ", ".join(key_uses(certificate)) or "not limited"),
        row("SHA-256", certificate.fingerprint(hashes.SHA256()).hex()),
        *more,
    )


def key_uses(certificate: x509.Certificate) -> list[str]:
    """What the key may be used for; empty if that is not limited or can't be read."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name for name, attribute in _USES.items() if getattr(usage, attribute)]


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False
