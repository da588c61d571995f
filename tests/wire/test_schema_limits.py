"""Every rule of the schema, with a document just inside it and one just outside.

Each row names the rule that the document outside must break, so that it is refused for that reason
and not for a mistake in the table. The judge is lxml's XMLSchema over the packaged schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import pairwise

import posten_signering_xml as models
import pytest
from lxml import etree

NAMESPACE = "http://signering.posten.no/schema/v1"

TOO_LONG = "SCHEMAV_CVC_MAXLENGTH_VALID"
TOO_SHORT = "SCHEMAV_CVC_MINLENGTH_VALID"
PATTERN = "SCHEMAV_CVC_PATTERN_VALID"
CHOICE_OF_VALUES = "SCHEMAV_CVC_ENUMERATION_VALID"
ELEMENTS = "SCHEMAV_ELEMENT_CONTENT"
MISSING_ATTRIBUTE = "SCHEMAV_CVC_COMPLEX_TYPE_4"
STRAY_ATTRIBUTE = "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1"
DATATYPE = "SCHEMAV_CVC_DATATYPE_VALID_1_2_1"
NOT_EMPTY = "SCHEMAV_CVC_COMPLEX_TYPE_2_1"
NO_TEXT = "SCHEMAV_CVC_COMPLEX_TYPE_2_3"
NO_ELEMENTS = "SCHEMAV_CVC_TYPE_3_1_2 SCHEMAV_CVC_COMPLEX_TYPE_2_2"
UNKNOWN_ROOT = "SCHEMAV_CVC_ELT_1"


def element(name: str, *content: str, **attributes: str) -> str:
    rendered = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{name}{rendered}>{''.join(content)}</{name}>"


def document(name: str, *content: str, **attributes: str) -> str:
    return element(name, *content, xmlns=NAMESPACE, **attributes)


# The parts of each message, in order. A document of the table replaces some of them.

EXIT_URLS = {
    "completion": element("completion-url", "https://a.example"),
    "rejection": element("rejection-url", "https://b.example"),
    "error": element("error-url", "https://c.example"),
}
REQUEST = {
    "reference": element("reference", "r"),
    "exit_urls": element("exit-urls", *EXIT_URLS.values()),
    "method": element("status-retrieval-method", "POLLING"),
    "queue": element("polling-queue", "q"),
}
PIN = element("personal-identification-number", "01817099921")
IDENTIFIER = element("signer-identifier", "tenant")
SIGNER = {
    "identity": PIN,
    "type": element("signature-type", "ADVANCED_ELECTRONIC_SIGNATURE"),
    "behalf": element("on-behalf-of", "SELF"),
}
DOCUMENT = {"title": element("title", "Lease")}
FILE = {"href": "a.pdf", "mime": "application/pdf"}
LEGACY = {"title": element("title", "Lease"), "description": element("description", "d")}
MANIFEST = {
    "signers": element("signer", *SIGNER.values()),
    "sender": element("sender", element("organization-number", "999888777")),
    "title": element("title", "Lease"),
    "description": element("description", "d"),
    "documents": element("documents", element("document", *DOCUMENT.values(), **FILE)),
    "authentication": element("required-authentication", "4"),
    "identifier": element("identifier-in-signed-documents", "NAME"),
}
SIGNER_RESPONSE = {"identity": PIN, "redirect": element("redirect-url", "https://r.example")}
RESPONSE = {
    "reference": element("reference", "r"),
    "id": element("signature-job-id", "1"),
    "redirects": element("redirect-url", "https://r.example", signer="tenant"),
    "status_url": element("status-url", "https://s.example"),
    "signers": element("signer", *SIGNER_RESPONSE.values(), href="https://h.example"),
}
STATUS_RESPONSE = {
    "reference": element("reference", "r"),
    "id": element("signature-job-id", "1"),
    "job_status": element("signature-job-status", "IN_PROGRESS"),
    "statuses": element("status", "SIGNED", signer="tenant", since="2031-02-03T04:05:06Z"),
    "confirmation": element("confirmation-url", "https://c.example"),
    "delete": element("delete-documents-url", "https://d.example"),
    "xades": element("xades-url", "https://x.example", signer="tenant"),
    "pades": element("pades-url", "https://p.example"),
}
ERROR = {
    "code": element("error-code", "CODE"),
    "message": element("error-message", "message"),
    "type": element("error-type", "CLIENT"),
}


def request(**parts: str) -> str:
    return document("direct-signature-job-request", *(REQUEST | parts).values())


def exit_urls(**parts: str) -> str:
    return request(exit_urls=element("exit-urls", *(EXIT_URLS | parts).values()))


def manifest(**parts: str) -> str:
    return document("direct-signature-job-manifest", *(MANIFEST | parts).values())


def signer(**parts: str) -> str:
    return manifest(signers=element("signer", *(SIGNER | parts).values()))


def sender(*content: str) -> str:
    return manifest(sender=element("sender", *content))


def listed(title: str = DOCUMENT["title"], **attributes: str) -> str:
    return manifest(documents=element("documents", element("document", title, **attributes)))


def legacy(attributes: dict[str, str] = FILE, **parts: str) -> str:
    single = element("document", *(LEGACY | parts).values(), **attributes)
    return manifest(title="", description="", documents=single)


def response(**parts: str) -> str:
    return document("direct-signature-job-response", *(RESPONSE | parts).values())


def signer_response(href: str | None = "https://h.example", **parts: str) -> str:
    attributes = {} if href is None else {"href": href}
    content = (SIGNER_RESPONSE | parts).values()
    return document("direct-signer-response", *content, **attributes)


def update(*content: str, **attributes: str) -> str:
    return document("direct-signer-update-request", *content, **attributes)


def status_response(**parts: str) -> str:
    return document("direct-signature-job-status-response", *(STATUS_RESPONSE | parts).values())


def status(value: str = "SIGNED", **attributes: str) -> str:
    return status_response(statuses=element("status", value, **attributes))


def error(**parts: str) -> str:
    return document("error", *(ERROR | parts).values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule of the schema."""

    name: str
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    breaks: str


