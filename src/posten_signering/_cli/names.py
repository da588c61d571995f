"""The text of a distinguished name. The SDK has this function too, but not as a public name."""

from cryptography import x509
from cryptography.x509.oid import NameOID


def name_text(name: x509.Name) -> str:
    """A distinguished name for people (RFC 4514), with the name of the attribute that has no short name there."""
    return name.rfc4514_string({NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier"})
