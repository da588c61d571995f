"""The rules of a job: each is stated here once, through `validate`, under the path that a caller knows.

What is wrong with the content of a document is in `tests/container/test_documents.py`.
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
    """What is wrong with a job, in the client's words."""
    client = DirectClient(doubles.configuration(doubles.ScriptedTransport(), **fields))
    try:
        client.validate(given)
    except InvalidJobError as error:
        return [str(each) for each in error.violations]
    return []


def document(**fields) -> Document:
    return Document(**{"title": "Contract", "content": PDF, **fields})


def named(text: str) -> DirectSigner:
    return DirectSigner(custom_identifier=text)


# --- Parts that are of another type


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
def test_parts_of_another_type(fields, broken):
    assert violations(job(**fields)) == broken


@pytest.mark.parametrize("content", [1, None, bytearray(PDF), memoryview(PDF), [PDF], object()])
def test_content_of_another_type(content):
    [broken] = violations(job(documents=[document(), document(content=content)]))
    kind = type(content).__name__
    assert broken == f"documents[1].content: must be bytes or a path, not {kind}"


@pytest.mark.parametrize("type_", ["text/html", "TEXT", "", None, 7, []])
def test_a_document_type_that_does_not_exist(type_):
    [broken] = violations(job(documents=[document(type=type_)]))
    assert broken == "documents[0].type: must be of DocumentType: PDF, TEXT"


def test_a_number_is_not_taken_for_an_open_file(tmp_path):
    """`open` would read it, and close it."""
    path = tmp_path / "another.pdf"
    path.write_bytes(PDF)
    with path.open("rb") as file:
        assert violations(job(documents=[document(content=file.fileno())])) != []
        os.fstat(file.fileno())
        assert file.read() == PDF


def test_with_parts_of_another_type_no_file_is_opened():
    """The file that does not exist would be reported."""
    documents = [document(content=Path("gone.pdf")), document(content=7)]
    assert len(violations(job(documents=documents))) == 1
    assert len(violations(job(documents=documents[:1]))) == 1