def longest(name: str, make, limit: int) -> Rule:
    return Rule(
        name=f"{name}: at most {limit} characters",
        inside=(make("x" * limit), make("Æ" * limit), make("𝄞" * limit)),
        outside=(make("x" * (limit + 1)), make(" " + "x" * limit)),
        breaks=TOO_LONG,
    )


def shortest(name: str, make, limit: int) -> Rule:
    return Rule(
        name=f"{name}: at least {limit} characters",
        inside=(make("x" * limit), make(" " * limit)),
        outside=(make("x" * (limit - 1)),),
        breaks=TOO_SHORT,
    )


def unrestricted(name: str, make) -> Rule:
    """Any text, but no elements."""
    return Rule(
        name=f"{name}: any text",
        inside=(make(""), make(" \n\t "), make("x" * 100_000)),
        outside=(make("<title/>"),),
        breaks=NO_ELEMENTS,
    )


def may_be_empty(name: str, make) -> Rule:
    return Rule(
        name=f"{name}: may be empty, holds text only",
        inside=(make(""), make(" ")),
        outside=(make("<title/>"),),
        breaks=NO_ELEMENTS,
    )


def digits(name: str, make, count: int) -> Rule:
    return Rule(
        name=f"{name}: {count} digits",
        inside=(make("0" * count), make("9" * count)),
        outside=(
            make("1" * (count - 1)),
            make("1" * (count + 1)),
            make("1" * (count - 1) + "a"),
            make("1" * (count - 1) + "٣"),
            make(" " + "1" * count),
            make("1" * count + "\n"),
            make(""),
        ),
        breaks=PATTERN,
    )


def one_of(name: str, make, values: tuple[str, ...]) -> Rule:
    return Rule(
        name=f"{name}: one of {len(values)} values",
        inside=tuple(make(value) for value in values),
        outside=(
            make(""),
            *(make(f" {value}") for value in values),
            *(make(f"{value}0") for value in values),
            *(make(value.lower()) for value in values if value.lower() != value),
        ),
        breaks=CHOICE_OF_VALUES,
    )


