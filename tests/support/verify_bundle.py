"""The judge of every container that a test makes. It shares no code with the package.

`xmlsec1` verifies the signature and every digest. It passes much that breaks the profile, so what it
does not look at is asserted beside it, with `openssl`, `unzip`, `zipfile` and the XAdES schema that
signxml ships.
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
    """Fails with an AssertionError where the container breaks the profile of the service.

    Args:
        container: The whole container.
        root_pem: The certificate to trust, PEM.
        tmp_path: A folder to work in; a new folder is made in it.
        intermediates_pem: Certificates to build the path with, where the bundle does not enclose them.
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
    """A ZIP that two readers accept, with nothing in it that the profile forbids."""
    file = folder.with_suffix(".asice")
    file.write_bytes(container)
    assert run("unzip", "-tqq", file).returncode == 0, "unzip finds an error"
    with zipfile.ZipFile(BytesIO(container)) as archive:
        assert archive.testzip() is None, "zipfile finds an error"
        names = archive.namelist()
    assert len(set(names)) == len(names), "two entries of one name"
    assert "mimetype" not in names, "a mimetype entry"
    assert [name for name in names if name.startswith("META-INF/")] == [SIGNATURES], (
        "META-INF holds something else than signatures.xml"
    )
    assert all(re.fullmatch(r"[a-z0-9._-]+", name) for name in set(names) - {SIGNATURES}), (
        "an unsafe name"
    )
    assert run("unzip", "-q", file, "-d", folder).returncode == 0


def xmlsec1_verifies(folder: Path, root_pem: bytes, intermediates_pem: tuple[bytes, ...]) -> None:
    """`xmlsec1` accepts the signature, its certificate and every reference."""
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
    said = result.stdout + result.stderr
    assert result.returncode == 0, f"xmlsec1 refuses the signature:\n{said}"
    counted = re.search(r"SignedInfo References \(ok/all\): (\d+)/(\d+)", said)
    assert counted, f"xmlsec1 counts no references:\n{said}"
    assert counted[1] == counted[2], "xmlsec1 does not accept every reference"


def valid_by_schema(signatures: etree._Element) -> None:
    """One signature, valid by the schemas of XML Signature and XAdES."""
    assert signatures.tag == f"{{{NAMESPACES['asic']}}}XAdESSignatures", "another root element"
    children = list(signatures)
    assert [child.tag for child in children] == [f"{{{NAMESPACES['ds']}}}Signature"], (
        "not exactly one signature"
    )
    # Its files only: what it imports wants newer libraries than the lowest that are tested here.
    [package] = find_spec("signxml").submodule_search_locations
    path = Path(package) / "xades" / "schemas" / "XAdES01903v132-201601.xsd"
    schema = etree.XMLSchema(etree.parse(str(path)))
    alone = etree.fromstring(etree.tostring(children[0]))
    assert schema.validate(alone), f"breaks the XAdES schema: {schema.error_log}"


def references_are_complete(signatures: etree._Element, files_outside: list[str]) -> None:
    """Each file outside META-INF is referenced once, as it is; so are the properties; nothing else."""
    info = one(signatures, "ds:Signature/ds:SignedInfo")
    assert one(info, "ds:CanonicalizationMethod").get("Algorithm") == C14N
    assert one(info, "ds:SignatureMethod").get("Algorithm") == RSA_SHA256
    references = every(info, "ds:Reference")
    documents = [name for name in files_outside if name != MANIFEST]
    assert len(references) == len(documents) + 2, "references are not documents + 2"
    to_files = [each for each in references if not each.get("URI").startswith("#")]
    assert sorted(each.get("URI") for each in to_files) == files_outside, (
        "files and references differ"
    )
    for reference in to_files:
        assert not every(reference, "ds:Transforms"), "a file is transformed"
        assert reference.get("Type") is None
    for reference in references:
        assert one(reference, "ds:DigestMethod").get("Algorithm") == SHA256, "another digest"


def properties_are_signed(signatures: etree._Element) -> None:
    """The properties that stand in the document are the ones that the signature covers."""
    properties = one(
        signatures, "ds:Signature/ds:Object/xades:QualifyingProperties/xades:SignedProperties"
    )
    target = "#" + one(signatures, "ds:Signature").get("Id")
    assert properties.getparent().get("Target") == target, "the properties are of another signature"
    found = [
        each
        for each in every(signatures, ".//ds:Reference")
        if each.get("Type") == "http://uri.etsi.org/01903#SignedProperties"
    ]
    assert len(found) == 1, "no reference to SignedProperties, or more than one"
    assert found[0].get("URI") == "#" + properties.get("Id"), "a reference to other properties"
    ids = [each.get("Id") for each in signatures.iter() if each.get("Id") is not None]
    assert len(ids) == len(set(ids)), "an Id twice"
    transforms = [each.get("Algorithm") for each in every(found[0], "ds:Transforms/ds:Transform")]
    assert transforms == [C14N], "another transform of the properties"


