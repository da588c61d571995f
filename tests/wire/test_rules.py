"""Every rule of a job, as `validate` reports it under its public path.

The rules for the content of documents are in `tests/container/test_documents.py`.
"""

import dataclasses
import os
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import doubles
import pytest
from doubles import PDF, PERSON, Answer, client_of, created_xml, job

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    Sender,
)
from posten_signering.errors import InvalidJobError

BOTH = "exactly one of personal_identification_number and custom_identifier is required"
SAME = "has the same identifier as another signer of the job"


def violations(given, **fields) -> list[str]:
    """The violations that the client reports for a job."""
    client = DirectClient(doubles.configuration(doubles.ScriptedTransport(), **fields))
    try:
        client.validate(given)
    except InvalidJobError as error:
        return [str(violation) for violation in error.violations]
    return []


def document(**fields) -> Document:
    return Document(**{"title": "Contract", "content": PDF, **fields})


def named(text: str) -> DirectSigner:
    return DirectSigner(custom_identifier=text)


# --- Parts of a wrong type


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"documents": "x"}, ["documents[0]: must be Document, not str"]),
        ({"documents": None}, ["documents: must be a sequence, not NoneType"]),
        ({"documents": document()}, ["documents: must be a sequence, not Document"]),
        ({"documents": [PDF]}, ["documents[0]: must be Document, not bytes"]),
        ({"documents": [document(), None]}, ["documents[1]: must be Document, not NoneType"]),
        ({"signers": "xy"}, [f"signers[{i}]: must be DirectSigner, not str" for i in range(2)]),
        ({"signers": None}, ["signers: must be a sequence, not NoneType"]),
        ({"signers": [PERSON]}, ["signers[0]: must be DirectSigner, not str"]),
        ({"exit_urls": None}, ["exit_urls: must be ExitUrls, not NoneType"]),
        ({"sender": "123456789"}, ["sender: must be Sender, not str"]),
        ({"exit_urls": "https://x"}, ["exit_urls: must be ExitUrls, not str"]),
        (
            {"exit_urls": {}, "signers": [None], "documents": [None]},
            [
                "documents[0]: must be Document, not NoneType",
                "signers[0]: must be DirectSigner, not NoneType",
                "exit_urls: must be ExitUrls, not dict",
            ],
        ),
    ],
    ids=str,
)
def test_a_part_of_a_wrong_type_is_reported(fields, broken):
    assert violations(job(**fields)) == broken


@pytest.mark.parametrize("content", [1, None, bytearray(PDF), memoryview(PDF), [PDF], object()])
def test_content_of_a_wrong_type_is_reported(content):
    [broken] = violations(job(documents=[document(), document(content=content)]))
    kind = type(content).__name__
    assert broken == f"documents[1].content: must be bytes or a path, not {kind}"


@pytest.mark.parametrize("type_", ["text/html", "TEXT", "", None, 7, []])
def test_an_unknown_document_type_is_reported(type_):
    [broken] = violations(job(documents=[document(type=type_)]))
    assert broken == "documents[0].type: must be a member of DocumentType: PDF, TEXT"


def test_a_file_descriptor_is_refused_as_content(tmp_path):
    """`open` would accept the number, read the file, and close it."""
    path = tmp_path / "another.pdf"
    path.write_bytes(PDF)
    with path.open("rb") as file:
        assert violations(job(documents=[document(content=file.fileno())])) != []
        os.fstat(file.fileno())
        assert file.read() == PDF


def test_no_file_is_opened_if_a_part_has_a_wrong_type():
    """Otherwise the file that does not exist would be reported too."""
    documents = [document(content=Path("gone.pdf")), document(content=7)]
    assert len(violations(job(documents=documents))) == 1
    assert len(violations(job(documents=documents[:1]))) == 1