def repeated(name: str, make, least: int, most: int) -> Rule:
    return Rule(
        name=f"{name}: {least} to {most} times",
        inside=(make(least), make(most)),
        outside=(make(most + 1), *([make(least - 1)] if least else [])),
        breaks=ELEMENTS,
    )


def required(name: str, make, part: str, present: str) -> Rule:
    return Rule(
        name=f"{name}: exactly once",
        inside=(make(),),
        outside=(make(**{part: ""}), make(**{part: present * 2})),
        breaks=ELEMENTS,
    )


def optional(name: str, make, part: str, present: str) -> Rule:
    return Rule(
        name=f"{name}: at most once",
        inside=(make(**{part: ""}), make(**{part: present})),
        outside=(make(**{part: present * 2}),),
        breaks=ELEMENTS,
    )


def in_order(name: str, make, parts: dict[str, str]) -> Rule:
    """Each pair of neighbours swapped."""
    swaps = [
        make(**{first: parts[second], second: parts[first]}) for first, second in pairwise(parts)
    ]
    return Rule(name=f"{name}: in order", inside=(make(),), outside=tuple(swaps), breaks=ELEMENTS)


def long_integer(name: str, make) -> Rule:
    return Rule(
        name=f"{name}: a signed 64-bit integer",
        inside=(
            make("-9223372036854775808"),
            make("-1"),
            make("0"),
            make(" +7\n"),
            make("9223372036854775807"),
        ),
        outside=(
            make("-9223372036854775809"),
            make("9223372036854775808"),
            make("1.0"),
            make("1 2"),
            make("x"),
            make(""),
        ),
        breaks=DATATYPE,
    )


def of(name: str, part: str, make):
    """A maker of documents that differ in the text of one element."""
    return lambda text: make(**{part: element(name, text)})


def times(text: str, part: str, make):
    """A maker of documents that differ in how often one element is there."""
    return lambda count: make(**{part: text * count})


def file_attributes(name: str, make) -> list[Rule]:
    def with_value(attribute: str):
        return lambda value: make(**FILE | {attribute: value})

    return [
        shortest(f"{name}/@href", with_value("href"), 4),
        longest(f"{name}/@href", with_value("href"), 100),
        shortest(f"{name}/@mime", with_value("mime"), 1),
        longest(f"{name}/@mime", with_value("mime"), 100),
        Rule(
            name=f"{name}: href and mime are required",
            inside=(make(**FILE),),
            outside=(make(href=FILE["href"]), make(mime=FILE["mime"]), make()),
            breaks=MISSING_ATTRIBUTE,
        ),
        Rule(
            name=f"{name}: no other attribute",
            inside=(make(**FILE),),
            outside=(make(**FILE, signer="tenant"),),
            breaks=STRAY_ATTRIBUTE,
        ),
    ]


REQUEST_RULES = [
    optional("request/reference", request, "reference", REQUEST["reference"]),
    longest("request/reference", of("reference", "reference", request), 50),
    may_be_empty("request/reference", of("reference", "reference", request)),
    required("request/exit-urls", request, "exit_urls", REQUEST["exit_urls"]),
    optional("request/status-retrieval-method", request, "method", REQUEST["method"]),
    one_of(
        "request/status-retrieval-method",
        of("status-retrieval-method", "method", request),
        ("WAIT_FOR_CALLBACK", "POLLING"),
    ),
    optional("request/polling-queue", request, "queue", REQUEST["queue"]),
    unrestricted("request/polling-queue", of("polling-queue", "queue", request)),
    in_order("request", request, REQUEST),
    in_order("exit-urls", exit_urls, EXIT_URLS),
    *(required(f"exit-urls/{n}-url", exit_urls, n, EXIT_URLS[n]) for n in EXIT_URLS),
    *(longest(f"exit-urls/{n}-url", of(f"{n}-url", n, exit_urls), 500) for n in EXIT_URLS),
    *(may_be_empty(f"exit-urls/{n}-url", of(f"{n}-url", n, exit_urls)) for n in EXIT_URLS),
]

