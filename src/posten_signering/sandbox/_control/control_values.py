"""What the control API takes and gives, besides the snapshots of `_overview`. No I/O."""

from dataclasses import dataclass, field

from posten_signering.sandbox._values.hidden import Octets


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitUrl:
    """Where the signer's browser goes.

    Attributes:
        exit_url: With its `status_query_token`.
    """

    exit_url: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusQueryToken:
    """What a status is asked for with.

    Attributes:
        status_query_token: The value of the parameter `status_query_token`.
    """

    status_query_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """How far the sandbox's clock is moved on.

    Attributes:
        seconds: More than 0.
    """

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultNumber:
    """A fault that was added.

    Attributes:
        number: To remove it by.
    """

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Organization:
    """An organisation.

    Attributes:
        organization_number: Nine digits; any will do.
    """

    organization_number: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EnterpriseCertificateFile:
    """An enterprise certificate.

    Attributes:
        organization_number: Whose it is.
        pkcs12: A PKCS#12 file with the key, the certificate and the CAs above it.
        password: The file's password.
    """

    organization_number: str
    pkcs12: Octets = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why something was not done.

    Attributes:
        error: In words.
    """

    error: str
