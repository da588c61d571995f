"""The judge of containers finds every fault that it is there for.

Where its own checks are meant, not those of `xmlsec1`, the signature over the changed container is
made anew, by `xmlsec1`, with the same certificate.
"""

import base64
import copy
import io
import re
import subprocess
import zipfile

import pki
import pytest
from containers import (
    PDF,
    SEVERAL,
    TEXT,
    bundle,
    digest,
    enterprise,
    issuing,
    leaf,
    manifest_of,
    tree,
)
from cryptography.hazmat.primitives import hashes, serialization
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


def with_signatures(content: bytes, root: etree._Element) -> bytes:
    return changed(content, {"META-INF/signatures.xml": etree.tostring(root)})


def signed_anew(content: bytes, root: etree._Element, tmp_path) -> bytes:
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


def find(root, path) -> etree._Element:
    found = root.find(path, NAMESPACES)
    assert found is not None, path
    return found


def remove(element):
    element.getparent().remove(element)


def put_certificate(root, certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    find(root, ".//ds:X509Certificate").text = base64.b64encode(der).decode()


def judged(content, tmp_path, root=None):
    verify(content, root_pem=(root or pki.root()).pem, tmp_path=tmp_path)


def test_signing_anew_without_a_change_is_accepted(tmp_path, good):
    judged(signed_anew(good, tree(good), tmp_path), tmp_path)


@pytest.mark.parametrize("file", ["0000_document.pdf", "0001_document.txt", "manifest.xml"])
def test_a_changed_file_is_found(tmp_path, good, file):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        content = bytearray(archive.read(file))
    content[len(content) // 2] ^= 1
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(changed(good, {file: bytes(content)}), tmp_path)


@pytest.mark.parametrize("position", range(3))
def test_a_byte_changed_in_the_container_is_found(tmp_path, good, position):
    broken = bytearray(good)
    offset = good.index((PDF, TEXT, b"<documents>")[position]) + 4
    broken[offset] ^= 1
    with pytest.raises(AssertionError, match="unzip finds an error"):
        judged(bytes(broken), tmp_path)


def test_a_swapped_certificate_is_found(tmp_path, good):
    changed_tree = tree(good)
    put_certificate(changed_tree, enterprise(issuing(), pki.rsa_key("another")).certificate)
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(with_signatures(good, changed_tree), tmp_path)


def test_another_certificate_for_the_same_key_is_found(tmp_path, good):
    changed_tree = tree(good)
    again = enterprise(issuing(), leaf().key)
    put_certificate(changed_tree, again.certificate)
    with pytest.raises(AssertionError, match="CertDigest is of another certificate"):
        judged(with_signatures(good, changed_tree), tmp_path)


def test_a_stranger_s_certificate_for_the_same_key_is_found(tmp_path, good):
    changed_tree = tree(good)
    put_certificate(changed_tree, enterprise(key=leaf().key).certificate)
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(with_signatures(good, changed_tree), tmp_path)


def test_another_root_is_refused(tmp_path, good):
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(good, tmp_path, pki.root("Another root"))


def test_a_changed_signing_time_is_found(tmp_path, good):
    changed_tree = tree(good)
    find(changed_tree, ".//xades:SigningTime").text = "2020-01-01T00:00:00Z"
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(with_signatures(good, changed_tree), tmp_path)


def test_a_removed_reference_is_found(tmp_path, good):
    changed_tree = tree(good)
    remove(find(changed_tree, ".//ds:Reference"))
    with pytest.raises(AssertionError, match="xmlsec1 refuses"):
        judged(with_signatures(good, changed_tree), tmp_path)


def test_a_document_that_was_never_signed_is_found(tmp_path, good):
    changed_tree = tree(good)
    remove(find(changed_tree, ".//ds:Reference"))
    remove(find(changed_tree, ".//xades:DataObjectFormat"))
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match=re.escape("references are not documents + 2")):
        judged(content, tmp_path)


def test_an_unsigned_extra_file_is_found(tmp_path, good):
    with pytest.raises(AssertionError, match=re.escape("references are not documents + 2")):
        judged(changed(good, {"extra.pdf": PDF}), tmp_path)


def test_properties_that_are_not_signed_are_found(tmp_path, good):
    changed_tree = tree(good)
    remove(find(changed_tree, ".//ds:Reference[@Type]"))
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match=re.escape("references are not documents + 2")):
        judged(content, tmp_path)


def test_a_file_referenced_twice_in_place_of_the_properties_is_found(tmp_path, good):
    changed_tree = tree(good)
    again = copy.deepcopy(find(changed_tree, ".//ds:Reference"))
    again.set("Id", "ID_again")
    properties = find(changed_tree, ".//ds:Reference[@Type]")
    properties.getparent().replace(properties, again)
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match="files and references differ"):
        judged(content, tmp_path)


def test_a_reference_to_the_properties_without_its_type_is_found(tmp_path, good):
    changed_tree = tree(good)
    del find(changed_tree, ".//ds:Reference[@Type]").attrib["Type"]
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match="no reference to SignedProperties"):
        judged(content, tmp_path)


def test_a_digest_of_another_certificate_is_found(tmp_path, good):
    changed_tree = tree(good)
    der = issuing().der
    sha1 = base64.b64encode(digest(der, hashes.SHA1())).decode()
    find(changed_tree, ".//xades:CertDigest/ds:DigestValue").text = sha1
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match="CertDigest is of another certificate"):
        judged(content, tmp_path)


@pytest.mark.parametrize(
    ("element", "value", "complaint"),
    [
        ("ds:X509SerialNumber", "4711", "another serial number"),
        ("ds:X509IssuerName", "CN=Somebody,C=NO", "another issuer"),
        ("xades:SigningTime", "2026-01-01T00:00:00", "a signing time without offset"),
        ("xades:SigningTime", "yesterday", "breaks the XAdES schema"),
        ("xades:MimeType", "image/png", "another format"),
    ],
)
def test_a_wrong_property_is_found(tmp_path, good, element, value, complaint):
    changed_tree = tree(good)
    find(changed_tree, f".//{element}").text = value
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match=complaint):
        judged(content, tmp_path)


def test_a_file_without_data_object_format_is_found(tmp_path, good):
    changed_tree = tree(good)
    remove(find(changed_tree, ".//xades:DataObjectFormat"))
    content = signed_anew(good, changed_tree, tmp_path)
    with pytest.raises(AssertionError, match="not one DataObjectFormat for each file"):
        judged(content, tmp_path)


def test_certificates_in_another_order_are_found(tmp_path, good):
    changed_tree = tree(good)
    first, second, _ = changed_tree.iterfind(".//ds:X509Certificate", NAMESPACES)
    first.text, second.text = second.text, first.text
    with pytest.raises(AssertionError, match="no path, leaf first"):
        judged(with_signatures(good, changed_tree), tmp_path)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"mimetype": b"application/vnd.etsi.asic-e+zip"}, "a mimetype entry"),
        ({"META-INF/manifest.xml": b"<manifest/>"}, "META-INF holds something else"),
        ({"Utkast æ.pdf": PDF}, "an unsafe name"),
    ],
)
def test_a_file_that_the_profile_forbids_is_found(tmp_path, good, files, complaint):
    with pytest.raises(AssertionError, match=complaint):
        judged(changed(good, files), tmp_path)


def test_a_manifest_that_does_not_name_the_documents_is_found(tmp_path, good):
    content = changed(good, {"manifest.xml": manifest_of(SEVERAL[:2])})
    content = signed_anew(content, tree(content), tmp_path)
    with pytest.raises(AssertionError, match="manifest and documents differ"):
        judged(content, tmp_path)