MANIFEST_RULES = [
    repeated("manifest/signer", times(MANIFEST["signers"], "signers", manifest), 1, 10),
    digits(
        "signer/personal-identification-number",
        of("personal-identification-number", "identity", signer),
        11,
    ),
    shortest("signer/signer-identifier", of("signer-identifier", "identity", signer), 1),
    longest("signer/signer-identifier", of("signer-identifier", "identity", signer), 80),
    Rule(
        name="signer: one identity, of either kind",
        inside=(signer(identity=PIN), signer(identity=IDENTIFIER)),
        outside=(
            signer(identity=""),
            signer(identity=PIN + IDENTIFIER),
            signer(identity=IDENTIFIER + PIN),
            signer(identity=PIN * 2),
            signer(identity=IDENTIFIER * 2),
        ),
        breaks=ELEMENTS,
    ),
    optional("signer/signature-type", signer, "type", SIGNER["type"]),
    one_of(
        "signer/signature-type",
        of("signature-type", "type", signer),
        ("ADVANCED_ELECTRONIC_SIGNATURE", "AUTHENTICATED_ELECTRONIC_SIGNATURE"),
    ),
    optional("signer/on-behalf-of", signer, "behalf", SIGNER["behalf"]),
    one_of("signer/on-behalf-of", of("on-behalf-of", "behalf", signer), ("SELF", "OTHER")),
    in_order("signer", signer, SIGNER),
    required("manifest/sender", manifest, "sender", MANIFEST["sender"]),
    digits("sender/organization-number", lambda t: sender(element("organization-number", t)), 9),
    repeated(
        "sender/organization-number",
        lambda count: sender(element("organization-number", "999888777") * count),
        1,
        1,
    ),
    required("manifest/title", manifest, "title", MANIFEST["title"]),
    shortest("manifest/title", of("title", "title", manifest), 1),
    longest("manifest/title", of("title", "title", manifest), 80),
    optional("manifest/description", manifest, "description", MANIFEST["description"]),
    longest("manifest/description", of("description", "description", manifest), 220),
    may_be_empty("manifest/description", of("description", "description", manifest)),
    required("manifest/documents", manifest, "documents", MANIFEST["documents"]),
    repeated(
        "documents/document",
        lambda count: manifest(
            documents=element("documents", element("document", *DOCUMENT.values(), **FILE) * count)
        ),
        1,
        20,
    ),
    repeated("document/title", lambda count: listed(DOCUMENT["title"] * count, **FILE), 1, 1),
    shortest("document/title", lambda text: listed(element("title", text), **FILE), 1),
    longest("document/title", lambda text: listed(element("title", text), **FILE), 80),
    Rule(
        name="document: a description only in the legacy form",
        inside=(legacy(),),
        outside=(listed("".join(LEGACY.values()), **FILE),),
        breaks=ELEMENTS,
    ),
    *file_attributes("document", listed),
    optional(
        "manifest/required-authentication", manifest, "authentication", MANIFEST["authentication"]
    ),
    one_of(
        "manifest/required-authentication",
        of("required-authentication", "authentication", manifest),
        ("3", "4"),
    ),
    optional(
        "manifest/identifier-in-signed-documents", manifest, "identifier", MANIFEST["identifier"]
    ),
    one_of(
        "manifest/identifier-in-signed-documents",
        of("identifier-in-signed-documents", "identifier", manifest),
        ("PERSONAL_IDENTIFICATION_NUMBER_AND_NAME", "DATE_OF_BIRTH_AND_NAME", "NAME"),
    ),
    in_order("manifest", manifest, MANIFEST),
]

