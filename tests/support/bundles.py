"""Builds the containers and request bodies of a sender, with text templates and `cryptography` only.

The code is independent of the sandbox, which judges the result. It writes the canonical XML forms by hand, beside the
forms that go into the file, so that no library canonicalises them. There are three layouts of
`META-INF/signatures.xml`:

- `java`, the layout of the official Java client, with default namespaces;
- `dotnet`, the layout of the C# client: no child uses the root's prefix, and the root does not use its default namespace;
- `prefixed`, with prefixes everywhere.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from certificates import (
    SENDER,
    Holder,
    enterprise,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 3, 5, 12, 30, 0, tzinfo=UTC)
PERSON = "01817099921"

SERVICE = "http://signering.posten.no/schema/v1"
ASIC = "http://uri.etsi.org/2918/v1.2.1#"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
PROPERTIES_TYPE = "http://uri.etsi.org/01903#SignedProperties"


# --- Documents and messages


def pdf(text: str = "A lease", *, version: str = "1.4", pages: int = 1) -> bytes:
    """A PDF that this function writes itself, including the cross-reference table."""
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(pages))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>",
        "<< /Type /Font /Subtype /Type1 /Name /F1 /BaseFont /Helvetica >>",
    ]
    for page in range(pages):
        content = f"BT /F1 18 Tf 72 700 Td ({text} p{page + 1}) Tj ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842]"
            f" /Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * page} 0 R >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    out = io.BytesIO()
    out.write(f"%PDF-{version}\n%âãÏÓ\n".encode("latin-1"))
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1"))
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    for offset in offsets:
        out.write(f"{offset:010d} 00000 n \n".encode())
    size = len(objects) + 1
    out.write(f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()


@dataclass(frozen=True)
class File:
    """A document of the job, with the name of its entry in the container."""

    entry: str
    content: bytes
    mime: str = "application/pdf"
    title: str = "Leiekontrakt"
    href: str | None = None


def two_files() -> tuple[File, ...]:
    return (
        File("0000_document.pdf", pdf()),
        File("0001_document.txt", "Husleie på ettersommeren.\n".encode(), "text/plain", "Vilkår"),
    )


def request_xml(*, reference: str = "ordre-77", extra: str = "") -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<direct-signature-job-request xmlns="{SERVICE}"><reference>{reference}</reference><exit-urls>
<completion-url>https://example.com/done?a=1&amp;b=2</completion-url>
<rejection-url>https://example.com/rejected</rejection-url>
<error-url>https://example.com/error</error-url></exit-urls>{extra}</direct-signature-job-request>
""".encode()


def manifest_xml(
    files: tuple[File, ...], *, sender: str = SENDER, signers: str | None = None
) -> bytes:
    documents = "".join(
        f'<document href="{escape(file.href or file.entry)}" mime="{file.mime}">'
        f"<title>{escape(file.title)}</title></document>"
        for file in files
    )
    signers = signers or (
        f"<signer><personal-identification-number>{PERSON}</personal-identification-number>"
        "<signature-type>ADVANCED_ELECTRONIC_SIGNATURE</signature-type></signer>"
        "<signer><signer-identifier>kunde-42</signer-identifier>"
        "<on-behalf-of>OTHER</on-behalf-of></signer>"
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<direct-signature-job-manifest xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xmlns="{SERVICE}">{signers}<sender><organization-number>{sender}</organization-number>'
        f"</sender><title>Leie av bolig</title><description>Vær så god</description>"
        f"<documents>{documents}</documents></direct-signature-job-manifest>"
    ).encode()


def legacy_manifest_xml(file: File) -> bytes:
    return (
        f'<ns:direct-signature-job-manifest xmlns:ns="{SERVICE}"><ns:signer>'
        f"<ns:personal-identification-number>{PERSON}</ns:personal-identification-number></ns:signer>"
        f"<ns:sender><ns:organization-number>{SENDER}</ns:organization-number></ns:sender>"
        f'<ns:document href="{escape(file.href or file.entry)}" mime="{file.mime}">'
        f"<ns:title>{file.title}</ns:title><ns:description>Gammel form</ns:description></ns:document>"
        f"<ns:required-authentication>4</ns:required-authentication>"
        "</ns:direct-signature-job-manifest>"
    ).encode()


# --- Signature


