"""Signed documents for tests, and the output of pdfsig and pdftotext for them."""

import subprocess
from functools import cache

import bundles
import certificates
from bundles import NOW, PERSON, SENDER

from posten_signering.sandbox._documents.pdf import joined, opened
from posten_signering.sandbox._documents.text_pages import text_pages
from posten_signering.sandbox._intake.messages import Manifest, ManifestDocument, ManifestSigner
from posten_signering.sandbox._signed.front_page import Signatory, front_page
from posten_signering.sandbox._signed.pki import SigningKey
from posten_signering.sandbox._signed.seal import sealed
from posten_signering.sandbox._signed.xades import SignedDocument
from posten_signering.sandbox._values.hidden import Octets


def signing_key(holder):
    return SigningKey(certificate=holder.certificate, key=holder.key, chain=holder.chain)


@cache
def seal_key():
    subject = certificates.name(
        "Sandkasse æøå", organization="Sandkasse", identifier="NTRNO-984661185"
    )
    return signing_key(
        certificates.issue(subject, certificates.intermediate(), certificates.rsa_key(5))
    )


def document(content, *, name="0000_document.pdf", title="Leiekontrakt", mime="application/pdf"):
    return SignedDocument(name=name, title=title, mime=mime, content=Octets(content))


def text(content, **changes):
    options = {"name": "0001_document.txt", "title": "Vilkår", "mime": "text/plain"} | changes
    return document(content.encode(), **options)


def signatory(*, name="Kari Nordmann", **changes):
    values = {
        "personal_identification_number": PERSON,
        "signer_identifier": None,
        "signature_type": "ADVANCED_ELECTRONIC_SIGNATURE",
        "on_behalf_of": "SELF",
    }
    return Signatory(name=name, signer=ManifestSigner(**(values | changes)), signed_at=NOW)


def pades(*documents, signatories=None, **changes):
    """A signed PDF, made in this process. `changes` replaces values of its manifest."""
    documents = documents or (document(bundles.pdf()),)
    signatories = signatories or [signatory()]
    values = {
        "title": "Leie av bolig",
        "description": "Vær så god",
        "sender": SENDER,
        "documents": tuple(
            ManifestDocument(title=document.title, href=document.name, mime=document.mime)
            for document in documents
        ),
        "signers": tuple(signatory.signer for signatory in signatories),
        "required_authentication": None,
        "identifier_in_signed_documents": None,
    }
    manifest, at = Manifest(**(values | changes)), bundles.later(60)
    pdfs = [
        opened(
            text_pages(document.content, title=document.title)
            if document.mime == "text/plain"
            else document.content
        )
        for document in documents
    ]
    counts = [(document, len(pdf.pages)) for document, pdf in zip(documents, pdfs, strict=True)]
    front = opened(front_page(manifest, counts, signatories, sealed_at=at))
    titles = [document.title for document in documents]
    pdf = joined(
        [("Signatures", front), *zip(titles, pdfs, strict=True)],
        title=manifest.title,
    )
    return sealed(pdf, seal=seal_key(), at=at, reason="Signed documents of a signature job")


def run(program, *arguments, **options):
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, **options
    )
    return done.stdout


def pdfsig_says(program, content, folder):
    (folder / "signed.pdf").write_bytes(content)
    return run(program, folder / "signed.pdf")


def text_of(program, content, folder):
    (folder / "read.pdf").write_bytes(content)
    return run(program, "-layout", folder / "read.pdf", "-")


def flipped(content, at):
    """The content with one bit changed, in the byte at this index."""
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)