LEGACY_RULES = [
    Rule(
        name="manifest: a title with documents, or one legacy document",
        inside=(manifest(), legacy()),
        outside=(
            legacy().replace("<document ", MANIFEST["title"] + "<document ", 1),
            legacy().replace("<document ", MANIFEST["description"] + "<document ", 1),
            legacy().replace("</document>", "</document>" + MANIFEST["documents"], 1),
            manifest(title="", description="", documents=""),
            manifest(
                title="",
                description="",
                documents=element("document", *LEGACY.values(), **FILE) * 2,
            ),
        ),
        breaks=ELEMENTS,
    ),
    required("legacy document/title", legacy, "title", LEGACY["title"]),
    shortest("legacy document/title", of("title", "title", legacy), 1),
    longest("legacy document/title", of("title", "title", legacy), 80),
    optional("legacy document/description", legacy, "description", LEGACY["description"]),
    longest("legacy document/description", of("description", "description", legacy), 220),
    may_be_empty("legacy document/description", of("description", "description", legacy)),
    in_order("legacy document", legacy, LEGACY),
    *file_attributes("legacy document", lambda **attributes: legacy(attributes)),
]

RESPONSE_RULES = [
    optional("response/reference", response, "reference", RESPONSE["reference"]),
    longest("response/reference", of("reference", "reference", response), 50),
    required("response/signature-job-id", response, "id", RESPONSE["id"]),
    long_integer("response/signature-job-id", of("signature-job-id", "id", response)),
    repeated("response/redirect-url", times(RESPONSE["redirects"], "redirects", response), 1, 10),
    longest("response/redirect-url", of("redirect-url", "redirects", response), 500),
    may_be_empty("response/redirect-url", of("redirect-url", "redirects", response)),
    Rule(
        name="response/redirect-url/@signer: optional, any text",
        inside=(
            response(redirects=element("redirect-url")),
            response(redirects=element("redirect-url", signer="")),
            response(redirects=element("redirect-url", signer="x" * 1000)),
        ),
        outside=(response(redirects=element("redirect-url", since="2031-02-03T04:05:06Z")),),
        breaks=STRAY_ATTRIBUTE,
    ),
    optional("response/status-url", response, "status_url", RESPONSE["status_url"]),
    longest("response/status-url", of("status-url", "status_url", response), 500),
    repeated("response/signer", times(RESPONSE["signers"], "signers", response), 1, 10),
    in_order("response", response, RESPONSE),
    Rule(
        name="response/signer/@href: required",
        inside=(response(),),
        outside=(response(signers=element("signer", *SIGNER_RESPONSE.values())),),
        breaks=MISSING_ATTRIBUTE,
    ),
    Rule(
        name="signer-response/@href: required",
        inside=(signer_response(), signer_response(href="")),
        outside=(signer_response(href=None),),
        breaks=MISSING_ATTRIBUTE,
    ),
    longest("signer-response/@href", lambda text: signer_response(href=text), 500),
    Rule(
        name="signer-response: one identity, of either kind",
        inside=(signer_response(identity=PIN), signer_response(identity=IDENTIFIER)),
        outside=(
            signer_response(identity=""),
            signer_response(identity=PIN + IDENTIFIER),
            signer_response(identity=IDENTIFIER + PIN),
            signer_response(identity=PIN * 2),
            signer_response(identity=IDENTIFIER * 2),
        ),
        breaks=ELEMENTS,
    ),
    digits(
        "signer-response/personal-identification-number",
        of("personal-identification-number", "identity", signer_response),
        11,
    ),
    shortest(
        "signer-response/signer-identifier",
        of("signer-identifier", "identity", signer_response),
        1,
    ),
    longest(
        "signer-response/signer-identifier",
        of("signer-identifier", "identity", signer_response),
        80,
    ),
    required(
        "signer-response/redirect-url", signer_response, "redirect", SIGNER_RESPONSE["redirect"]
    ),
    longest("signer-response/redirect-url", of("redirect-url", "redirect", signer_response), 500),
    in_order("signer-response", signer_response, SIGNER_RESPONSE),
]