class OwnPath:
    """A path of another library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [Path, str, OwnPath])
def test_any_kind_of_path_is_taken(kind, tmp_path):
    (tmp_path / "a.pdf").write_bytes(PDF)
    assert violations(job(documents=[document(content=kind(tmp_path / "a.pdf"))])) == []


def test_anything_that_can_be_iterated_is_taken():
    given = job(documents=iter([document()]), signers=(named(each) for each in "ab"))
    assert violations(given) == []
    assert (len(given.documents), len(given.signers)) == (1, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("type_", ["text/plain", DocumentType.TEXT])
async def test_a_type_may_be_given_as_its_text(type_):
    text = document(content=b"Vilk\xc3\xa5r", type=type_)
    async with client_of(Answer(200, created_xml())) as (client, transport):
        await client.create(job(documents=[text]))
    [sent] = transport.sent
    container = sent.body[sent.body.index(b"PK\3\4") :]
    with zipfile.ZipFile(BytesIO(container[: container.rindex(b"\r\n--")])) as archive:
        assert archive.namelist()[0] == "0000_document.txt"
        assert b'mime="text/plain"' in archive.read("manifest.xml")
    assert violations(job(documents=[replace(text, content=PDF)])) == [
        "documents[0].content: must be plain text, and is a PDF"
    ]


# --- Each rule


def number(text: str) -> DirectSigner:
    return DirectSigner(personal_identification_number=text)


def exits(**urls: str) -> ExitUrls:
    return ExitUrls(**{"completion": "a", "rejection": "b", "error": "c", **urls})


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"reference": "r" * 51}, "reference: at most 50 characters"),
        ({"title": ""}, "title: at least 1 character"),
        ({"title": "t" * 81}, "title: at most 80 characters"),
        ({"description": "d" * 221}, "description: at most 220 characters"),
        ({"signers": []}, "signers: at least one is required"),
        ({"signers": [named(str(each)) for each in range(11)]}, "signers: at most 10"),
        (
            {"signers": [number("1234567891")]},
            "signers[0].personal_identification_number: exactly 11 digits",
        ),
        ({"signers": [named("c" * 81)]}, "signers[0].custom_identifier: at most 80 characters"),
        ({"signers": [named("")]}, "signers[0].custom_identifier: at least 1 character"),
        ({"signers": [named("c"), DirectSigner()]}, f"signers[1]: {BOTH}"),
        ({"documents": []}, "documents: at least one is required"),
        ({"documents": [document()] * 21}, "documents: at most 20"),
        (
            {"documents": [document(), document(title="")]},
            "documents[1].title: at least 1 character",
        ),
        ({"documents": [document(title="d" * 81)]}, "documents[0].title: at most 80 characters"),
        (
            {"exit_urls": exits(completion="c" * 501)},
            "exit_urls.completion: at most 500 characters",
        ),
        ({"exit_urls": exits(rejection="r" * 501)}, "exit_urls.rejection: at most 500 characters"),
        ({"exit_urls": exits(error="e" * 501)}, "exit_urls.error: at most 500 characters"),
        (
            {"sender": Sender(organization_number="12345678")},
            "sender.organization_number: exactly 9 digits",
        ),
        (
            {"sender": Sender(organization_number="123456789", polling_queue="a\0")},
            "sender.polling_queue: holds a character that XML can't carry: U+0000 at position 1",
        ),
        ({"title": 7}, "title: must be text, not int"),
        (
            {"description": "a\x00b"},
            "description: holds a character that XML can't carry: U+0000 at position 1",
        ),
        (
            {"reference": "\ud800"},
            "reference: holds a character that XML can't carry: U+D800 at position 0",
        ),
        (
            {"authentication_level": 4},
            "authentication_level: must be of AuthenticationLevel: THREE, FOUR",
        ),
        (
            {"status_retrieval_method": "LATER"},
            "status_retrieval_method: must be of StatusRetrievalMethod: WAIT_FOR_CALLBACK, POLLING",
        ),
    ],
)
def test_a_rule_is_reported_in_words(fields, broken):
    assert violations(job(**fields)) == [broken]


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "r" * 50, "title": "t" * 80, "description": "d" * 220},
        {"description": "", "authentication_level": "4"},
        {"documents": [document(title="d" * 80)] * 20},
        {"signers": [named(f"{each:080}") for each in range(10)]},
        {"exit_urls": exits(completion="a" * 500, rejection="")},
    ],
)
def test_a_job_just_inside_the_rules_breaks_none(fields):
    assert violations(job(**fields)) == []


def test_a_value_that_speaks_like_the_validator_is_not_quoted():
    value = "s3cr3t' is not accepted by the pattern 's3cr3t'. maximum length of '1'. " + "x" * 80
    given = job(reference=value, signers=[number(value)], exit_urls=exits(completion=value * 9))
    assert violations(given) == [
        "reference: at most 50 characters",
        "exit_urls.completion: at most 500 characters",
        "signers[0].personal_identification_number: exactly 11 digits",
    ]


# --- All at once


def test_several_rules_of_one_part():
    assert violations(job(title="\0" * 81, reference="\1" * 51)) == [
        "title: holds a character that XML can't carry: U+0000 at position 0",
        "reference: holds a character that XML can't carry: U+0001 at position 0",
        "reference: at most 50 characters",
        "title: at most 80 characters",
    ]


def test_what_is_not_text_is_reported_once():
    assert violations(job(signers=[number(7)])) == [
        "signers[0].personal_identification_number: must be text, not int",
    ]
    both = [DirectSigner(custom_identifier=[]), number([])]
    assert violations(job(signers=both)) == [
        "signers[0].custom_identifier: must be text, not list",
        "signers[1].personal_identification_number: must be text, not list",
    ]


@pytest.mark.parametrize("bad", [10, 11, 19, 20, 25])
def test_signers_beyond_those_allowed_are_checked_too(bad):
    signers = [named(str(index)) for index in range(26)]
    signers[bad] = number("x")
    assert violations(job(signers=signers)) == [
        "signers: at most 10",
        f"signers[{bad}].personal_identification_number: exactly 11 digits",
    ]
    signers[bad] = named("x")
    assert violations(job(signers=signers)) == ["signers: at most 10"]


@pytest.mark.parametrize("bad", [20, 39, 40, 44])
def test_documents_beyond_those_allowed_are_checked_too(bad):
    documents = [document() for _ in range(45)]
    documents[bad] = document(title="")
    documents[19] = document(title="x" * 81)
    assert violations(job(documents=documents)) == [
        "documents[19].title: at most 80 characters",
        "documents: at most 20",
        f"documents[{bad}].title: at least 1 character",
    ]


def test_both_signers_and_documents_may_be_too_many():
    signers = [named(str(index)) for index in range(21)]
    documents = [document() for _ in range(41)]
    signers[20], documents[40] = named("x" * 81), document(title="")
    assert sorted(violations(job(signers=signers, documents=documents))) == [
        "documents: at most 20",
        "documents[40].title: at least 1 character",
        "signers: at most 10",
        "signers[20].custom_identifier: at most 80 characters",
    ]


def test_of_two_identifiers_each_is_checked_against_the_schema():
    signer = DirectSigner(personal_identification_number="1", custom_identifier="x" * 81)
    assert violations(job(signers=[named("a"), signer])) == [
        f"signers[1]: {BOTH}",
        "signers[1].personal_identification_number: exactly 11 digits",
        "signers[1].custom_identifier: at most 80 characters",
    ]
    right = DirectSigner(personal_identification_number=PERSON, custom_identifier="x" * 80)
    assert violations(job(signers=[named("a"), right])) == [f"signers[1]: {BOTH}"]


def test_both_identifiers_of_a_signer_are_checked_when_there_are_too_many_signers():
    signers = [
        DirectSigner(personal_identification_number=PERSON, custom_identifier=str(index))
        for index in range(11)
    ]
    signers[2] = replace(signers[2], custom_identifier="x" * 81)
    found = violations(job(signers=signers))
    assert {
        "signers: at most 10",
        "signers[2].custom_identifier: at most 80 characters",
        *(f"signers[{index}]: {BOTH}" for index in range(11)),
    } <= set(found)
    assert len(found) == len(set(found))


class OrderedJob(DirectJob):
    """A job of a user's own kind, whose constructor takes something else."""

    def __init__(self, number, **fields):
        super().__init__(**{**vars_of(job()), **fields, "reference": f"order-{number}"})


