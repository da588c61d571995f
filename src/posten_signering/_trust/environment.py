"""The installations of the service, and the authorities that may issue their certificates. Performs no I/O.

This package has the fingerprints of the authorities' certificates, but not the certificates.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, cast

from posten_signering._values.secret import Secret
from posten_signering._wire.urls import address_of, origin_of
from posten_signering.errors import ConfigurationError

SERVICE_ROOT_RULE = (
    "must be an absolute https URL without user, query, fragment or a slash at the end, such as "
    "https://api.signering.posten.no/api."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """A CA certificate that may be a trust anchor for the service, identified by its fingerprint.

    Attributes:
        name: The common name of its subject.
        sha256: The SHA-256 fingerprint of the certificate in DER form, as 64 lower-case hexadecimal
            digits.
        issuer: The common name of its issuer; None when it is self-signed.
        published_at: The http or https URL where the authority publishes the certificate; None when
            there is none. Plain HTTP is safe, because the fingerprint is checked.

    Raises:
        ConfigurationError: The fingerprint or the URL is not valid.
    """

    name: str
    sha256: str
    issuer: str | None = None
    published_at: str | None = None

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise ConfigurationError(
                f"The sha256 of {self.name} is not valid. Give the SHA-256 fingerprint as 64 "
                "lower-case hexadecimal digits."
            )
        if self.published_at is not None and address_of(Secret(self.published_at)) is None:
            raise ConfigurationError(
                f"The published_at of {self.name} is not valid. Give an http or https URL, or None."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One installation of the service: `PRODUCTION`, `STAGING`, or one that you define.

    Attributes:
        name: The name in messages.
        service_root: The absolute https URL up to and including `/api`, without a slash at the end.
        authorities: The CA certificates that may be trust anchors in this environment. Each
            environment has its own, so trust anchors of production and test are never mixed.
        server_organization_number: The organisation number that the service's certificate must have.
            It is checked instead of a host name. The default is 984661185, Posten Bring AS.
        default_poll_wait: How long to wait before the next poll when the service gave no time. More
            than zero. The default is ten minutes; `STAGING` has 30 seconds.

    Raises:
        ConfigurationError: The service root, the organisation number or the wait is not valid.
    """

    PRODUCTION: ClassVar["Environment"]
    """The production environment, `https://api.signering.posten.no/api`."""

    STAGING: ClassVar["Environment"]
    """The test environment, `https://api.difitest.signering.posten.no/api`."""

    DIFITEST: ClassVar["Environment"]
    """Another name of the test environment: the same object as `STAGING`."""

    name: str
    service_root: str
    authorities: Sequence[CertificateAuthority] = ()
    server_organization_number: str = "984661185"
    default_poll_wait: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        object.__setattr__(self, "authorities", tuple(self.authorities))
        if (
            origin_of(Secret(self.service_root)) is None
            or re.search("[?#]", self.service_root)
            or self.service_root.endswith("/")
        ):
            raise ConfigurationError(f"The service_root {SERVICE_ROOT_RULE}")
        if re.fullmatch("[0-9]{9}", self.server_organization_number) is None:
            raise ConfigurationError("The server_organization_number must be nine digits.")
        wait = cast("object", self.default_poll_wait)
        if not isinstance(wait, timedelta) or wait <= timedelta(0):
            raise ConfigurationError(
                "Environment.default_poll_wait must be a timedelta of more than 0 seconds, not "
                f"{wait!r}."
            )