def data_objects_are_named(signatures: etree._Element, files_outside: list[str]) -> None:
    """Each file has one DataObjectFormat, with its media type and nothing more."""
    path = "ds:Signature/ds:Object/xades:QualifyingProperties/xades:SignedProperties"
    formats = every(
        one(signatures, f"{path}/xades:SignedDataObjectProperties"), "xades:DataObjectFormat"
    )
    by_id = {each.get("Id"): each.get("URI") for each in every(signatures, ".//ds:Reference")}
    assert sorted(by_id.get(each.get("ObjectReference")[1:], "?") for each in formats) == (
        files_outside
    ), "not one DataObjectFormat for each file"
    for each in formats:
        name = by_id[each.get("ObjectReference")[1:]]
        assert [(child.tag, child.text) for child in each] == [
            (f"{{{NAMESPACES['xades']}}}MimeType", MIME[Path(name).suffix])
        ], f"another format than that of {name}"


def certificate_is_identified(signatures: etree._Element, folder: Path) -> None:
    """CertDigest, issuer and serial number are the signing certificate's, as `openssl` reads it.

    The enclosed certificates are a path: each was issued by the one after it.
    """
    folder.mkdir()
    certificates = []
    for index, element in enumerate(every(signatures, ".//ds:X509Data/ds:X509Certificate")):
        certificates.append(folder / f"{index}.der")
        certificates[-1].write_bytes(base64.b64decode(element.text))
    for issued, issuer in pairwise(certificates):
        assert parse_name(x509(issued, "-issuer")) == parse_name(x509(issuer, "-subject")), (
            "the enclosed certificates are no path, leaf first"
        )
    leaf = certificates[0]
    properties = one(signatures, ".//xades:SignedSignatureProperties")
    time = one(properties, "xades:SigningTime").text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", time), (
        "a signing time without offset"
    )
    cert = one(properties, "xades:SigningCertificate/xades:Cert")
    assert one(cert, "xades:CertDigest/ds:DigestMethod").get("Algorithm") == SHA1
    digest = base64.b64decode(one(cert, "xades:CertDigest/ds:DigestValue").text)
    fingerprint = bytes.fromhex(x509(leaf, "-fingerprint", "-sha1").replace(":", ""))
    assert digest == fingerprint, "CertDigest is of another certificate"
    serial = one(cert, "xades:IssuerSerial/ds:X509SerialNumber").text
    assert serial == str(int(x509(leaf, "-serial"), 16)), "another serial number"
    issuer = one(cert, "xades:IssuerSerial/ds:X509IssuerName").text
    assert parse_name(issuer) == parse_name(x509(leaf, "-issuer")), "another issuer"


def manifest_names_documents(folder: Path, files_outside: list[str]) -> None:
    """The manifest names every document, by its media type, and nothing else."""
    manifest = etree.fromstring((folder / MANIFEST).read_bytes())
    named = every(manifest, "signering:documents/signering:document")
    documents = {name: MIME[Path(name).suffix] for name in files_outside if name != MANIFEST}
    assert {each.get("href"): each.get("mime") for each in named} == documents, (
        "manifest and documents differ"
    )
    assert len(named) == len(documents), "a document twice in the manifest"


def parse_name(text: str) -> list[list[tuple[str, str]]]:
    """A distinguished name of RFC 4514: parts with their (OID, value), the sorted ones of a part."""
    # Any character, escaped or not, that is not the separator.
    parts = re.findall(r"(?:\A|,)((?:\\.|[^\\,])*)", text, re.DOTALL) if text else []
    return [
        sorted(map(_attribute, re.findall(r"(?:\A|\+)((?:\\.|[^\\+])*)", part, re.DOTALL)))
        for part in parts
    ]


def _attribute(text: str) -> tuple[str, str]:
    type_, _, value = text.partition("=")
    # openssl leaves a value of "#" alone unescaped.
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
    """What `openssl x509` says of a certificate, without the label."""
    name_options = "esc_2253,esc_ctrl,utf8,sep_comma_plus,dn_rev,oid"
    result = run(
        *("openssl", "x509", "-inform", "DER", "-in", certificate, "-noout"),
        *("-nameopt", name_options, *options),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("=")[2].removesuffix("\n")


def one(element: etree._Element, path: str) -> etree._Element:
    found = every(element, path)
    assert len(found) == 1, f"{len(found)} of {path}"
    return found[0]


def every(element: etree._Element, path: str) -> list[etree._Element]:
    return element.findall(path, NAMESPACES)


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=cwd)
