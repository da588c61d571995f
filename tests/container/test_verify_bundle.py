"""Tests of the tests' own verifier of containers: each of its checks refuses the fault that it is for.

A changed container is signed again by `xmlsec1` with the same certificate, so that the signature is
valid and only the verifier's own checks can refuse the container.
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
    """The container with some files replaced or added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for entry, value in {**files, **changes}.items():
            archive.writestr(entry, value)
    return out.getvalue()


def signed_again(content: bytes, root: etree._Element, tmp_path) -> bytes:
    """The container after `xmlsec1` has computed every digest and the signature of a changed tree."""
    folder = tmp_path / "signed-again"
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


def verify_under(content: bytes, tmp_path, root: pki.Issued | None = None) -> None:
    verify(content, root_pem=(root or pki.root()).pem, tmp_path=tmp_path)


def find(root: etree._Element, path: str) -> etree._Element:
    element = root.find(path, NAMESPACES)
    assert element is not None, path
    return element


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


def replace_the_properties_by_a_second_reference_to_a_file(root: etree._Element) -> None:
    second = copy.deepcopy(find(root, ".//ds:Reference"))
    second.set("Id", "ID_second")
    properties = find(root, PROPERTIES)
    properties.getparent().replace(properties, second)


def remove_the_type_of_the_properties(root: etree._Element) -> None:
    del find(root, PROPERTIES).attrib["Type"]


def swap_the_issuers(root: etree._Element) -> None:
    _, second, third = root.iterfind(".//ds:X509Certificate", NAMESPACES)
    second.text, third.text = third.text, second.text


def test_an_unchanged_container_that_is_signed_again_is_accepted(tmp_path, good):
    verify_under(signed_again(good, tree(good), tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without(PROPERTIES), "the number of documents plus 2"),
        (replace_the_properties_by_a_second_reference_to_a_file, "files and references differ"),
        (remove_the_type_of_the_properties, "not exactly one reference to SignedProperties"),
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
        (swap_the_issuers, "not a chain that starts with the leaf"),
    ],
)
def test_a_signature_that_breaks_the_profile_is_refused(tmp_path, good, change, complaint):
    root = tree(good)
    change(root)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        verify_under(signed_again(good, root, tmp_path), tmp_path)


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
def test_a_changed_or_an_additional_file_is_refused(tmp_path, good, files, complaint):
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        verify_under(changed(good, files), tmp_path)


def test_a_manifest_that_does_not_name_the_documents_is_refused(tmp_path, good):
    content = changed(good, {"manifest.xml": manifest_of(SEVERAL[:2])})
    with pytest.raises(AssertionError, match="manifest and documents differ"):
        verify_under(signed_again(content, tree(content), tmp_path), tmp_path)


def test_a_byte_changed_in_the_container_is_refused(tmp_path, good):
    broken = bytearray(good)
    broken[good.index(PDF) + 4] ^= 1
    with pytest.raises(AssertionError, match="unzip finds an error"):
        verify_under(bytes(broken), tmp_path)


def test_a_certificate_from_a_different_root_is_refused(tmp_path, good):
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        verify_under(good, tmp_path, pki.root("Another root"))
