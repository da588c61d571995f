"""The client and the sandbox have the same rules for a job, although neither uses the code of the other.

Each job is checked by the client, and sent to the sandbox's judge without that check, as a different client would.
"""

import dataclasses
from itertools import product
from xml.sax.saxutils import escape

import bundles
import pytest
from bundles import PERSON, SENDER, File, Recipe
from hypothesis import given
from hypothesis import strategies as st
from verdicts import judged

from posten_signering import (
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    Sender,
)
from posten_signering._client.creation import check
from posten_signering._container.compression import Compression
from posten_signering._container.documents import inspect
from posten_signering._container.layout import document_name
from posten_signering._values.secret import Secret
from posten_signering._wire.messages import job_messages
from posten_signering._wire.urls import exit_url_rule
from posten_signering.errors import InvalidJobError
from posten_signering.sandbox._intake.exit_urls import exit_url_problem
from posten_signering.sandbox._intake.judge import _document_problem
from posten_signering.sandbox._intake.messages import read_job_request
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal

PDF = Document(title="Contract", content=bundles.pdf())
URL = "https://shop.example/done"


def job(**fields) -> DirectJob:
    defaults = {
        "title": "Lease",
        "documents": [PDF],
        "signers": [DirectSigner(custom_identifier="customer-42")],
        "exit_urls": exits(),
        "sender": Sender(organization_number=SENDER),
    }
    return DirectJob(**{**defaults, **fields})


def exits(**urls: str) -> ExitUrls:
    return ExitUrls(**{"completion": URL, "rejection": URL, "error": URL, **urls})


def text(content: bytes) -> dict:
    return {"documents": [Document(title="Terms", content=content, type=DocumentType.TEXT)]}


def named(*identifiers: str) -> dict:
    return {"signers": [DirectSigner(custom_identifier=identifier) for identifier in identifiers]}


def clients_verdict(given_job) -> str | None:
    try:
        check(given_job, given_job.sender, Compression.STORED)
    except InvalidJobError as error:
        return str(error)
    return None


def sandboxs_verdict(given_job) -> str | None:
    names = [document_name(i, document.type) for i, document in enumerate(given_job.documents)]
    rendered = job_messages(given_job, given_job.sender, names)
    files = tuple(
        File(name, document.content, document.type)
        for name, document in zip(names, given_job.documents, strict=True)
    )
    packed = bundles.container(Recipe(files=files, manifest=rendered.manifest.reveal()))
    try:
        judged(None, body=bundles.body(rendered.request.reveal(), packed))
    except Refusal as refusal:
        return refusal.message
    return None


BROKEN = {
    "a long reference": ({"reference": "r" * 51}, "reference is longer"),
    "no title": ({"title": ""}, "title is shorter"),
    "a long title": ({"title": "t" * 81}, "title is longer"),
    "a long description": ({"description": "d" * 221}, "description is longer"),
    "no document": ({"documents": []}, "documents has a missing child"),
    "too many documents": ({"documents": [PDF] * 21}, "document[20] is not expected"),
    "no document title": (
        {"documents": [dataclasses.replace(PDF, title="")]},
        "document/title is shorter",
    ),
    "a long document title": (
        {"documents": [dataclasses.replace(PDF, title="t" * 81)]},
        "document/title is longer",
    ),
    "documents of more than 10 MiB": (
        {"documents": [PDF, Document(title="Big", content=b"%PDF-1.7" + bytes(10_485_760))]},
        "more than 10485760 bytes",
    ),
    "an empty PDF": (
        {"documents": [Document(title="Empty", content=b"")]},
        "is empty",
    ),
    "an empty text": (text(b""), "is empty"),
    "a blank text": (text(b" \n\t\xc2\xa0\f"), "is only white space"),
    "a byte order mark alone": (text(b"\xef\xbb\xbf\n"), "is only white space"),
    "a text with NUL": (text(b"a\0b"), "has the control character U+0000"),
    "a text with a terminal's codes": (text(b"a\x1b[8mb"), "has the control character U+001B"),
    "a text with a C1 control character": (text(b"a\xc2\x9fb"), "control character U+009F"),
    "a text in Latin-1": (text(b"Vilk\xe5r"), "is not text in UTF-8"),
    "a text in UTF-16": (text("Vilkår".encode("utf-16")), "is not text in UTF-8"),
    "a text that is cut off in a character": (text("æ".encode()[:1]), "is not text in UTF-8"),
    "a PDF as text": (text(bundles.pdf()), "is a PDF, but has the media type text/plain"),
    "a PDF after a byte order mark": (text(b"\xef\xbb\xbf \n%PDF-1.7"), "is a PDF, but"),
    "no PDF": ({"documents": [Document(title="Page", content=b"<html>")]}, "is not a PDF"),
    "too many signers": (named(*map(str, range(11))), "signer[10] is not expected"),
    "a short identity number": (
        {"signers": [DirectSigner(personal_identification_number="1234567890")]},
        "personal-identification-number does not match",
    ),
    "an identity number in other digits": (
        {"signers": [DirectSigner(personal_identification_number="\uff10" * 11)]},
        "personal-identification-number does not match",
    ),
    "an empty identifier": (named(""), "signer-identifier is shorter"),
    "a blank identifier": (
        named("a", " \t\xa0"),
        "signer[1]/signer-identifier is only white space",
    ),
    "a long identifier": (named("x" * 81), "signer-identifier is longer"),
    "two equal identifiers": (named("a", "b", "a"), "signer[0] and signer[2]"),
    "two identifiers that differ in white space": (named("a", "\na "), "signer[0] and signer[1]"),
    "an identity number as a custom identifier": (
        {
            "signers": [
                DirectSigner(personal_identification_number=PERSON),
                DirectSigner(custom_identifier=PERSON),
            ]
        },
        "signer[0] and signer[1]",
    ),
    "a long exit URL": (
        {"exit_urls": exits(completion=f"https://{'x' * 493}")},
        "completion-url is longer",
    ),
    "an empty exit URL": ({"exit_urls": exits(error="")}, "error-url is not a URL"),
    "a relative exit URL": ({"exit_urls": exits(rejection="/done")}, "rejection-url is not a URL"),
    "a script as exit URL": (
        {"exit_urls": exits(completion="javascript:alert(1)")},
        "completion-url has the scheme javascript",
    ),
    "a space in an exit URL": (
        {"exit_urls": exits(error="https://a.example/a b")},
        "error-url has U+0020 at position 19",
    ),
    "a short organisation number": (
        {"sender": Sender(organization_number="12345678")},
        "organization-number does not match",
    ),
}


