"""Verifies every container that the tests build. It shares no code with the package.

`xmlsec1` verifies the signature and every digest, but it accepts many containers that break the service's profile.
So this module checks the rest with `openssl`, `unzip`, `zipfile` and the XAdES schema that signxml ships.
"""

import base64
import re
import subprocess
import zipfile
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from lxml import etree

NAMESPACES = {
    "asic": "http://uri.etsi.org/2918/v1.2.1#",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xades": "http://uri.etsi.org/01903/v1.3.2#",
    "signering": "http://signering.posten.no/schema/v1",
}
SIGNATURES = "META-INF/signatures.xml"
MANIFEST = "manifest.xml"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
MIME = {".pdf": "application/pdf", ".txt": "text/plain", ".xml": "application/xml"}
OIDS = {
    "CN": "2.5.4.3",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "ST": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "DC": "0.9.2342.19200300.100.1.25",
    "UID": "0.9.2342.19200300.100.1.1",
}


def verify(
    container: bytes, *, root_pem: bytes, tmp_path: Path, intermediates_pem: tuple[bytes, ...] = ()
) -> None:
    """Raises an AssertionError if the container breaks the profile of the service.

    Args:
        container: The whole container.
        root_pem: The certificate to trust, PEM.
        tmp_path: A folder for temporary files. Each call creates a new folder in it.
        intermediates_pem: Certificates for the chain, if the bundle does not enclose them.
    """
    folder = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
    unzip(container, folder)
    xmlsec1_verifies(folder, root_pem, intermediates_pem)

    signatures = etree.fromstring((folder / SIGNATURES).read_bytes())
    valid_by_schema(signatures)
    files_outside = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_relative_to(folder / "META-INF")
    )
    references_are_complete(signatures, files_outside)
    properties_are_signed(signatures)
    data_objects_are_named(signatures, files_outside)
    certificate_is_identified(signatures, folder.with_suffix(".certificates"))
    manifest_names_documents(folder, files_outside)


def unzip(container: bytes, folder: Path) -> None:
    """The container is a ZIP that two readers accept, and has no entry that the profile forbids."""
    file = folder.with_suffix(".asice")
    file.write_bytes(container)
    assert run("unzip", "-tqq", file).returncode == 0, "unzip finds an error"
    with zipfile.ZipFile(BytesIO(container)) as archive:
        assert archive.testzip() is None, "zipfile finds an error"
        names = archive.namelist()
    assert len(set(names)) == len(names), "two entries have the same name"
    assert "mimetype" not in names, "the container has a mimetype entry"
    assert [name for name in names if name.startswith("META-INF/")] == [SIGNATURES], (
        "META-INF contains something other than signatures.xml"
    )
    assert all(re.fullmatch(r"[a-z0-9._-]+", name) for name in set(names) - {SIGNATURES}), (
        "an entry has an unsafe name"
    )
    assert run("unzip", "-q", file, "-d", folder).returncode == 0


