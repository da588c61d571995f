"""`inspect` of signed PDFs. It agrees with pdfsig about which signature is right."""

import io

import bundles
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from pyhanko.sign import signers
from pyhanko.sign.timestamps import DummyTimeStamper
from signing import flipped, pades, pdfsig_says, seal_key

from posten_signering._cli.inspection.pades import inspect_pdf
from posten_signering.errors import ConfigurationError


@pytest.fixture(scope="module")
def signed() -> bytes:
    return pades()


@pytest.fixture
def signer(tmp_path) -> signers.SimpleSigner:
    own, path = seal_key(), tmp_path / "seal.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            None, own.key, own.certificate, None, BestAvailableEncryption(b"password")
        )
    )
    return signers.SimpleSigner.load_pkcs12(str(path), passphrase=b"password")


def signed_again(content: bytes, signer: signers.SimpleSigner) -> bytes:
    metadata = signers.PdfSignatureMetadata(field_name="Second")
    writer = IncrementalPdfFileWriter(io.BytesIO(content))
    return signers.sign_pdf(writer, metadata, signer=signer).getvalue()


def time_stamped(content: bytes, signer: signers.SimpleSigner) -> bytes:
    stamper = DummyTimeStamper(tsa_cert=signer.signing_cert, tsa_key=signer.signing_key)
    writer = IncrementalPdfFileWriter(io.BytesIO(content))
    return signers.PdfTimeStamper(stamper).timestamp_pdf(writer, "sha256").getvalue()


def with_a_changed_page(content: bytes) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(content))
    page = writer.root["/Pages"]["/Kids"][0].get_object()
    del page["/Contents"]
    writer.mark_update(page.container_ref)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def values(report) -> list[dict]:
    return [{row.name: row for row in section.rows} for section in report.sections]


def test_a_signed_pdf_is_good(signed, pdfsig, tmp_path):
    assert "Signature is Valid." in pdfsig_says(pdfsig, signed, tmp_path)
    report = inspect_pdf(signed)
    assert report.good
    [rows] = values(report)
    assert "NTRNO-984661185" in rows["certificate"].value
    assert rows["time that it states"].value.startswith("2026-03-05 12:3")


def test_a_changed_byte_is_a_problem(signed, pdfsig, tmp_path):
    changed = flipped(signed, signed.index(b"Signed documents of"))
    assert "Signature is Valid." not in pdfsig_says(pdfsig, changed, tmp_path)
    report = inspect_pdf(changed)
    assert not report.good
    [rows] = values(report)
    assert rows["digest"].value == "differs: the signed part was changed"


def test_a_second_signature_and_a_time_stamp_are_harmless(signed, signer):
    report = inspect_pdf(time_stamped(signed_again(signed, signer), signer))
    assert report.good
    first, second, stamp = values(report)
    assert "were added afterwards" in first["covers"].value
    assert "were added afterwards" in second["covers"].value
    assert stamp["kind"].value == "a document time stamp, whose value is not checked"


def test_a_page_that_was_changed_after_the_signature_is_a_problem(signed):
    [rows] = values(inspect_pdf(with_a_changed_page(signed)))
    assert rows["digest"].good
    assert not rows["covers"].good
    assert (
        rows["covers"].value == "an earlier part of the file; the document was changed afterwards"
    )


def test_a_pdf_without_a_signature_is_not_good():
    report = inspect_pdf(bundles.pdf())
    assert [row.value for row in report.sections[0].rows] == ["none: the PDF is not signed"]
    assert not report.good


def encrypted() -> bytes:
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(bundles.pdf())))
    writer.encrypt("owner", "user")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("content", [b"%PDF-1.7", bundles.pdf()[:300], encrypted()])
def test_a_pdf_that_can_not_be_read_is_refused(content):
    with pytest.raises(ConfigurationError, match="The PDF can't be read"):
        inspect_pdf(content)