@pytest.mark.parametrize(("fields", "reason"), BROKEN.values(), ids=BROKEN)
def test_the_sandbox_refuses_what_the_client_refuses(fields, reason):
    assert clients_verdict(job(**fields)) is not None
    assert reason in (sandboxs_verdict(job(**fields)) or "accepted")


ACCEPTED = {
    "every text at its limit": {
        "reference": "r" * 50,
        "title": "t" * 80,
        "description": "d" * 220,
        **named("i" * 80),
        "exit_urls": exits(completion=f"https://{'x' * 492}"),
    },
    "blank texts": {"reference": "", "title": " ", "description": ""},
    "ten signers": named(*map(str, range(10))),
    "twenty documents": {"documents": [PDF] * 20},
    "10 MiB of documents": text(b"x" * 10_485_760),
    "a text with a byte order mark": text(b"\xef\xbb\xbfVilk\xc3\xa5r"),
    "a text with white space of every kind": text("a\t\n\v\f\r\x85\xa0b".encode()),
    "a text that mentions PDF": text(b"A text about %PDF-1.7"),
    "a polling queue": {
        "sender": Sender(organization_number=SENDER, polling_queue=" k\xf8 <&> \U0001f600")
    },
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_the_sandbox_accepts_what_the_client_accepts(fields):
    assert (clients_verdict(job(**fields)), sandboxs_verdict(job(**fields))) == (None, None)


@given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)))
def test_the_sandbox_and_the_client_agree_about_every_text(content):
    inspection = inspect(job(**text(content)).documents, compression=Compression.STORED)
    problem = _document_problem("text/plain", Octets(content))
    assert (problem is None) == (inspection.violations == ())


# --- Exit URLs

HOSTS = [
    *("shop.example", "localhost", "a", "a..b", ".", "a.", "a..", "", "user@a", "@a", "a@b@c"),
    *("127.0.0.1", "256.0.0.1", "1.2.3.04", "1.2.3.4.", "1.2.3", "[::1]", "[::x]", "[::1"),
    *("[1.2.3.4]", "[v1.a]", "[fe80::1%25eth0]", "[]", "a[1]", "u:p@[::1]", "%41", "-", "a_b"),
    *("xn--bl-zia.example", "bl\xe5.example", "a:b@c", "\uff11.2.3.4"),
]
PORTS = ["", ":", ":0", ":1", ":80", ":65535", ":65536", ":000080", ":x", ":-1"]
SCHEMES = [
    *("http", "https", "HTTPS", "javascript", "Data", "file", "view-source", "blob", "about"),
    *("com.example.app", "a+b-c.d", "1a", "", " https", "\ufeffhttps", "mailto", "httpx"),
]
RESTS = ["", "/", "/a?b=c#d", "?id[]=7", "#[x]", "/[x]", "/%2", "/%zz", "##", " "]
SLASHES = [":", ":/", "://", ":///", "//", ""]


def agree(url: str) -> bool:
    return (exit_url_problem(url) is None) == (exit_url_rule(Secret(url)) is None)


def test_the_sandbox_and_the_client_agree_about_exit_urls_of_every_form():
    web = ["".join(parts) for parts in product(["http://", "HTTPS://"], HOSTS, PORTS, RESTS)]
    others = ["".join(parts) for parts in product(SCHEMES, SLASHES, ["", "a", "[a]"], RESTS)]
    assert [url for url in web + others if not agree(url)] == []
    for urls in (web, others):
        accepted = [url for url in urls if exit_url_problem(url) is None]
        assert 100 < len(accepted) < len(urls) - 100


@given(
    st.one_of(
        st.text(st.sampled_from("htps:/?#[]@.%2a0 \\\n\xe6"), max_size=30).map("http://".__add__),
        st.text(max_size=30),
    )
)
def test_the_sandbox_and_the_client_agree_about_random_exit_urls(url):
    assert agree(url)


@pytest.mark.parametrize("url", ["https://a.example/?token=s3cr3t&x= ", "s3cr3t:x", "file:s3cr3t"])
def test_the_refusal_of_an_exit_url_names_it_and_does_not_quote_it(url):
    request = bundles.request_xml().replace(b"https://example.com/error", escape(url).encode())
    with pytest.raises(Refusal) as caught:
        read_job_request(Octets(request))
    assert (caught.value.status, caught.value.code) == (400, "SCHEMA_VALIDATION_ERROR")
    assert caught.value.message.startswith("The request: exit-urls/error-url ")
    assert "s3cr3t" not in caught.value.message
