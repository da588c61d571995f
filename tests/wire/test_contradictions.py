"""Responses that contradict themselves or the schema: an error, because a wrong value would be stored."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posten_signering import Sender, Signature, SignerStatus
from posten_signering._values.secret import Secret
from posten_signering._wire import messages, operations
from posten_signering._wire.exchange import Response
from posten_signering.errors import CreateOutcomeUnknownError, UnexpectedResponseError

NS = "http://signering.posten.no/schema/v1"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

HEAD = "<signature-job-id>7</signature-job-id><signature-job-status>FAILED</signature-job-status>"
STATUS = '<status signer="c" since="2026-01-02T03:04:05Z">SIGNED</status>'
SIGNER = (
    '<signer href="https://api.example/1"><signer-identifier>c</signer-identifier>'
    "<redirect-url>https://web.example/1</redirect-url></signer>"
)
CREATED = "<signature-job-id>7</signature-job-id>"


def status_of(inner: str, root: str = "direct-signature-job-status-response"):
    return messages.job_status_response(message(root, inner))


def created(inner: str):
    return messages.job_response(message("direct-signature-job-response", inner))


def new_redirect_url(inner: str, attribute: str = 'href="https://api.example/1"'):
    return messages.signer_response(message("direct-signer-response", inner, attribute))


def message(root: str, inner: str, attribute: str = "") -> Secret[bytes]:
    text = (
        f'<{root} xmlns="{NS}" xmlns:xsi="{XSI}" xmlns:o="urn:other" {attribute}>{inner}</{root}>'
    )
    return Secret(text.encode())


def status(value: str = "SIGNED", signer: str = "c", since: str = "2026-01-02T03:04:05Z") -> str:
    return f'<status signer="{signer}" since="{since}">{value}</status>'


def xades(url: str = "https://x/1", signer: str | None = "c") -> str:
    return f"<xades-url{attribute(signer)}>{url}</xades-url>"


def attribute(name: str | None) -> str:
    return "" if name is None else f' signer="{name}"'


# --- Several values for one signer


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        (status() + status("REJECTED"), "two different statuses for the same signer"),
        (status() + status(signer=" c ", value="REJECTED"), "two different statuses"),
        (status() + status(since="2026-01-02T03:04:06Z"), "two different statuses"),
        (status() + '<status signer="c">SIGNED</status>', "two different statuses"),
        (status() + xades() + xades("https://x/2"), "two different xades-urls"),
        (status() + xades() + xades("https://x/2", None), "two different xades-urls"),
        (
            "<status>SIGNED</status>" + xades(signer=None) + xades("https://x/2", None),
            "two different xades-urls",
        ),
        (status() + xades(signer="d"), "an xades-url that belongs to no status"),
        ("<status>SIGNED</status>" + xades() + xades(signer="d"), "belongs to no status"),
        (status() + status(signer="d") + xades(signer="e"), "belongs to no status"),
        (status() + "<status>SIGNED</status>" + xades(signer="e"), "belongs to no status"),
        (status() + status(signer="d") + xades(signer=None), "belongs to no status"),
        (status() + status(signer="d") + xades(signer=" "), "belongs to no status"),
        ("<status>SIGNED</status>" * 2 + xades(signer=None), "belongs to no status"),
    ],
)
def test_a_contradiction_about_a_signer_is_an_error(inner, problem):
    with pytest.raises(UnexpectedResponseError, match=problem) as caught:
        status_of(HEAD + inner)
    assert caught.value.job_id == 7
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (status() * 2 + xades(), [("c", "https://x/1")]),
        (
            status() + status(" signed ", " c ", "2026-01-02T04:04:05+01:00") + xades() * 2,
            [("c", "https://x/1")],
        ),
        (status() + xades() + xades(signer=None), [("c", "https://x/1")]),
        (status() + xades(" https://x/1\n", " c "), [("c", "https://x/1")]),
        (status() * 2 + xades(signer=None) * 2, [("c", "https://x/1")]),
        (status(signer="") + xades(), [("c", "https://x/1")]),
        (status(signer=" ") + xades(signer=""), [(None, "https://x/1")]),
        (status() + status(signer="d") + xades(), [("c", "https://x/1"), ("d", None)]),
        ("<status>SIGNED</status>" * 2, [(None, None)] * 2),
        ("<status>SIGNED</status><status>REJECTED</status>", [(None, None)] * 2),
    ],
)
def test_equal_repetitions_are_one_value_and_unnamed_signers_are_not_compared(inner, expected):
    read = status_of(HEAD + inner).signatures
    assert [(signature.signer, signature.xades_url) for signature in read] == expected


NAMES = st.sampled_from([None, "a", "b"])


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["SIGNED", "REJECTED"])), min_size=1, max_size=4),
    st.lists(st.tuples(NAMES, st.sampled_from(["https://x/1", "https://x/2"])), max_size=4),
)
def test_a_status_is_read_only_if_each_signer_has_one_status_and_at_most_one_url(statuses, urls):
    """The oracle asks about sets: it does not depend on the order, which the reader keeps."""
    unnamed = [pair for pair in statuses if pair[0] is None]
    named = {pair for pair in statuses if pair[0] is not None}
    names = {name for name, _ in named}
    single = len(unnamed) + len(named) == 1
    if single:
        only = [*unnamed, *named][0][0]
        all_names = ({name for name, _ in urls} | {only}) - {None}
        readable = len(all_names) <= 1 and len({url for _, url in urls}) <= 1
        expected = {(next(iter(all_names), None), url) for _, url in urls}
    else:
        readable = (
            len(names) == len(named)
            and all(name in names for name, _ in urls)
            and len(set(urls)) == len({name for name, _ in urls})
        )
        expected = set(urls)
    inner = HEAD + "".join(
        [
            *(f"<status{attribute(name)}>{value}</status>" for name, value in statuses),
            *(xades(url, name) for name, url in urls),
        ]
    )
    if not readable:
        with pytest.raises(UnexpectedResponseError):
            status_of(inner)
        return
    read = status_of(inner).signatures
    assert {(s.signer, s.xades_url) for s in read if s.xades_url} == expected
    assert len(read) == len(unnamed) + len(named)


def test_two_different_signers_with_one_identifier_are_an_error_and_equal_ones_are_one():
    assert len(created(CREATED + SIGNER * 2).signers) == 1
    number = SIGNER.replace("signer-identifier", "personal-identification-number")
    for other in (SIGNER.replace("/1<", "/2<"), SIGNER.replace('/1"', '/2"'), number):
        with pytest.raises(UnexpectedResponseError, match="two different signers") as caught:
            created(CREATED + SIGNER + other)
        assert caught.value.job_id == 7
    assert len(created(CREATED + SIGNER + SIGNER.replace(">c<", ">d<")).signers) == 2


def test_a_created_job_without_signers_is_an_error():
    with pytest.raises(UnexpectedResponseError, match="no readable signer") as caught:
        created(CREATED)
    assert caught.value.job_id == 7


# --- Values that are not what the schema says


ELEMENTS = [
    (status_of, HEAD, STATUS, "status", "SIGNED"),
    (status_of, HEAD, STATUS + xades(), "xades-url", "https://x/1"),
    (status_of, "", HEAD + STATUS, "signature-job-id", "7"),
    (status_of, "", HEAD + STATUS, "signature-job-status", "FAILED"),
    *(
        (status_of, HEAD + STATUS, f"<{name}>https://x/1</{name}>", name, "https://x/1")
        for name in ("confirmation-url", "delete-documents-url", "pades-url")
    ),
    (status_of, HEAD + STATUS, "<reference>r</reference>", "reference", "r"),
    (created, SIGNER, CREATED, "signature-job-id", "7"),
    (created, CREATED + SIGNER, "<status-url>s</status-url>", "status-url", "s"),
    (created, CREATED + SIGNER, "<reference>r</reference>", "reference", "r"),
    (created, CREATED + SIGNER, "<redirect-url>r</redirect-url>", "redirect-url", "r"),
    (created, CREATED, SIGNER, "signer-identifier", "c"),
    (created, CREATED, SIGNER, "redirect-url", "https://web.example/1"),
    (new_redirect_url, "", "<redirect-url>r</redirect-url>", "redirect-url", "r"),
    *(
        (new_redirect_url, "<redirect-url>r</redirect-url>", f"<{name}>1</{name}>", name, "1")
        for name in ("signer-identifier", "personal-identification-number")
    ),
]


@pytest.mark.parametrize(("read", "before", "part", "name", "text"), ELEMENTS)
def test_a_known_element_has_a_text_in_its_place_and_namespace(read, before, part, name, text):
    start, end = f"<{name}", f">{text}</{name}>"
    assert read(before + part)
    padded = part.replace(end, f"> <!-- a --><?a b?><![CDATA[{text}]]>\n</{name}>")
    assert read(before + padded) == read(before + part)
    assert read(before + part.replace(start, f'<{name} xsi:nil="false"'))
    wrong = {
        part.replace(end, f">{text}<b/></{name}>"): "an element inside the text",
        part.replace(end, f">{text[:1]}<b/>{text[1:]}</{name}>"): "an element inside the text",
        part.replace(end, f"><b>{text}</b></{name}>"): "an element inside the text",
        part.replace(start, f'<{name} xsi:nil="true"'): "without a value",
        part.replace(start, f'<{name} xmlns="urn:other"'): "wrong place or namespace",
        part.replace(start, f'<{name} xmlns=""'): "wrong place or namespace",
    }
    if name != "reference":
        wrong |= dict.fromkeys(
            (
                part.replace(end, f"></{name}>"),
                part.replace(end, f"> <!-- a -->\n</{name}>"),
            ),
            "an empty",
        )
    for changed, problem in wrong.items():
        assert changed != part
        with pytest.raises(UnexpectedResponseError, match=problem) as caught:
            read(before + changed)
        readable = read is not new_redirect_url and name != "signature-job-id"
        assert caught.value.job_id == (7 if readable else None)


@pytest.mark.parametrize("empty", ["<reference/>", "<reference> </reference>"])
def test_an_empty_reference_is_the_callers_own(empty):
    assert status_of(HEAD + STATUS + empty).reference == ""
    assert created(CREATED + SIGNER + empty).reference == ""


@pytest.mark.parametrize(
    ("read", "inner"),
    [
        (status_of, HEAD + STATUS + "<status-url>u</status-url>"),
        (status_of, HEAD + STATUS + "<direct-signer-response/>"),
        (status_of, HEAD + STATUS + "<error-code>X</error-code>"),
        (created, CREATED + SIGNER + "<confirmation-url>u</confirmation-url>"),
        (created, CREATED + SIGNER.replace("</signer>", "<pades-url>u</pades-url></signer>")),
        (new_redirect_url, "<redirect-url>r</redirect-url><signature-job-id>7</signature-job-id>"),
    ],
)
def test_a_known_element_of_a_different_message_is_an_error(read, inner):
    with pytest.raises(UnexpectedResponseError, match="in the wrong place or namespace"):
        read(inner)


def test_known_names_below_an_unknown_element_are_ignored():
    new = f"<o:new><pades-url>u</pades-url>{STATUS}<status>REJECTED</status></o:new><title/>"
    assert status_of(HEAD + STATUS + new) == status_of(HEAD + STATUS)
    assert created(CREATED + SIGNER + new) == created(CREATED + SIGNER)


@pytest.mark.parametrize(
    ("read", "inner", "problem"),
    [
        (status_of, HEAD + STATUS.replace(" signer", " o:signer"), "signer of status"),
        (status_of, HEAD + STATUS.replace(" since", " o:since"), "since of status"),
        (status_of, HEAD + STATUS + xades().replace(" signer", " o:signer"), "signer of xades-url"),
        (created, CREATED + SIGNER.replace(" href", " o:href"), "href of signer"),
    ],
)
def test_a_known_attribute_in_a_different_namespace_is_an_error_only_if_the_right_one_is_missing(
    read, inner, problem
):
    with pytest.raises(UnexpectedResponseError, match=f"{problem} in the wrong namespace"):
        read(inner)
    for ignored in ("o:new=''", "o:signer='e' o:since='x' o:href='u'"):
        assert read(inner.replace(" o:", f" {ignored} "))


@pytest.mark.parametrize(
    "attribute", ['href=""', 'href=" "', "", 'o:href="u"', 'href="u" xsi:nil="1"']
)
def test_a_new_redirect_url_needs_a_signer_url(attribute):
    inner = "<redirect-url>r</redirect-url>"
    assert new_redirect_url(inner, 'href=" u "').signer_url == "u"
    with pytest.raises(UnexpectedResponseError) as caught:
        new_redirect_url(inner, attribute)
    assert caught.value.job_id is None


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        *(("7", 7), ("+7", 7), (" 7\n", 7), ("007", 7), ("+" + "0" * 30 + "7", 7)),
        (str(2**63 - 1), 2**63 - 1),
        *((text, None) for text in ("5.0", "1e3", "٣", "1_000", "\u00a05", "+ 5", "0x5", "five")),
        *((text, None) for text in ("-7", "0", "-0", str(2**63), "9" * 19, "9" * 5000)),
    ],
)
def test_a_job_id_is_a_positive_whole_number_of_64_bits(text, job_id):
    """It is the same number in a value and in an error."""
    identifier = f"<signature-job-id>{text}</signature-job-id>"
    of_status = identifier + HEAD.partition("</signature-job-id>")[2]
    for read, good, bad in (
        (created, identifier + SIGNER, identifier),
        (status_of, of_status + STATUS, of_status),
    ):
        if job_id is not None:
            assert read(good).job_id == job_id
        else:
            with pytest.raises(UnexpectedResponseError, match="no readable signature-job-id"):
                read(good)
        with pytest.raises(UnexpectedResponseError) as caught:
            read(bad)
        assert caught.value.job_id == job_id
        assert ("names job id" in str(caught.value)) is (job_id is not None)


def test_the_errors_of_a_poll_and_of_a_create_have_the_job_id():
    sender = Sender(organization_number="123456789")

    def response(root: str, inner: str) -> Response:
        time = "2026-01-02T03:04:30Z"
        headers = {"x-next-permitted-poll-time": time, "date": "Fri, 02 Jan 2026 03:04:05 GMT"}
        received = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        return Response(status=200, headers=headers, body=message(root, inner), received=received)

    poll, create = (
        operations.poll("https://api.example", sender).decode,
        operations.create("https://api.example", sender, reference="r").decode,
    )
    with pytest.raises(UnexpectedResponseError) as polled:
        poll(response("direct-signature-job-status-response", HEAD + STATUS + status("FAILED")))
    assert polled.value.job_id == 7
    assert polled.value.next_permitted_poll_time == datetime(2026, 1, 2, 3, 4, 30, tzinfo=UTC)
    assert polled.value.wait == timedelta(seconds=25)
    with pytest.raises(CreateOutcomeUnknownError) as unknown:
        create(response("direct-signature-job-response", CREATED))
    assert (unknown.value.job_id, unknown.value.reference) == (7, "r")


# --- The error document


def test_a_contradictory_error_document_is_not_read_and_new_elements_do_not_hide_the_code():
    def error(inner: str):
        return messages.service_error(message("error", inner))

    code, kind = "<error-code>A</error-code>", "<error-type>CLIENT</error-type>"
    grown = "<error-message/><reference>r</reference><status/>"
    assert error(code + kind + grown) == messages.ServiceError(code="A", message="", type="CLIENT")
    for contradiction in (
        code * 2,
        code.replace("A", "A<b/>"),
        "<error-code/>",
        f"{code}<o:error-code/>",
    ):
        assert error(contradiction + kind) is None


def test_identifiers_and_the_reference_are_read_without_white_space_around_them():
    read = created(CREATED + SIGNER.replace(">c<", "> c\n<") + "<reference> order-77\n</reference>")
    assert (read.reference, read.signers[0].custom_identifier) == ("order-77", "c")
    assert read.signer("c") is read.signer(" c ") is read.signers[0]
    change = status_of(HEAD + status(signer=" c "))
    (signature,) = change.signatures
    assert change.signature_of(" c ") is change.signature_of("c") is signature
    assert signature == Signature(
        signer="c", status=SignerStatus.SIGNED, since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