def xmlsec1_verifies(folder: Path, root_pem: bytes, intermediates_pem: tuple[bytes, ...]) -> None:
    """`xmlsec1` accepts the signature, its certificate chain and every reference."""
    root = folder.with_suffix(".root.pem")
    root.write_bytes(root_pem)
    untrusted = []
    for index, pem in enumerate(intermediates_pem):
        path = folder.with_suffix(f".{index}.pem")
        path.write_bytes(pem)
        untrusted += ["--untrusted-pem", path]
    result = run(
        *("xmlsec1", "--verify", "--trusted-pem", root, *untrusted),
        *("--id-attr:Id", f"{NAMESPACES['xades']}:SignedProperties", SIGNATURES),
        cwd=folder,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, f"xmlsec1 refuses the signature:\n{output}"
    counted = re.search(r"SignedInfo References \(ok/all\): (\d+)/(\d+)", output)
    assert counted, f"xmlsec1 prints no number of references:\n{output}"
    assert counted[1] == counted[2], "xmlsec1 does not accept every reference"


def valid_by_schema(signatures: etree._Element) -> None:
    """There is exactly one signature, and it is valid by the schemas of XML Signature and XAdES."""
    assert signatures.tag == f"{{{NAMESPACES['asic']}}}XAdESSignatures", (
        "the root element is not XAdESSignatures"
    )
    children = list(signatures)
    assert [child.tag for child in children] == [f"{{{NAMESPACES['ds']}}}Signature"], (
        "there is not exactly one signature"
    )
    # Find the schema without importing signxml, because signxml needs newer libraries than the lowest tested ones.
    [package] = find_spec("signxml").submodule_search_locations
    path = Path(package) / "xades" / "schemas" / "XAdES01903v132-201601.xsd"
    schema = etree.XMLSchema(etree.parse(str(path)))
    signature = etree.fromstring(etree.tostring(children[0]))
    assert schema.validate(signature), f"the signature breaks the XAdES schema: {schema.error_log}"


def references_are_complete(signatures: etree._Element, files_outside: list[str]) -> None:
    """There is one reference to each file outside META-INF, without a transform, and one to the properties."""
    info = one(signatures, "ds:Signature/ds:SignedInfo")
    assert one(info, "ds:CanonicalizationMethod").get("Algorithm") == C14N
    assert one(info, "ds:SignatureMethod").get("Algorithm") == RSA_SHA256
    references = every(info, "ds:Reference")
    documents = [name for name in files_outside if name != MANIFEST]
    assert len(references) == len(documents) + 2, (
        "the number of references is not the number of documents plus 2"
    )
    to_files = [reference for reference in references if not reference.get("URI").startswith("#")]
    assert sorted(reference.get("URI") for reference in to_files) == files_outside, (
        "files and references differ"
    )
    for reference in to_files:
        assert not every(reference, "ds:Transforms"), "the reference to a file has a transform"
        assert reference.get("Type") is None
    for reference in references:
        assert one(reference, "ds:DigestMethod").get("Algorithm") == SHA256, (
            "a reference has a digest method other than SHA-256"
        )


def properties_are_signed(signatures: etree._Element) -> None:
    """The signature covers the properties that the document contains."""
    properties = one(
        signatures, "ds:Signature/ds:Object/xades:QualifyingProperties/xades:SignedProperties"
    )
    target = "#" + one(signatures, "ds:Signature").get("Id")
    assert properties.getparent().get("Target") == target, (
        "the properties belong to another signature"
    )
    references = [
        reference
        for reference in every(signatures, ".//ds:Reference")
        if reference.get("Type") == "http://uri.etsi.org/01903#SignedProperties"
    ]
    assert len(references) == 1, "there is not exactly one reference to SignedProperties"
    [reference] = references
    assert reference.get("URI") == "#" + properties.get("Id"), (
        "the reference points to other properties"
    )
    ids = [element.get("Id") for element in signatures.iter() if element.get("Id") is not None]
    assert len(ids) == len(set(ids)), "an Id occurs twice"
    transforms = every(reference, "ds:Transforms/ds:Transform")
    assert [transform.get("Algorithm") for transform in transforms] == [C14N], (
        "the transform of the properties is not C14N"
    )


def data_objects_are_named(signatures: etree._Element, files_outside: list[str]) -> None:
    """Each file has one DataObjectFormat, which contains only its media type."""
    path = "ds:Signature/ds:Object/xades:QualifyingProperties/xades:SignedProperties"
    formats = every(
        one(signatures, f"{path}/xades:SignedDataObjectProperties"), "xades:DataObjectFormat"
    )
    references = every(signatures, ".//ds:Reference")
    uri_by_id = {reference.get("Id"): reference.get("URI") for reference in references}
    names = [uri_by_id.get(element.get("ObjectReference")[1:], "?") for element in formats]
    assert sorted(names) == files_outside, "there is not exactly one DataObjectFormat for each file"
    for name, element in zip(names, formats, strict=True):
        assert [(child.tag, child.text) for child in element] == [
            (f"{{{NAMESPACES['xades']}}}MimeType", MIME[Path(name).suffix])
        ], f"the DataObjectFormat of {name} is wrong"


def certificate_is_identified(signatures: etree._Element, folder: Path) -> None:
    """CertDigest, issuer and serial number are those that `openssl` reads from the signing certificate.

    The enclosed certificates are a chain: each one was issued by the next one.
    """
    folder.mkdir()
    certificates = []
    for index, element in enumerate(every(signatures, ".//ds:X509Data/ds:X509Certificate")):
        certificates.append(folder / f"{index}.der")
        certificates[-1].write_bytes(base64.b64decode(element.text))
    for issued, issuer in pairwise(certificates):
        assert parse_name(x509(issued, "-issuer")) == parse_name(x509(issuer, "-subject")), (
            "the enclosed certificates are not a chain that starts with the leaf"
        )
    leaf = certificates[0]
    properties = one(signatures, ".//xades:SignedSignatureProperties")
    time = one(properties, "xades:SigningTime").text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", time), (
        "the signing time has no UTC offset"
    )
    cert = one(properties, "xades:SigningCertificate/xades:Cert")
    assert one(cert, "xades:CertDigest/ds:DigestMethod").get("Algorithm") == SHA1
    digest = base64.b64decode(one(cert, "xades:CertDigest/ds:DigestValue").text)
    fingerprint = bytes.fromhex(x509(leaf, "-fingerprint", "-sha1").replace(":", ""))
    assert digest == fingerprint, "CertDigest is the digest of another certificate"
    serial = one(cert, "xades:IssuerSerial/ds:X509SerialNumber").text
    assert serial == str(int(x509(leaf, "-serial"), 16)), "IssuerSerial has another serial number"
    issuer = one(cert, "xades:IssuerSerial/ds:X509IssuerName").text
    assert parse_name(issuer) == parse_name(x509(leaf, "-issuer")), (
        "IssuerSerial has another issuer"
    )


