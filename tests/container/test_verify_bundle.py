"""The judge of containers refuses what each of its checks is there for.

Where its own checks are meant, not those of `xmlsec1`, the signature over the changed container is
made again, by `xmlsec1`, with the same certificate.
"""

import base64
import copy
import io
import re
import subprocess
import zipfile

import pki
import pytest
from containers import PDF, SEVERAL, bundle, digest, issuing, leaf, manifest_of, tree
from cryptography.hazmat.primitives import hashes
from lxml import etree
from verify_bundle import NAMESPACES, verify

pytestmark = pytest.mark.usefixtures("xmlsec1", "openssl")


@pytest.fixture(scope="module")
def good() -> bytes:
    return bundle()


def changed(content: bytes, changes: dict[str, bytes]) -> bytes:
    """The container with other or further files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for entry, value in {**files, **changes}.items():
            archive.writestr(entry, value)
    return out.getvalue()


def signed_again(content: bytes, root: etree._Element, tmp_path) -> bytes:
    """Every digest and the signature over a changed tree, by `xmlsec1`."""
    folder = tmp_path / "anew"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    (folder / "META-INF" / "template.xml").write_bytes(etree.tostring(root))
    (tmp_path / "key.pem").write_bytes(leaf().key_pem)
    subprocess.run(
        [
            *("xmlsec1", "--sign", "--privkey-pem", "../key.pem"),
            *("--id-attr:Id", f"{NAMESPACES['xades']}:SignedProperties"),
            *("--output", "META-INF/signed.xml", "META-INF/template.xml"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return changed(
        content, {"META-INF/signatures.xml": (folder / "META-INF/signed.xml").read_bytes()}
    )


def judged(content: bytes, tmp_path, root: pki.Issued | None = None) -> None:
    verify(content, root_pem=(root or pki.root()).pem, tmp_path=tmp_path)


def find(root: etree._Element, path: str) -> etree._Element:
    found = root.find(path, NAMESPACES)
    assert found is not None, path
    return found


def without(path: str):
    def change(root: etree._Element) -> None:
        element = find(root, path)
        element.getparent().remove(element)

    return change


def with_text(path: str, text: str):
    def change(root: etree._Element) -> None:
        find(root, path).text = text

    return change


PROPERTIES = ".//ds:Reference[@Type]"
ISSUERS_DIGEST = base64.b64encode(digest(issuing().der, hashes.SHA1())).decode()


def file_twice_in_place_of_the_properties(root: etree._Element) -> None:
    again = copy.deepcopy(find(root, ".//ds:Reference"))
    again.set("Id", "ID_again")
    properties = find(root, PROPERTIES)
    properties.getparent().replace(properties, again)


def without_the_type_of_the_properties(root: etree._Element) -> None:
    del find(root, PROPERTIES).attrib["Type"]


def issuers_in_another_order(root: etree._Element) -> None:
    _, second, third = root.iterfind(".//ds:X509Certificate", NAMESPACES)
    second.text, third.text = third.text, second.text


def test_signing_again_without_a_change_is_accepted(tmp_path, good):
    judged(signed_again(good, tree(good), tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without(PROPERTIES), "the number of documents plus 2"),
        (file_twice_in_place_of_the_properties, "files and references differ"),
        (without_the_type_of_the_properties, "not exactly one reference to SignedProperties"),
        (without(".//xades:DataObjectFormat"), "not exactly one DataObjectFormat for each file"),
        (with_text(".//xades:MimeType", "image/png"), "the DataObjectFormat of"),
        (with_text(".//xades:CertDigest/ds:DigestValue", ISSUERS_DIGEST), "another certificate"),
        (with_text(".//ds:X509SerialNumber", "4711"), "another serial number"),
        (with_text(".//ds:X509IssuerName", "CN=Somebody,C=NO"), "another issuer"),
        (
            with_text(".//xades:SigningTime", "2026-01-01T00:00:00"),
            "the signing time has no UTC offset",
        ),
        (with_text(".//xades:SigningTime", "yesterday"), "breaks the XAdES schema"),
        (issuers_in_another_order, "not a chain that starts with the leaf"),
    ],
)
def test_a_signature_that_breaks_the_profile_is_refused(tmp_path, good, change, complaint):
    root = tree(good)
    change(root)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        judged(signed_again(good, root, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"0000_document.pdf": PDF + b"x"}, "xmlsec1 refuses"),
        ({"extra.pdf": PDF}, "the number of documents plus 2"),
        ({"mimetype": b"application/vnd.etsi.asic-e+zip"}, "a mimetype entry"),
        ({"META-INF/manifest.xml": b"<manifest/>"}, "META-INF contains something other"),
        ({"Utkast æ.pdf": PDF}, "an unsafe name"),
    ],
)
def test_another_or_a_further_file_is_refused(tmp_path, good, files, complaint):
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        judged(changed(good, files), tmp_path)


def test_a_manifest_that_does_not_name_the_documents_is_refused(tmp_path, good):
    content = changed(good, {"manifest.xml": manifest_of(SEVERAL[:2])})
    with pytest.raises(AssertionError, match="manifest and documents differ"):
        judged(signed_again(content, tree(content), tmp_path), tmp_path)


def test_a_byte_changed_in_the_container_is_refused(tmp_path, good):
    broken = bytearray(good)
    broken[good.index(PDF) + 4] ^= 1
    with pytest.raises(AssertionError, match="unzip finds an error"):
        judged(bytes(broken), tmp_path)


def test_a_certificate_of_another_root_is_refused(tmp_path, good):
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(good, tmp_path, pki.root("Another root"))