class OwnPath:
    """A path type of a different library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [Path, str, OwnPath])
def test_every_kind_of_path_is_accepted(kind, tmp_path):
    (tmp_path / "a.pdf").write_bytes(PDF)
    assert violations(job(documents=[document(content=kind(tmp_path / "a.pdf"))])) == []


def test_every_iterable_is_accepted():
    given = job(documents=iter([document()]), signers=(named(text) for text in "ab"))
    assert violations(given) == []
    assert (len(given.documents), len(given.signers)) == (1, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("type_", ["text/plain", DocumentType.TEXT])
async def test_a_document_type_may_be_given_as_text(type_):
    text = document(content=b"Vilk\xc3\xa5r", type=type_)
    async with client_of(Answer(200, created_xml())) as (client, transport):
        await client.create(job(documents=[text]))
    [sent] = transport.sent
    container = sent.body[sent.body.index(b"PK\3\4") :]
    with zipfile.ZipFile(BytesIO(container[: container.rindex(b"\r\n--")])) as archive:
        assert archive.namelist()[0] == "0000_document.txt"
        assert b'mime="text/plain"' in archive.read("manifest.xml")
    assert violations(job(documents=[replace(text, content=PDF)])) == [
        "documents[0].content: must be plain text, but is a PDF"
    ]


# --- Each rule


def number(text: str) -> DirectSigner:
    return DirectSigner(personal_identification_number=text)


def exits(**urls: str) -> ExitUrls:
    return ExitUrls(
        **{"completion": "https://a", "rejection": "https://b", "error": "https://c", **urls}
    )


def not_in_xml(character: str, position: int) -> str:
    return f"must not contain {character}, which XML does not allow (it is at position {position})"


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"reference": "r" * 51}, "reference: at most 50 characters, but it has 51"),
        ({"title": ""}, "title: at least 1 character"),
        ({"title": "t" * 81}, "title: at most 80 characters, but it has 81"),
        ({"description": "d" * 221}, "description: at most 220 characters, but it has 221"),
        ({"signers": []}, "signers: at least one is required"),
        (
            {"signers": [named(str(index)) for index in range(11)]},
            "signers: at most 10, but there are 11",
        ),
        (
            {"signers": [number("1234567891")]},
            "signers[0].personal_identification_number: exactly 11 digits",
        ),
        (
            {"signers": [named("c" * 81)]},
            "signers[0].custom_identifier: at most 80 characters, but it has 81",
        ),
        ({"signers": [named("")]}, "signers[0].custom_identifier: at least 1 character"),
        ({"signers": [named(" \n")]}, "signers[0].custom_identifier: must not be only white space"),
        ({"signers": [named("c"), DirectSigner()]}, f"signers[1]: {BOTH}"),
        ({"documents": []}, "documents: at least one is required"),
        ({"documents": [document()] * 21}, "documents: at most 20, but there are 21"),
        (
            {"documents": [document(), document(title="")]},
            "documents[1].title: at least 1 character",
        ),
        (
            {"documents": [document(title="d" * 81)]},
            "documents[0].title: at most 80 characters, but it has 81",
        ),
        *(
            (
                {"exit_urls": exits(**{name: f"https://{'x' * 493}"})},
                f"exit_urls.{name}: at most 500 characters, but it has 501",
            )
            for name in ("completion", "rejection", "error")
        ),
        (
            {"sender": Sender(organization_number="12345678")},
            "sender.organization_number: exactly 9 digits",
        ),
        (
            {"sender": Sender(organization_number="123456789", polling_queue="a\0")},
            f"sender.polling_queue: {not_in_xml('U+0000', 1)}",
        ),
        ({"title": 7}, "title: must be text, not int"),
        (
            {"description": "a\x00b"},
            f"description: {not_in_xml('U+0000', 1)}",
        ),
        (
            {"reference": "\ud800"},
            f"reference: {not_in_xml('U+D800', 0)}",
        ),
        (
            {"authentication_level": 4},
            "authentication_level: must be a member of AuthenticationLevel: THREE, FOUR",
        ),
        (
            {"status_retrieval_method": "LATER"},
            (
                "status_retrieval_method: must be a member of StatusRetrievalMethod: "
                "WAIT_FOR_CALLBACK, POLLING"
            ),
        ),
    ],
)
def test_a_broken_rule_is_reported_in_words(fields, broken):
    assert violations(job(**fields)) == [broken]


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "r" * 50, "title": "t" * 80, "description": "d" * 220},
        {"description": "", "authentication_level": "4"},
        {"documents": [document(title="d" * 80)] * 20},
        {"signers": [named(f"{index:080}") for index in range(10)]},
        {"exit_urls": exits(completion=f"https://{'x' * 492}")},
    ],
)
def test_values_at_the_limits_are_valid(fields):
    assert violations(job(**fields)) == []


@pytest.mark.parametrize(
    "url",
    [
        *("https://shop.example", "HTTPS://Shop.Example:443/", "http://localhost:8000/done#end"),
        *(
            "http://127.0.0.1:8000",
            "https://[::1]:8443/done?a=b",
            "https://user:word@shop.example:/",
        ),
        *(
            "https://xn--nkter-fra.example/sign%C3%A9?id[]=7&b='",
            "https://a_b.example/(x);y,z@!$*+~",
        ),
        *("https://shop.example?next=javascript:alert(1)", "https://shop.example/data:,x"),
        *("http://10-20-30-40/done", "http://1234567/", "https://shop.example./a..b"),
        *(
            "shop://signed",
            "com.example.app:/signed",
            "COM.Example-App+1:/signed?a=b#c",
            "shop:///",
        ),
    ],
)
def test_an_exit_url_that_a_browser_follows_is_valid(url):
    assert violations(job(exit_urls=ExitUrls.single(url))) == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "/done",
            "//shop.example/done",
            "shop.example/done",
            "localhost:8000/done",
            "?a=b",
            "#a",
        ),
        *("shop:", "shop:signed", "1shop:/signed", ":/signed", "mailto:a@b.example", "%20:/signed"),
        *("http:", "http:/", "http://", "https:///done", "http:shop.example", "http:/shop.example"),
        *(
            "http://@/x",
            "http://user@/x",
            "http://:80/",
            "https://?a=b",
            "https://#a",
            "https://a@b@c/",
        ),
        *("http://a:0/", "http://a:65536/", "http://a:-1/", "http://a:x/", "http://a:8:8/"),
        *(
            "http://[::1/",
            "http://[::x]/",
            "http://[1:2]/",
            "http://::1/",
            "http://[]/",
            "http://a[1]/",
        ),
        *("http://256.0.0.1/", "http://1.2.3.999:80/", "https://a/[id]"),
        *("https://shop..example/", "https://.example/", "https://./", "https://a@shop..example"),
    ],
)
def test_an_exit_url_without_a_host_or_an_apps_scheme_is_reported(url):
    [rejection, error] = violations(job(exit_urls=exits(rejection=url, error=url)))
    assert rejection == (
        "exit_urls.rejection: must be an http or https URL with a host, such as "
        "https://shop.example/signed, or begin with an app's own scheme and :/, such as "
        "com.example.app:/signed"
    )
    assert error == rejection.replace("rejection", "error")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "javascript:alert(1)",
            "JavaScript://x.example/%0Aalert(1)",
            "vbscript:x",
            "data:text/html,x",
        ),
        *("DATA:/x", "file:///etc/passwd", "file:/x", "blob:https://a.example/x", "about:blank"),
        *("view-source:https://a.example/", "filesystem:https://a.example/x"),
    ],
)
def test_an_exit_url_with_a_scheme_that_browsers_do_not_follow_is_reported(url):
    [broken] = violations(job(exit_urls=exits(completion=url)))
    assert broken == (
        f"exit_urls.completion: must not have the scheme {url.partition(':')[0].lower()}, because "
        "browsers do not follow a redirect to it"
    )


@pytest.mark.parametrize(
    ("url", "character", "position"),
    [
        *(
            (f"https://a.example/{character}x", character, 18)
            for character in ' "<>\\^`{|}\t\n\x7fæ\u200b😀'
        ),
        *((f"{space}https://a.example", space, 0) for space in (" ", "\n", "\xa0", "\ufeff")),
        *(
            ("https://a.example ", " ", 17),
            ("java\tscript:alert(1)", "\t", 4),
            ("shop://a b", " ", 8),
        ),
        *(("https://blåbær.example/", "å", 10), ("https://a.example/?id={id}", "{", 22)),
        *(("https://a.example/?rebate=100%", "%", 29), ("https://a.example/%zz", "%", 18)),
    ],
)
def test_a_character_that_is_not_allowed_in_a_url_is_reported(url, character, position):
    [broken] = violations(job(exit_urls=exits(completion=url)))
    assert broken == (
        f"exit_urls.completion: must not contain U+{ord(character):04X} at position {position}, which "
        "RFC 3986 does not allow there: percent-encode it (in a host name, use the form that begins "
        "with xn--)"
    )


@pytest.mark.parametrize(("url", "broken"), [(None, "NoneType"), (b"https://a", "bytes")])
def test_an_exit_url_that_is_not_text_is_reported_once(url, broken):
    assert violations(job(exit_urls=exits(error=url))) == [
        f"exit_urls.error: must be text, not {broken}"
    ]


def test_a_value_that_imitates_the_validators_words_is_not_quoted():
    value = "s3cr3t' is not accepted by the pattern 's3cr3t'. maximum length of '1'. " + "x" * 80
    given = job(reference=value, signers=[number(value)], description=value * 3)
    assert violations(given) == [
        f"reference: at most 50 characters, but it has {len(value)}",
        "signers[0].personal_identification_number: exactly 11 digits",
        f"description: at most 220 characters, but it has {len(value) * 3}",
    ]


# --- Several violations together


def test_several_violations_of_one_field_are_all_reported():
    assert violations(job(title="\0" * 81, reference="\1" * 51)) == [
        f"title: {not_in_xml('U+0000', 0)}",
        f"reference: {not_in_xml('U+0001', 0)}",
        "reference: at most 50 characters, but it has 51",
        "title: at most 80 characters, but it has 81",
    ]


def test_a_value_that_is_not_text_is_reported_once():
    assert violations(job(signers=[number(7)])) == [
        "signers[0].personal_identification_number: must be text, not int",
    ]
    both = [DirectSigner(custom_identifier=[]), number([])]
    assert violations(job(signers=both)) == [
        "signers[0].custom_identifier: must be text, not list",
        "signers[1].personal_identification_number: must be text, not list",
    ]


@pytest.mark.parametrize("bad", [10, 11, 19, 20, 25])
def test_signers_beyond_the_limit_are_checked_too(bad):
    signers = [named(str(index)) for index in range(26)]
    signers[bad] = number("x")
    assert violations(job(signers=signers)) == [
        "signers: at most 10, but there are 26",
        f"signers[{bad}].personal_identification_number: exactly 11 digits",
    ]
    signers[bad] = named("x")
    assert violations(job(signers=signers)) == ["signers: at most 10, but there are 26"]


@pytest.mark.parametrize("bad", [20, 39, 40, 44])
def test_documents_beyond_the_limit_are_checked_too(bad):
    documents = [document() for _ in range(45)]
    documents[bad] = document(title="")
    documents[19] = document(title="x" * 81)
    assert violations(job(documents=documents)) == [
        "documents[19].title: at most 80 characters, but it has 81",
        "documents: at most 20, but there are 45",
        f"documents[{bad}].title: at least 1 character",
    ]


def test_too_many_signers_and_too_many_documents_are_both_reported():
    signers = [named(str(index)) for index in range(21)]
    documents = [document() for _ in range(41)]
    signers[20], documents[40] = named("x" * 81), document(title="")
    assert sorted(violations(job(signers=signers, documents=documents))) == [
        "documents: at most 20, but there are 41",
        "documents[40].title: at least 1 character",
        "signers: at most 10, but there are 21",
        "signers[20].custom_identifier: at most 80 characters, but it has 81",
    ]


def test_both_identifiers_of_a_signer_are_checked_against_the_schema():
    signer = DirectSigner(personal_identification_number="1", custom_identifier="x" * 81)
    assert violations(job(signers=[named("a"), signer])) == [
        f"signers[1]: {BOTH}",
        "signers[1].personal_identification_number: exactly 11 digits",
        "signers[1].custom_identifier: at most 80 characters, but it has 81",
    ]
    right = DirectSigner(personal_identification_number=PERSON, custom_identifier="x" * 80)
    assert violations(job(signers=[named("a"), right])) == [f"signers[1]: {BOTH}"]


def test_both_identifiers_of_a_signer_are_checked_when_there_are_too_many_signers():
    signers = [
        DirectSigner(personal_identification_number=PERSON, custom_identifier=str(index))
        for index in range(11)
    ]
    signers[2] = replace(signers[2], custom_identifier="x" * 81)
    reported = violations(job(signers=signers))
    assert {
        "signers: at most 10, but there are 11",
        "signers[2].custom_identifier: at most 80 characters, but it has 81",
        *(f"signers[{index}]: {BOTH}" for index in range(11)),
    } <= set(reported)
    assert len(reported) == len(set(reported))


class OrderedJob(DirectJob):
    """A user's own subclass, whose constructor takes different arguments."""

    def __init__(self, number, **fields):
        super().__init__(**{**vars_of(job()), **fields, "reference": f"order-{number}"})