UPDATE_RULES = [
    repeated("update/redirect-url", lambda count: update("<redirect-url/>" * count), 1, 1),
    Rule(
        name="update/redirect-url: empty",
        inside=(
            update("<redirect-url></redirect-url>"),
            update("<redirect-url><!-- --></redirect-url>"),
        ),
        outside=(
            update("<redirect-url>https://r.example</redirect-url>"),
            update("<redirect-url><title/></redirect-url>"),
        ),
        breaks=NOT_EMPTY,
    ),
    Rule(
        name="update: no attribute",
        inside=(update("<redirect-url/>"),),
        outside=(
            update("<redirect-url/>", href="https://h.example"),
            update('<redirect-url signer="x"/>'),
        ),
        breaks=STRAY_ATTRIBUTE,
    ),
]

STATUS_RULES = [
    optional(
        "status-response/reference", status_response, "reference", STATUS_RESPONSE["reference"]
    ),
    longest("status-response/reference", of("reference", "reference", status_response), 50),
    required("status-response/signature-job-id", status_response, "id", STATUS_RESPONSE["id"]),
    long_integer("status-response/signature-job-id", of("signature-job-id", "id", status_response)),
    required(
        "status-response/signature-job-status",
        status_response,
        "job_status",
        STATUS_RESPONSE["job_status"],
    ),
    one_of(
        "status-response/signature-job-status",
        of("signature-job-status", "job_status", status_response),
        ("IN_PROGRESS", "COMPLETED_SUCCESSFULLY", "FAILED"),
    ),
    repeated(
        "status-response/status",
        times(STATUS_RESPONSE["statuses"], "statuses", status_response),
        1,
        10,
    ),
    unrestricted("status", lambda text: status(text, since="2031-02-03T04:05:06Z")),
    Rule(
        name="status/@signer: optional, any text",
        inside=(
            status(since="2031-02-03T04:05:06Z"),
            status(since="2031-02-03T04:05:06Z", signer=""),
            status(since="2031-02-03T04:05:06Z", signer="x" * 1000),
        ),
        outside=(status(since="2031-02-03T04:05:06Z", href="x"),),
        breaks=STRAY_ATTRIBUTE,
    ),
    Rule(
        name="status/@since: required",
        inside=(status(since="2031-02-03T04:05:06Z"),),
        outside=(status(signer="tenant"),),
        breaks=MISSING_ATTRIBUTE,
    ),
    Rule(
        name="status/@since: a date with a time",
        inside=(
            status(since="2031-02-03T04:05:06"),
            status(since="2031-02-03T04:05:06.7"),
            status(since="2031-02-03T04:05:06.123456789+14:00"),
            status(since="2031-02-03T24:00:00Z"),
            status(since="2028-02-29T00:00:00-01:00"),
        ),
        outside=(
            status(since=""),
            status(since="2031-02-03"),
            status(since="2031-02-03 04:05:06Z"),
            status(since="2031-02-03T04:05Z"),
            status(since="2031-02-03T04:05:60Z"),
            status(since="2031-02-03T25:00:00Z"),
            status(since="2031-02-29T00:00:00Z"),
            status(since="2031-02-03T04:05:06+14:01"),
            status(since="2031-02-03T04:05:06+0100"),
        ),
        breaks=DATATYPE,
    ),
    *(
        rule
        for part, name in {
            "confirmation": "confirmation-url",
            "delete": "delete-documents-url",
            "pades": "pades-url",
        }.items()
        for rule in (
            optional(f"status-response/{name}", status_response, part, STATUS_RESPONSE[part]),
            longest(f"status-response/{name}", of(name, part, status_response), 500),
            may_be_empty(f"status-response/{name}", of(name, part, status_response)),
        )
    ),
    repeated(
        "status-response/xades-url",
        times(STATUS_RESPONSE["xades"], "xades", status_response),
        0,
        10,
    ),
    longest("status-response/xades-url", of("xades-url", "xades", status_response), 500),
    Rule(
        name="status-response/xades-url/@signer: optional, any text",
        inside=(
            status_response(xades=element("xades-url")),
            status_response(xades=element("xades-url", signer="x" * 1000)),
        ),
        outside=(status_response(xades=element("xades-url", href="x")),),
        breaks=STRAY_ATTRIBUTE,
    ),
    in_order("status-response", status_response, STATUS_RESPONSE),
]

