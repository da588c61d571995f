"""Identity numbers in every spelling, and the values of secret parameters, are masked."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posten_signering.sandbox._values.masking import masked, masked_path
from posten_signering.sandbox._values.refusal import Refusal


def test_identity_numbers_in_common_spellings_are_masked():
    assert masked("01817099921") == "***********"
    assert masked("fnr 018170 99921, 018170-99921.") == "fnr ***********, ***********."
    assert masked_path("/a", [("x", ""), ("polling_queue", "")]) == "/a?x&polling_queue"


GAPS = st.text(
    " .-_/\t\N{NO-BREAK SPACE}\N{THIN SPACE}\N{EN DASH}\N{NON-BREAKING HYPHEN}", max_size=3
)


@given(
    st.from_regex("[0-9]{11}", fullmatch=True),
    st.lists(GAPS, min_size=3, max_size=3).filter(lambda gaps: bool(gaps[0]) == bool(gaps[1])),
    st.text(st.characters(exclude_categories=["Nd"])),
    st.text(st.characters(exclude_categories=["Nd"])),
)
@example("17885599999", ["", "", "\N{NO-BREAK SPACE}"], "", "")
@example("17885599999", ["", "", "\t"], "", "")
@example("17885599999", ["", "", "  "], "", "")
@example("17885599999", ["", "", "\N{EN DASH}"], "", "")
@example("17885599999", ["", "", "_"], "", "")
@example("17885599999", [" ", " ", " "], "", "")
@example("17885599999", [".", ".", " "], "", "")
def test_an_identity_number_with_any_separators_is_masked(number, gaps, before, after):
    parts = zip((number[:2], number[2:4], number[4:6]), gaps, strict=True)
    written = "".join(part + gap for part, gap in parts) + number[6:]
    assert masked(before + written + after) == f"{before}***********{after}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/170889%2012345/a%20b", "/***********/a%20b"),
        ("?q=%2017088912345", "?q=%20***********"),
        ("170889+12345", "***********"),
        ("170889%252012345", "***********"),
        ("170889%C2%A012345", "***********"),
        ("170889%A012345", "***********"),
        ("%31%37%30%38%38%39%31%32%33%34%35", "***********"),
        ("%EF%BC%91708891234%35.pdf", "***********.pdf"),
        ("170889&#32;12345", "***********"),
        ("170889&#xA0;12345", "***********"),
        ("170889&nbsp;12345", "***********"),
        ("&#49;7088912345 &amp; co", "*********** &amp; co"),
        ("170889&amp;#32;12345", "***********"),
        (
            "\uff11\uff17\uff10\uff18\uff18\uff19 \uff11\uff12\uff13\uff14\uff15 and 17088912345",
            "*********** and ***********",
        ),
        ("170889 123 45", "***********"),
        ("a+b 17088912345 170889%2012345", "a+b *********** ***********"),
    ],
)
def test_an_escaped_identity_number_is_masked_and_the_rest_is_kept(text, shown):
    assert masked(text) == shown
    assert masked_path(text, []) == shown


@pytest.mark.parametrize(
    "kept",
    [
        "a%2Fb%3Fc=%zz&amp;&#65;+",
        "999888777%20MVA",
        "1234%2056%2078901",
        "178855%0A99999",
        "%20123456789012",
        "2026-03-05T12%3A30%3A00.000%2B01%3A00",
        "550e8400-e29b-41d4-a716-446655440000",
        "1772713800123",
        "\uff19\uff19\uff19 \uff18\uff18\uff18 \uff17\uff17\uff17",
        "0181709992",
        "018170999210",
        "ordre-77",
        "123456789",
        "job 123456789012",
        "jobs/1/signers/2",
        "999 888 777",
        "NO 999888777 MVA",
        "999888777 12",
        "2026-03-05",
        "2026-03-05T12:30:00.000+01:00",
        "05.03.2026 12345",
        "05.03.26 kl. 12.30",
        "1234.56.78901",
        "+47 22 33 44 55",
        "178855\n99999",
    ],
)
def test_a_text_without_an_identity_number_is_not_changed(kept):
    assert masked(kept) == kept


@pytest.mark.parametrize("number", ["17088912345", "170889 12345", "17 08 89 12345"])
def test_a_refusal_masks_identity_numbers(number):
    refusal = Refusal(400, "BAD_REQUEST", f"The entry {number}.pdf of 123456789012 is wrong.")
    assert str(refusal) == refusal.message == "The entry ***********.pdf of 123456789012 is wrong."


def test_a_refusal_has_only_characters_that_its_error_document_can_have():
    refusal = Refusal(400, "BAD_REQUEST", "The issuer is CN=a\0\x1b\ud800\uffffb\n.")
    assert refusal.message == "The issuer is CN=a\ufffd\ufffd\ufffd\ufffdb\n."


@settings(max_examples=50)
@given(st.text(st.sampled_from("0123456789 %25&#;+x"), max_size=60))
def test_text_of_any_form_is_masked_without_an_error(text):
    assert masked(masked(text)) == masked(text)