def vars_of(value):
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def test_a_subclass_of_a_job_with_its_own_constructor_is_checked():
    assert violations(OrderedJob(77)) == []
    assert violations(OrderedJob(77, title="")) == ["title: at least 1 character"]


@pytest.mark.parametrize("other", [named("same"), named(" same\n"), number("same")])
def test_two_signers_with_the_same_text_in_any_identifier_are_reported(other):
    signer = DirectSigner(personal_identification_number=PERSON, custom_identifier="same")
    reported = violations(job(signers=[signer, other]))
    assert reported[:3] == [f"signers[0]: {BOTH}", f"signers[0]: {SAME}", f"signers[1]: {SAME}"]
    assert f"signers[1]: {SAME}" not in violations(job(signers=[signer, named("other")]))


def test_a_signer_with_the_same_text_in_both_identifiers_is_no_duplicate():
    signer = DirectSigner(personal_identification_number=PERSON, custom_identifier=PERSON)
    assert violations(job(signers=[signer])) == [f"signers[0]: {BOTH}"]


@pytest.mark.parametrize("size", [15_000, 64_000, 70_000, 10_500_000])
def test_the_rule_is_reported_for_a_text_of_any_length(size):
    """libxml2 refuses texts of 10 million characters, and truncates its messages at 64,000 bytes."""
    digits = number("1" * size)
    sender = Sender(organization_number="\u00e6" * size)
    assert violations(job(description="d" * size, signers=[digits], sender=sender)) == [
        "signers[0].personal_identification_number: exactly 11 digits",
        "sender.organization_number: exactly 9 digits",
        f"description: at most 220 characters, but it has {size}",
    ]