def manifest_names_documents(folder: Path, files_outside: list[str]) -> None:
    """The manifest names exactly the documents of the container, with their media types."""
    manifest = etree.fromstring((folder / MANIFEST).read_bytes())
    elements = every(manifest, "signering:documents/signering:document")
    documents = {name: MIME[Path(name).suffix] for name in files_outside if name != MANIFEST}
    assert {element.get("href"): element.get("mime") for element in elements} == documents, (
        "manifest and documents differ"
    )
    assert len(elements) == len(documents), "the manifest names a document twice"


def parse_name(text: str) -> list[list[tuple[str, str]]]:
    """A distinguished name of RFC 4514, as a list of parts. A part is a sorted list of (OID, value)."""
    # A part contains escaped characters, and unescaped characters other than the separator.
    parts = re.findall(r"(?:\A|,)((?:\\.|[^\\,])*)", text, re.DOTALL) if text else []
    return [
        sorted(map(_attribute, re.findall(r"(?:\A|\+)((?:\\.|[^\\+])*)", part, re.DOTALL)))
        for part in parts
    ]


def _attribute(text: str) -> tuple[str, str]:
    type_, _, value = text.partition("=")
    # openssl does not escape a value that consists of "#" only, so "#" alone is not a hexadecimal value.
    if re.fullmatch("#([0-9A-Fa-f]{2})+", value):
        return OIDS.get(type_, type_), _der_string(bytes.fromhex(value[1:]))
    octets = re.sub(
        rb"\\([0-9A-Fa-f]{2}|.)",
        lambda pair: bytes.fromhex(pair[1].decode()) if len(pair[1]) == 2 else pair[1],
        value.encode(),
        flags=re.DOTALL,
    )
    return OIDS.get(type_, type_), octets.decode()


def _der_string(der: bytes) -> str:
    start = 2 if der[1] < 0x80 else 2 + der[1] - 0x80
    encoding = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
    return der[start:].decode(encoding[der[0]])


def x509(certificate: Path, *options: str) -> str:
    """The output of `openssl x509` for a certificate, without the label."""
    name_options = "esc_2253,esc_ctrl,utf8,sep_comma_plus,dn_rev,oid"
    result = run(
        *("openssl", "x509", "-inform", "DER", "-in", certificate, "-noout"),
        *("-nameopt", name_options, *options),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("=")[2].removesuffix("\n")


def one(element: etree._Element, path: str) -> etree._Element:
    elements = every(element, path)
    assert len(elements) == 1, f"expected one {path}, found {len(elements)}"
    return elements[0]


def every(element: etree._Element, path: str) -> list[etree._Element]:
    return element.findall(path, NAMESPACES)


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=cwd)