ERROR_RULES = [
    *(required(f"error/error-{n}", error, n, ERROR[n]) for n in ERROR),
    *(unrestricted(f"error/error-{n}", of(f"error-{n}", n, error)) for n in ERROR),
    in_order("error", error, ERROR),
]

MESSAGES = {
    "request": request(),
    "manifest": manifest(),
    "legacy manifest": legacy(),
    "response": response(),
    "signer response": signer_response(),
    "update request": update("<redirect-url/>"),
    "status response": status_response(),
    "error": error(),
}


def anywhere(old: str, new: str) -> tuple[str, ...]:
    return tuple(message.replace(old, new, 1) for message in MESSAGES.values())


COMMON_RULES = [
    Rule(
        name="every message: white space and comments between elements",
        inside=anywhere("><", ">\n\t <!-- a comment --> <"),
        outside=anywhere("><", ">text<"),
        breaks=NO_TEXT,
    ),
    Rule(
        name="every message: no unknown element at the end",
        inside=tuple(MESSAGES.values()),
        outside=tuple(
            message[: message.rindex("</")] + "<unknown/>" + message[message.rindex("</") :]
            for message in MESSAGES.values()
        ),
        breaks=ELEMENTS,
    ),
    Rule(
        name="every message: no unknown attribute",
        inside=tuple(MESSAGES.values()),
        outside=anywhere(" xmlns=", ' unknown="" xmlns='),
        breaks=STRAY_ATTRIBUTE,
    ),
    Rule(
        name="every message: in the namespace",
        inside=tuple(MESSAGES.values()),
        outside=(*anywhere("schema/v1", "schema/v2"), *anywhere(f' xmlns="{NAMESPACE}"', "")),
        breaks=UNKNOWN_ROOT,
    ),
    Rule(
        name="every message: its children in the namespace too",
        inside=(manifest(),),
        outside=(
            request(queue='<polling-queue xmlns="">q</polling-queue>'),
            manifest(title='<title xmlns="">Lease</title>'),
            error(type='<error-type xmlns="">CLIENT</error-type>'),
        ),
        breaks=ELEMENTS,
    ),
    Rule(
        name="document: its attributes in no namespace",
        inside=(listed(**FILE),),
        outside=(
            listed(**FILE).replace(' href="', f' xmlns:s="{NAMESPACE}" s:href="', 1),
            signer_response().replace(' href="', f' xmlns:s="{NAMESPACE}" s:href="', 1),
        ),
        breaks=STRAY_ATTRIBUTE,
    ),
    Rule(
        name="an element of a message is no message",
        inside=(),
        outside=(
            document("exit-urls", *EXIT_URLS.values()),
            document("sender", element("organization-number", "999888777")),
            document("signer", PIN),
        ),
        breaks=UNKNOWN_ROOT,
    ),
]

RULES = [
    *REQUEST_RULES,
    *MANIFEST_RULES,
    *LEGACY_RULES,
    *RESPONSE_RULES,
    *UPDATE_RULES,
    *STATUS_RULES,
    *ERROR_RULES,
    *COMMON_RULES,
]


@pytest.fixture(scope="module")
def schema():
    with as_file(files(models) / "schema") as folder:
        return etree.XMLSchema(file=str(folder / "direct.xsd"))


def test_each_rule_is_named_once():
    names = [rule.name for rule in RULES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_documents_just_inside_are_accepted(rule, schema):
    for text in rule.inside:
        assert schema.validate(etree.fromstring(text)), (text[:600], schema.error_log)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_documents_just_outside_are_refused_for_breaking_that_rule(rule, schema):
    for text in rule.outside:
        assert not schema.validate(etree.fromstring(text)), text[:600]
        assert schema.error_log[0].type_name in rule.breaks.split(), (text[:600], schema.error_log)
