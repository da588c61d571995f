"""Which field of a subject names the organisation."""

import pki
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._http.tls import organization_number_of


class TestOrganizationNumber:
    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"organization_identifier": "NTRNO-984661185"}, "984661185"),
            ({"organization_identifier": "984661185"}, "984661185"),
            ({"serial_number": "984661185"}, "984661185"),
            ({"common_name": "984661185"}, "984661185"),
            ({"common_name": "984661185 Posten"}, "984661185"),
            # The first field that yields a value wins.
            (
                {"organization_identifier": "NTRNO-111111111", "serial_number": "984661185"},
                "111111111",
            ),
            ({"organization_identifier": "VATNO-1", "serial_number": "984661185"}, "984661185"),
            ({"serial_number": "98466118", "common_name": "984661185"}, "984661185"),
            # Matched whole.
            ({"organization_identifier": "NTRNO-9846611850"}, None),
            ({"organization_identifier": "NTRSE-984661185"}, None),
            ({"organization_identifier": "ntrno-984661185"}, None),
            ({"organization_identifier": "NTRNO-984661185\n"}, None),
            ({"organization_identifier": "984 661 185"}, None),
            ({"serial_number": "NTRNO-984661185"}, None),
            ({"common_name": "9846611850"}, None),
            ({"common_name": "Posten 984661185"}, None),
            ({"common_name": "٩٨٤٦٦١١٨٥"}, None),
            ({"organization_name": "984661185"}, None),
            ({"organizational_unit_name": "984661185"}, None),
        ],
    )
    def test_which_field_counts(self, fields, found):
        name = x509.Name(
            [
                x509.NameAttribute(getattr(x509.NameOID, field.upper()), value)
                for field, value in fields.items()
            ]
        )
        issued = pki.issue(name, pki.root(), key=pki.rsa_key("any"))
        assert organization_number_of(issued.certificate) == found

    @given(st.text(st.characters(categories=["L", "N", "P", "Z"]), min_size=1, max_size=12))
    def test_no_other_text_is_taken_for_a_number(self, text):
        certificate = type(
            "Certificate",
            (),
            {"subject": x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, text)])},
        )
        expected = text if len(text) == 9 and set(text) <= set("0123456789") else None
        assert organization_number_of(certificate) == expected
