"""The seal of a signed PDF, verified with pdfsig and pyHanko."""

import io
import os
import re
import subprocess
import sys

import bundles
import certificates
from bundles import NOW
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext
from signing import (
    flipped,
    pades,
    pdfsig_says,
)


def test_pdfsig_finds_one_valid_signature_over_the_whole_file(pdfsig, tmp_path):
    report = pdfsig_says(pdfsig, pades(), tmp_path)
    assert report.count("Signature Validation: Signature is Valid.") == 1
    assert "Signature #2" not in report
    assert "Total document signed" in report
    assert "ETSI.CAdES.detached" in report
    assert "SHA-256" in report
    assert "984661185" in report


def test_pdfsig_detects_a_changed_byte(pdfsig, tmp_path):
    content = pades()
    for mark in (b"/MediaBox", b"/Reason"):
        report = pdfsig_says(pdfsig, flipped(content, content.index(mark) + 4), tmp_path)
        assert "Signature is Valid." not in report


def test_pyhanko_trusts_the_seal_under_the_root_and_reports_the_signing_time():
    def validated(content, *roots):
        trusted = [
            certificate
            for holder in roots
            for certificate in load_certs_from_pemder_data(
                holder.certificate.public_bytes(Encoding.DER)
            )
        ]
        context = ValidationContext(trust_roots=trusted, moment=NOW, allow_fetching=False)
        [signature] = PdfFileReader(io.BytesIO(content)).embedded_signatures
        return validate_pdf_signature(signature, context)

    content = pades()
    status = validated(content, certificates.root())
    assert (status.intact, status.valid, status.trusted) == (True, True, True)
    assert status.signer_reported_dt == bundles.later(60)
    assert status.coverage.name == "ENTIRE_FILE"
    different_root = certificates.issue(
        certificates.name("Fremmed"), None, certificates.rsa_key(8), ca=True
    )
    assert not validated(content, different_root).trusted
    assert not validated(
        flipped(content, content.index(b"/MediaBox") + 4), certificates.root()
    ).intact


def test_the_seal_needs_no_time_zone_of_the_machine_and_states_the_time_in_utc():
    program = (
        "import os, sys, time\n"
        "from datetime import datetime, timedelta, timezone\n"
        "import bundles, signing\n"
        "at = datetime(2026, 3, 5, 13, 30, tzinfo=timezone(timedelta(hours=1)))\n"
        "for os.environ['TZ'] in ('CET-1CEST', 'UTC+1', 'America/New_York'):\n"
        "    time.tzset()\n"
        "    sealed = signing.sealed(bundles.pdf(), seal=signing.seal_key(), at=at, reason='')\n"
        "    sys.stdout.buffer.write(sealed)"
    )
    # An empty PYTHONTZPATH hides the zone data of the machine. Some images have none.
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONTZPATH": ""},
        check=True,
        capture_output=True,
    )
    # The colon after D is written as an octal code.
    assert re.findall(rb"\(D(?:\\072|:)([^)]*)\)", done.stdout) == [b"20260305123000Z"] * 3