# One row for each authority: name, issuer, published_at, sha256.
# fmt: off
_PRODUCTION_AUTHORITIES = (
    ("Buypass Class 3 Root CA G2 ST", None, "http://crt.buypassca.com/BPCl3RootCaG2ST.cer", "f8c16c6b4fd45cb0672e16582b8805f1cafd0c48d866f4ed895b30e352a9faa6"),
    ("Buypass Class 3 Root CA G2 HT", None, "http://crt.buypassca.com/BPCl3RootCaG2HT.cer", "ab936dfd7f171d3a3cbd08f9bebdc3f3baaabaa79df6a908f8a7b0128627f187"),
    ("Buypass Class 3 CA G2 ST Business", "Buypass Class 3 Root CA G2 ST", "http://crt.buypassca.com/BPCl3CaG2STBS.cer", "45e05831cddac1f2b96dc8ca54620834c87649e9ffd3b26d7dad2ad07f807232"),
    ("Buypass Class 3 CA G2 HT Business", "Buypass Class 3 Root CA G2 HT", "http://crt.buypassca.com/BPCl3CaG2HTBS.cer", "0ef5cedce44265b112785b359a21141e20f553aada4c579404617b5ca6046be9"),
    ("Buypass Class 3 Root CA", None, None, "edf7ebbca27a2a384d387b7d4010c666e2edb4843e4c29b4ae1d5b9332e6b24d"),
    ("Buypass Class 3 CA 3", "Buypass Class 3 Root CA", None, "c49c350e5a8205e063e74c554a994335b8435c996527d4ef1a2b0c7b51584b2d"),
    ("Commfides Root CA - G3", None, "http://crt.commfides.com/G3/CommfidesRootCA-G3.crt", "5ad1a2b5dae0ce7daeb4d15e3676002da387ed852c1667b1a80543c474a41ec7"),
    ("Commfides Legal Person - G3", "Commfides Root CA - G3", None, "318aa99dfbe3d5cf10bf1e3a5e8bd921d55c68a70901dadc2cb6ed77ac363501"),
)
_TEST_AUTHORITIES = (
    ("Buypass Class 3 Test4 Root CA G2 ST", None, "http://crt.test4.buypassca.com/BPCl3RootCaG2ST.cer", "760637a0f7da3a3876f601f96b8cf2ceb4fef80b76bd6f052e7bcb0041da350d"),
    ("Buypass Class 3 Test4 Root CA G2 HT", None, "http://crt.test4.buypassca.com/BPCl3RootCaG2HT.cer", "52a09cf14587d7a5be5f3dc64754125822faeea5d75d15fd961e63c6f63d3f70"),
    ("Buypass Class 3 Test4 CA G2 ST Business", "Buypass Class 3 Test4 Root CA G2 ST", "http://crt.test4.buypassca.com/BPCl3CaG2STBS.cer", "2f36956beb4de4907a3a0fb09437d7d532f4a12504473a00c12ceb028df54a28"),
    ("Buypass Class 3 Test4 CA G2 HT Business", "Buypass Class 3 Test4 Root CA G2 HT", "http://crt.test4.buypassca.com/BPCl3CaG2HTBS.cer", "2c9e0ec146f148eda7c5dd05559ccd2261e0c0d66f638864fae21c7756de7210"),
    ("Buypass Class 3 Test4 Root CA", None, None, "2a8475824d9ba398170031b9b398222f857a59bdc5cc3b49005eafdb55955da4"),
    ("Buypass Class 3 Test4 CA 3", "Buypass Class 3 Test4 Root CA", None, "b761abd7a4c478b33be382be511943c20e50950b3b2899875a692e1bef2bdc1b"),
    ("Commfides Root CA - G3 - TEST", None, "http://crt.test.commfides.com/G3/CommfidesRootCA-G3-TEST.crt", "97ea39029d946583d44539519a1f2cae4a40f9733d17dac18457246af5654325"),
    ("Commfides Legal Person - G3 - TEST", "Commfides Root CA - G3 - TEST", None, "94bb0e8701b61794d5d0c3154204571096b23c78b33c87e7f942097030e526d9"),
    ("Digipost Test Root CA", None, None, "3fba0d228cbc8d7928433d7ab4628f0fd18663feff06a910addb241670879c12"),
)
# fmt: on


def _authorities(
    rows: Sequence[tuple[str, str | None, str | None, str]],
) -> list[CertificateAuthority]:
    return [
        CertificateAuthority(name=name, issuer=issuer, published_at=url, sha256=sha256)
        for name, issuer, url, sha256 in rows
    ]


Environment.PRODUCTION = Environment(
    name="PRODUCTION",
    service_root="https://api.signering.posten.no/api",
    authorities=_authorities(_PRODUCTION_AUTHORITIES),
)
Environment.STAGING = Environment(
    name="STAGING",
    service_root="https://api.difitest.signering.posten.no/api",
    authorities=_authorities(_TEST_AUTHORITIES),
    default_poll_wait=timedelta(seconds=30),
)
Environment.DIFITEST = Environment.STAGING