def vars_of(value):
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def test_a_job_of_a_subclass_with_its_own_constructor_is_checked_like_any_other():
    assert violations(OrderedJob(77)) == []
    assert violations(OrderedJob(77, title="")) == ["title: at least 1 character"]


@pytest.mark.parametrize("other", [named("same"), number("same")])
def test_the_same_identifier_is_found_whichever_of_two_it_is(other):
    signer = DirectSigner(personal_identification_number=PERSON, custom_identifier="same")
    found = violations(job(signers=[signer, other]))
    assert found[:3] == [f"signers[0]: {BOTH}", f"signers[0]: {SAME}", f"signers[1]: {SAME}"]
    assert f"signers[1]: {SAME}" not in violations(job(signers=[signer, named("other")]))


def test_one_signer_is_not_twice_the_same():
    signer = DirectSigner(personal_identification_number=PERSON, custom_identifier=PERSON)
    assert violations(job(signers=[signer])) == [f"signers[0]: {BOTH}"]


@pytest.mark.parametrize("size", [15_000, 64_000, 70_000, 10_500_000])
def test_however_long_a_text_its_rule_is_reported(size):
    """libxml2 refuses texts of 10 million characters, and cuts its own messages off at 64,000 bytes."""
    digits = number("1" * size)
    sender = Sender(organization_number="\u00e6" * size)
    assert violations(job(description="d" * size, signers=[digits], sender=sender)) == [
        "signers[0].personal_identification_number: exactly 11 digits",
        "sender.organization_number: exactly 9 digits",
        "description: at most 220 characters",
    ]