@dataclass(frozen=True)
class Layout:
    """The namespace declarations and prefixes of a signature file.

    Some start tags have two forms: one as in the file and one canonical.
    """

    root: str
    root_end: str
    ds: str
    signature_namespaces: str
    signed_info_canonical: str
    qualifying: str
    properties_canonical: str
    xd: str
    cert_ds: str
    cert_ds_namespaces: str


LAYOUTS = {
    "java": Layout(
        root=f'<XAdESSignatures xmlns="{ASIC}">',
        root_end="</XAdESSignatures>",
        ds="",
        signature_namespaces=f' xmlns="{DSIG}"',
        signed_info_canonical=f' xmlns="{DSIG}"',
        qualifying=f' xmlns="{XADES}" xmlns:ns2="{DSIG}" Target="#Signature"',
        properties_canonical=f' xmlns="{XADES}" xmlns:ns2="{DSIG}"',
        xd="",
        cert_ds="ns2:",
        cert_ds_namespaces="",
    ),
    "dotnet": Layout(
        root=f'<xades:XAdESSignatures xmlns="{XADES}" xmlns:xades="{ASIC}">',
        root_end="</xades:XAdESSignatures>",
        ds="",
        signature_namespaces=f' xmlns="{DSIG}"',
        signed_info_canonical=f' xmlns="{DSIG}" xmlns:xades="{ASIC}"',
        qualifying=f' Target="#Signature" xmlns="{XADES}"',
        properties_canonical=f' xmlns="{XADES}" xmlns:xades="{ASIC}"',
        xd="",
        cert_ds="",
        cert_ds_namespaces=f' xmlns="{DSIG}"',
    ),
    "prefixed": Layout(
        root=f'<asic:XAdESSignatures xmlns:asic="{ASIC}">',
        root_end="</asic:XAdESSignatures>",
        ds="ds:",
        signature_namespaces=f' xmlns:ds="{DSIG}"',
        signed_info_canonical=f' xmlns:asic="{ASIC}" xmlns:ds="{DSIG}"',
        qualifying=f' xmlns:xades="{XADES}" Target="#Signature"',
        properties_canonical=f' xmlns:asic="{ASIC}" xmlns:ds="{DSIG}" xmlns:xades="{XADES}"',
        xd="xades:",
        cert_ds="ds:",
        cert_ds_namespaces="",
    ),
}


@dataclass(frozen=True)
class Recipe:
    """Describes a bundle to build. Most fields make it invalid in one particular way."""

    files: tuple[File, ...] = field(default_factory=two_files)
    layout: str = "java"
    compression: int = zipfile.ZIP_DEFLATED
    whole_chain: bool = True
    holder: Holder = field(default_factory=enterprise)
    signing_time: str = "2026-03-05T13:30:01.250+01:00"
    manifest: bytes | None = None
    c14n: str = C14N
    issuer_name: str | None = None
    serial: str | None = None
    cert_digest_of: Holder | None = None
    key_info_of: Holder | None = None
    properties_reference: bool = True
    properties_type: str = PROPERTIES_TYPE
    unreferenced: str | None = None
    twice_referenced: str | None = None
    without_format: str | None = None
    wrong_mime: str | None = None
    properties: Callable[[str], str] = str
    file_transform: str = ""
    uris: dict[str, str] = field(default_factory=dict)
    extra_entries: tuple[tuple[str, bytes], ...] = ()
    first_entries: tuple[tuple[str, bytes], ...] = ()
    replaced: dict[str, bytes] = field(default_factory=dict)
    signatures: bytes | None = None

    def with_(self, **changes) -> "Recipe":
        return replace(self, **changes)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def hex_issuer_name(certificate: x509.Certificate) -> str:
    """The issuer's name as the Java client writes it: RFC 2253, with unknown types as hexadecimal DER."""
    keywords = {
        NameOID.COMMON_NAME: "CN",
        NameOID.ORGANIZATION_NAME: "O",
        NameOID.COUNTRY_NAME: "C",
    }
    parts = []
    for attribute in reversed(list(certificate.issuer)):
        if attribute.oid in keywords:
            value = attribute.value
            for special in ",+":
                value = value.replace(special, f"\\{special}")
            parts.append(f"{keywords[attribute.oid]}={value}")
        else:
            content = attribute.value.encode()
            der = bytes([0x0C, len(content)]) + content
            parts.append(f"{attribute.oid.dotted_string}=#{der.hex()}")
    return ",".join(parts)


