"""A signer's XAdES, verified with xmlsec1."""

import subprocess

import bundles
import certificates
from bundles import NOW
from cryptography.hazmat.primitives.serialization import Encoding
from signing import document, signing_key, text

from posten_signering.sandbox._signed.xades import make_xades


def verified_by_xmlsec1(program, folder, content, documents):
    for signed_document in documents:
        (folder / signed_document.name).write_bytes(signed_document.content)
    (folder / "signature.xml").write_bytes(content)
    (folder / "root.pem").write_bytes(certificates.root().certificate.public_bytes(Encoding.PEM))
    done = subprocess.run(
        [
            program,
            "--verify",
            "--trusted-pem",
            "root.pem",
            "--id-attr:Id",
            "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
            "signature.xml",
        ],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    expected_line = f"SignedInfo References (ok/all): {len(documents) + 1}/{len(documents) + 1}"
    return done.returncode == 0 and expected_line in done.stdout + done.stderr


def test_xmlsec1_verifies_the_xades_of_a_signer_with_the_documents(xmlsec1, tmp_path):
    documents = [document(bundles.pdf()), text("Vilkår", name="vilkår og (mer).txt")]
    signer = signing_key(certificates.enterprise())
    content = make_xades(documents=documents, signer=signer, signed_at=NOW)
    assert verified_by_xmlsec1(xmlsec1, tmp_path, content, documents)
    assert b"<xades:SigningTime>2026-03-05T12:30:00Z</xades:SigningTime>" in content

    spoiled = [documents[0], text("Vilkaar", name="vilkår og (mer).txt")]
    assert not verified_by_xmlsec1(xmlsec1, tmp_path, content, spoiled)
    later = content.replace(b"12:30:00Z", b"12:30:01Z")
    assert not verified_by_xmlsec1(xmlsec1, tmp_path, later, documents)
