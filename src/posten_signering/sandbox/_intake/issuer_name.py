"""Compares the issuer's name in a signature with that of the certificate, leniently.

The clients write `X509IssuerName` in different ways: RFC 2253 with unknown types as OID and
hexadecimal DER, RFC 4514 with text values, .NET's own form with a space after each comma. The
service takes them all, since CertDigest pins the certificate. So the attributes' values are
compared, and neither their order nor the spelling of their types. Performs no I/O.
"""

import re
from collections import Counter
from collections.abc import Iterator

from cryptography import x509

_DER_TEXT_ENCODINGS = {
    0x0C: "utf-8",  # UTF8String
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString
    0x16: "ascii",  # IA5String
    0x1E: "utf-16-be",  # BMPString
}


def names_issuer(text: str, certificate: x509.Certificate) -> bool:
    """Whether a text names the issuer of a certificate.

    Args:
        text: The text of an `X509IssuerName`.
        certificate: The certificate whose issuer is meant.
    """
    expected = Counter(_folded(_text_of(attribute)) for attribute in certificate.issuer)
    return Counter(_folded(value) for value in _values(text)) == expected


def _text_of(attribute: "x509.NameAttribute[str | bytes]") -> str:
    value = attribute.value
    return value if isinstance(value, str) else value.hex()


def _folded(value: str) -> str:
    return " ".join(value.split()).casefold()


def _values(text: str) -> Iterator[str]:
    for attribute in _split(text):
        name, equals, value = attribute.partition("=")
        if not equals or not name.strip():
            yield attribute  # not a name at all: kept, so that it equals nothing
        else:
            yield _decoded(value.strip())


def _split(text: str) -> Iterator[str]:
    """The `type=value` pairs of a name: neither quoted nor escaped separators part them."""
    current: list[str] = []
    quoted = escaped = False
    for character in text:
        if character in ",;+" and not quoted and not escaped:
            yield "".join(current)
            current = []
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        current.append(character)
    yield "".join(current)


def _decoded(value: str) -> str:
    if re.fullmatch(r"#(?:[0-9a-fA-F]{2})+", value):
        return _decoded_der(bytes.fromhex(value[1:]))
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    # Escaped bytes come in runs: one character of UTF-8 may take several.
    value = re.sub(
        r"(?:\\[0-9a-fA-F]{2})+",
        lambda run: bytes.fromhex(run[0].replace("\\", "")).decode("utf-8", "replace"),
        value,
    )
    return re.sub(r"\\(.)", r"\1", value)


def _decoded_der(der: bytes) -> str:
    encoding = _DER_TEXT_ENCODINGS.get(der[0])
    # A length of 128 and more is given as the count of its own bytes, then those (X.690, 8.1.3).
    length_bytes = der[1] & 0x7F if len(der) > 1 and der[1] & 0x80 else 0
    content = der[2 + length_bytes :]
    return der.hex() if encoding is None else content.decode(encoding, "replace")