def dotnet_issuer_name(certificate: x509.Certificate) -> str:
    """The issuer's name as .NET writes it: a space after each comma, quotes around special values."""
    keywords = {
        NameOID.COMMON_NAME: "CN",
        NameOID.ORGANIZATION_NAME: "O",
        NameOID.COUNTRY_NAME: "C",
    }
    parts = []
    for attribute in reversed(list(certificate.issuer)):
        keyword = keywords.get(attribute.oid, f"OID.{attribute.oid.dotted_string}")
        is_special = any(character in attribute.value for character in ",+")
        parts.append(
            f'{keyword}="{attribute.value}"' if is_special else f"{keyword}={attribute.value}"
        )
    return ", ".join(parts)


def signatures_xml(recipe: Recipe, signed: list[tuple[str, bytes, str]]) -> bytes:
    """`META-INF/signatures.xml` for these files: (entry name, content, media type)."""
    layout = LAYOUTS[recipe.layout]
    ds, xd, cds, cns = layout.ds, layout.xd, layout.cert_ds, layout.cert_ds_namespaces
    digested = (recipe.cert_digest_of or recipe.holder).certificate
    cert_digest = hashlib.sha1(digested.public_bytes(Encoding.DER)).digest()
    issuer = recipe.issuer_name
    if issuer is None:
        forms = {"java": hex_issuer_name, "dotnet": dotnet_issuer_name}
        issuer = forms.get(recipe.layout, lambda c: c.issuer.rfc4514_string())(
            recipe.holder.certificate
        )
    serial = recipe.serial or str(recipe.holder.certificate.serial_number)
    ids = {entry: f"ID_{number}" for number, (entry, _, _) in enumerate(signed)}
    formats = "".join(
        f'<{xd}DataObjectFormat ObjectReference="#{ids[entry]}"><{xd}MimeType>'
        f"{'image/png' if entry == recipe.wrong_mime else mime}"
        f"</{xd}MimeType></{xd}DataObjectFormat>"
        for entry, _, mime in signed
        if entry != recipe.without_format
    )
    properties = (
        f"<{xd}SignedSignatureProperties><{xd}SigningTime>{recipe.signing_time}</{xd}SigningTime>"
        f"<{xd}SigningCertificate><{xd}Cert><{xd}CertDigest>"
        f'<{cds}DigestMethod{cns} Algorithm="{DSIG}sha1"></{cds}DigestMethod>'
        f"<{cds}DigestValue{cns}>{b64(cert_digest)}</{cds}DigestValue></{xd}CertDigest>"
        f"<{xd}IssuerSerial>"
        f"<{cds}X509IssuerName{cns}>{escape(issuer)}</{cds}X509IssuerName>"
        f"<{cds}X509SerialNumber{cns}>{serial}</{cds}X509SerialNumber>"
        f"</{xd}IssuerSerial></{xd}Cert></{xd}SigningCertificate></{xd}SignedSignatureProperties>"
        f"<{xd}SignedDataObjectProperties>{formats}</{xd}SignedDataObjectProperties>"
        f"</{xd}SignedProperties>"
    )
    properties = recipe.properties(properties)
    # C14N puts namespaces before attributes, and sorts attributes: `Id` before `Target`, `Type` before `URI`.
    canonical = (
        f'<{xd}SignedProperties{layout.properties_canonical} Id="SignedProperties">{properties}'
    )
    references = []
    for entry, content, _ in signed:
        if entry == recipe.unreferenced:
            continue
        times = 2 if entry == recipe.twice_referenced else 1
        uri = recipe.uris.get(entry, entry)
        references += [
            f'<{ds}Reference Id="{ids[entry]}" URI="{uri}">{recipe.file_transform}{digest(ds, content)}</{ds}Reference>'
        ] * times
    if recipe.properties_reference:
        references.append(
            f'<{ds}Reference Type="{recipe.properties_type}" URI="#SignedProperties"><{ds}Transforms>'
            f'<{ds}Transform Algorithm="{recipe.c14n}"></{ds}Transform></{ds}Transforms>'
            f"{digest(ds, canonical.encode())}</{ds}Reference>"
        )
    signed_info = (
        f'<{ds}CanonicalizationMethod Algorithm="{recipe.c14n}"></{ds}CanonicalizationMethod>'
        f'<{ds}SignatureMethod Algorithm="{RSA_SHA256}"></{ds}SignatureMethod>'
        f"{''.join(references)}</{ds}SignedInfo>"
    )
    canonical_info = f"<{ds}SignedInfo{layout.signed_info_canonical}>{signed_info}"
    if isinstance(recipe.holder.key, rsa.RSAPrivateKey):
        value = recipe.holder.key.sign(canonical_info.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        value = recipe.holder.key.sign(canonical_info.encode(), ec.ECDSA(hashes.SHA256()))
    shown = recipe.key_info_of or recipe.holder
    certificates = (shown.certificate, *(shown.chain if recipe.whole_chain else ()))
    key_info = "".join(
        f"<{ds}X509Certificate>{b64(certificate.public_bytes(Encoding.DER))}</{ds}X509Certificate>"
        for certificate in certificates
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        f'{layout.root}<{ds}Signature{layout.signature_namespaces} Id="Signature">'
        f"<{ds}SignedInfo>{signed_info}"
        f"<{ds}SignatureValue>{b64(value)}</{ds}SignatureValue>"
        f"<{ds}KeyInfo><{ds}X509Data>{key_info}</{ds}X509Data></{ds}KeyInfo>"
        f"<{ds}Object><{xd}QualifyingProperties{layout.qualifying}>"
        f'<{xd}SignedProperties Id="SignedProperties">{properties}'
        f"</{xd}QualifyingProperties></{ds}Object></{ds}Signature>{layout.root_end}"
    ).encode()


def digest(ds: str, content: bytes) -> str:
    return (
        f'<{ds}DigestMethod Algorithm="{SHA256}"></{ds}DigestMethod>'
        f"<{ds}DigestValue>{b64(hashlib.sha256(content).digest())}</{ds}DigestValue>"
    )


# --- Container and body


def entries(recipe: Recipe) -> list[tuple[str, bytes]]:
    manifest = recipe.manifest or manifest_xml(recipe.files)
    signed = [(file.entry, file.content, file.mime) for file in recipe.files]
    signed.append(("manifest.xml", manifest, "application/xml"))
    signatures = recipe.signatures or signatures_xml(recipe, signed)
    built = [
        *recipe.first_entries,
        *((entry, content) for entry, content, _ in signed),
        ("META-INF/signatures.xml", signatures),
    ]
    built = [(entry, recipe.replaced.get(entry, content)) for entry, content in built]
    return [*built, *recipe.extra_entries]


def container(recipe: Recipe) -> bytes:
    """The ZIP file. Its entries have data descriptors, like those of the Java client."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", recipe.compression) as archive:
        for entry, content in entries(recipe):
            archive.writestr(
                zipfile.ZipInfo(entry, (2026, 3, 5, 13, 30, 0)), content, recipe.compression
            )
    return bytes(pipe.written)


class _Pipe(io.RawIOBase):
    """A file that is not seekable, so that `zipfile` writes data descriptors."""

    def __init__(self):
        self.written = bytearray()

    def writable(self):
        return True

    def seekable(self):
        return False

    def write(self, data):
        self.written += data
        return len(data)


BOUNDARY = "httpclient_boundary_5f0c"
CONTENT_TYPE = f"multipart/mixed; charset=ISO-8859-1; boundary={BOUNDARY}"


def body(
    request: bytes, packed: bytes, *, container_first: bool = False, quirks: str = "java"
) -> bytes:
    """A `multipart/mixed` body as the Java, the C# or the PHP client sends it."""
    parts = [(b"application/xml", request), (b"application/octet-stream", packed)]
    out = b""
    for media_type, content in reversed(parts) if container_first else parts:
        headers = [b"Content-Type: " + media_type]
        if quirks == "dotnet":
            headers.append(b"Content-Disposition: attachment")
        if quirks == "php":
            headers.append(b"Content-Length: %d" % len(content))
        out += (
            b"--"
            + BOUNDARY.encode()
            + b"\r\n"
            + b"\r\n".join(headers)
            + b"\r\n\r\n"
            + content
            + b"\r\n"
        )
    return out + b"--" + BOUNDARY.encode() + b"--\r\n"


def body_of(recipe: Recipe, **options) -> bytes:
    return body(request_xml(), container(recipe), **options)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
