"""Describes XML signatures, of a container and of a signer's XAdES, as rows of a report. Performs no I/O."""

from datetime import datetime

from posten_signering._cli.inspection.report import Report, Row, row, section
from posten_signering._cli.inspection.xml import Element, elements, local_name, parse
from posten_signering._cli.inspection.xmldsig import SignatureFound, verified
from posten_signering._cli.names import name_text
from posten_signering.errors import ConfigurationError

# More would take too long.
_MOST_SIGNATURES = 10


def inspect_xml(content: bytes) -> Report:
    """What is in an XML file with signatures, such as a signer's XAdES.

    Raises:
        ConfigurationError: The file is not XML that can be inspected, or has no signature.
    """
    root = parse(content, name="The file")
    found = signatures_in(root)
    if not found:
        return Report(
            kind=f"an XML file without a signature, with the root element {local_name(root)}",
            sections=(section("Signatures", row("signatures", "none", good=False)),),
        )
    sections = [
        section(f"Signature {number}", *signature_rows(signature), *reference_rows(signature))
        for number, element in enumerate(found, start=1)
        for signature in [verified(element, lambda _: None)]
    ]
    return Report(kind="an XML file with signatures, such as a XAdES", sections=tuple(sections))


def signatures_in(root: Element) -> list[Element]:
    """The signatures, wherever they are below the root element.

    Raises:
        ConfigurationError: There are more than can be checked in a short time.
    """
    found = list(elements(root, "ds:Signature"))
    if len(found) > _MOST_SIGNATURES:
        raise ConfigurationError(
            f"The XML file has {len(found)} signatures, which are too many to inspect."
        )
    return found


def signature_rows(signature: SignatureFound) -> list[Row]:
    """Who signed and when, and whether the signature is right."""
    rows = [row("signature value", signature.finding, good=signature.value_is_right)]
    if signature.certificates:
        certificate = signature.certificates[0]
        rows += [
            row("certificate", name_text(certificate.subject)),
            row("issuer", name_text(certificate.issuer)),
            row("certificates enclosed", len(signature.certificates)),
        ]
    if signature.signing_time is not None:
        rows.append(row("signing time", signature.signing_time))
        rows += _validity_then(signature)
    if signature.properties_are_signed is not None:
        words = "covered by the signature" if signature.properties_are_signed else "not covered"
        rows.append(row("signed properties", words, good=signature.properties_are_signed))
    if signature.names_its_certificate is not None:
        words = (
            "right"
            if signature.names_its_certificate
            else "of a different certificate, or by an unknown algorithm"
        )
        rows.append(row("certificate digest", words, good=signature.names_its_certificate))
    return rows


def reference_rows(signature: SignatureFound) -> list[Row]:
    """What the signature covers."""
    if not signature.references:
        return [row("covers", "nothing", good=False)]
    return [
        row(
            f"covers {reference.uri or 'the whole file'}", reference.finding, good=reference.matches
        )
        for reference in signature.references
    ]


def _validity_then(signature: SignatureFound) -> list[Row]:
    """Whether the certificate was valid at the time that the signer states."""
    try:
        time = datetime.fromisoformat(signature.signing_time or "")
    except ValueError:
        return [
            row("certificate at that time", "unknown, because the time can't be read", good=False)
        ]
    if time.tzinfo is None or not signature.certificates:
        return []
    certificate = signature.certificates[0]
    valid = certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc
    return [row("certificate at that time", "valid" if valid else "not valid", good=valid)]
