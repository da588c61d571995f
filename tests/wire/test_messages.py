"""The conversion between public values and XML messages, in both directions.

Rendered messages are validated by lxml with the schema in `xsd/`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from posten_signering import (
    AuthenticationLevel,
    DirectJob,
    DirectJobStatus,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    Sender,
    SignatureType,
    SignerStatus,
    StatusRetrievalMethod,
)
from posten_signering._values.secret import Secret
from posten_signering._wire import messages, xml
from posten_signering.errors import UnexpectedResponseError

NS = "http://signering.posten.no/schema/v1"
SCHEMA = Path(__file__).parents[2] / "xsd" / "direct.xsd"
SENDER = Sender(organization_number="123456789", polling_queue="shop")
PIN = "12345678910"


def a_job(**changes) -> DirectJob:
    job = DirectJob(
        title="Lease",
        documents=[Document(title="Contract", content=b"%PDF-1.7")],
        signers=[DirectSigner(personal_identification_number=PIN)],
        exit_urls=ExitUrls(
            completion="https://shop.example/done",
            rejection="https://shop.example/no",
            error="https://shop.example/oops",
        ),
    )
    return replace(job, **changes)


def the_messages(job: DirectJob, sender: Sender = SENDER) -> messages.JobMessages:
    names = [f"{index:04d}_document.pdf" for index, _ in enumerate(job.documents)]
    return messages.job_messages(job, sender, names)


def valid(document: Secret[bytes]) -> etree._Element:
    """The document's root. Fails if the document is not valid against the schema in `xsd/`."""
    root = etree.fromstring(document.reveal())
    etree.XMLSchema(etree.parse(SCHEMA)).assertValid(root)
    return root


def text(root: etree._Element, path: str) -> str | None:
    # The steps have a prefix, because older versions of lxml lose a default namespace after a predicate.
    steps = "/".join(f"s:{step}" for step in path.split("/"))
    return root.findtext(steps, namespaces={"s": NS})


def response(inner: str, root: str = "direct-signature-job-status-response") -> Secret[bytes]:
    return Secret(f'<{root} xmlns="{NS}">{inner}</{root}>'.encode())


STATUS = (
    "<signature-job-id>7</signature-job-id>"
    "<signature-job-status>COMPLETED_SUCCESSFULLY</signature-job-status>"
)


class TestOutgoing:
    def test_a_minimal_job_leaves_every_default_to_the_service(self) -> None:
        rendered = the_messages(a_job(), Sender(organization_number="123456789"))
        request, manifest = valid(rendered.request), valid(rendered.manifest)
        assert [etree.QName(element).localname for element in request] == ["exit-urls"]
        assert [etree.QName(element).localname for element in manifest] == [
            "signer",
            "sender",
            "title",
            "documents",
        ]

    def test_every_field_of_a_job_is_rendered(self) -> None:
        job = a_job(
            documents=[
                Document(title="Contract", content=b""),
                Document(title="Terms", content=b"", type=DocumentType.TEXT),
            ],
            signers=[
                DirectSigner(
                    personal_identification_number=PIN,
                    signature_type=SignatureType.ADVANCED_SIGNATURE,
                    on_behalf_of=OnBehalfOf.OTHER,
                ),
                DirectSigner(
                    custom_identifier="customer-42",
                    signature_type=SignatureType.AUTHENTICATED_SIGNATURE,
                    on_behalf_of=OnBehalfOf.SELF,
                ),
            ],
            reference="order-77",
            description="Please sign",
            authentication_level=AuthenticationLevel.THREE,
            identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
            status_retrieval_method=StatusRetrievalMethod.POLLING,
        )
        rendered = the_messages(job)
        request, manifest = valid(rendered.request), valid(rendered.manifest)
        assert text(request, "reference") == "order-77"
        assert text(request, "exit-urls/completion-url") == "https://shop.example/done"
        assert text(request, "exit-urls/rejection-url") == "https://shop.example/no"
        assert text(request, "exit-urls/error-url") == "https://shop.example/oops"
        assert text(request, "status-retrieval-method") == "POLLING"
        assert text(request, "polling-queue") == "shop"
        assert text(manifest, "signer[1]/personal-identification-number") == PIN
        assert text(manifest, "signer[1]/signature-type") == "ADVANCED_ELECTRONIC_SIGNATURE"
        assert text(manifest, "signer[1]/on-behalf-of") == "OTHER"
        assert text(manifest, "signer[2]/signer-identifier") == "customer-42"
        assert text(manifest, "signer[2]/signature-type") == "AUTHENTICATED_ELECTRONIC_SIGNATURE"
        assert text(manifest, "signer[2]/on-behalf-of") == "SELF"
        assert text(manifest, "sender/organization-number") == "123456789"
        assert text(manifest, "title") == "Lease"
        assert text(manifest, "description") == "Please sign"
        assert text(manifest, "required-authentication") == "3"
        assert text(manifest, "identifier-in-signed-documents") == "NAME"
        documents = manifest.findall("documents/document", namespaces={None: NS})
        assert [dict(document.attrib) for document in documents] == [
            {"href": "0000_document.pdf", "mime": "application/pdf"},
            {"href": "0001_document.pdf", "mime": "text/plain"},
        ]
        assert [text(document, "title") for document in documents] == ["Contract", "Terms"]

    def test_an_empty_queue_name_is_the_default_queue(self) -> None:
        sender = Sender(organization_number="123456789", polling_queue="")
        assert text(valid(the_messages(a_job(), sender).request), "polling-queue") is None
        assert sender == Sender(organization_number="123456789")

    @given(
        st.text(
            st.characters(
                codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
            ),
            min_size=1,
            max_size=80,
        )
    )
    def test_every_text_that_xml_allows_is_rendered_unchanged(self, title: str) -> None:
        rendered = the_messages(a_job(title=title))
        assert text(valid(rendered.manifest), "title") == title
        assert rendered.faults == ()


class TestIncoming:
    def test_a_response_to_create_is_read(self) -> None:
        read = messages.job_response(
            response(
                "<reference>order-77</reference><signature-job-id>9223372036854775807</signature-job-id>"
                "<redirect-url>https://old.example</redirect-url>"
                "<status-url>\n  https://api.example/status\n </status-url>"
                '<signer href=" https://api.example/signers/1 ">'
                "<signer-identifier>customer-42</signer-identifier>"
                "<redirect-url><!-- here -->\n https://web.example#/redirect/x </redirect-url></signer>"
                f'<signer href="https://api.example/signers/2">'
                f"<personal-identification-number>{PIN}</personal-identification-number>"
                "<redirect-url>https://web.example#/redirect/y</redirect-url></signer>",
                "direct-signature-job-response",
            )
        )
        assert read.job_id == 2**63 - 1
        assert read.reference == "order-77"
        assert read.status_url == "https://api.example/status"
        assert read.signer(PIN).signer_url == "https://api.example/signers/2"
        assert read.signer("customer-42").redirect_url == "https://web.example#/redirect/x"
        assert read.signers[0].signer_url == "https://api.example/signers/1"

    def test_a_status_with_every_field_is_read(self) -> None:
        read = messages.job_status_response(
            response(
                "<reference>order-77</reference>"
                + STATUS
                + f'<status signer="{PIN}" since="2026-01-02T03:04:05.678+01:00">SIGNED</status>'
                '<status signer="c" since="2026-01-02T03:04:05">WAITING</status>'
                "<confirmation-url> https://api.example/complete </confirmation-url>"
                "<delete-documents-url>https://api.example/delete</delete-documents-url>"
                f'<xades-url signer="{PIN}">https://api.example/xades/1</xades-url>'
                "<pades-url>https://api.example/pades</pades-url>"
            )
        )
        assert read.status is DirectJobStatus.COMPLETED_SUCCESSFULLY
        assert read.confirmation_url == "https://api.example/complete"
        assert read.delete_documents_url == "https://api.example/delete"
        assert read.pades_url == "https://api.example/pades"
        signed, waiting = read.signatures
        assert signed.status is SignerStatus.SIGNED
        assert signed.xades_url == "https://api.example/xades/1"
        assert signed.since == datetime(
            2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=1))
        )
        assert waiting.xades_url is None
        assert waiting.since == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def test_unknown_elements_are_ignored_and_unknown_statuses_stay_text(self) -> None:
        read = messages.job_status_response(
            response(
                "<new-thing><deep/></new-thing><signature-job-id>7</signature-job-id>"
                "<signature-job-status> ARCHIVED </signature-job-status>"
                '<status signer="c" since="2026-01-02T03:04:05Z" mood="good"> On_Hold </status>'
                '<status signer="d" since="2026-01-02T03:04:05Z"> signed </status>'
            )
        )
        assert read.status == "ARCHIVED"
        assert read.signatures[0].status == "On_Hold"
        assert read.signatures[1].status is SignerStatus.SIGNED

    @pytest.mark.parametrize(
        ("status_signer", "xades_signer"), [("", ""), (' signer="c"', ""), ("", ' signer="c"')]
    )
    def test_a_single_xades_belongs_to_the_single_signer_even_without_a_name(
        self, status_signer: str, xades_signer: str
    ) -> None:
        read = messages.job_status_response(
            response(
                f"{STATUS}<status{status_signer}>SIGNED</status>"
                f"<xades-url{xades_signer}>https://api.example/xades/1</xades-url>"
            )
        )
        (signature,) = read.signatures
        assert signature.xades_url == "https://api.example/xades/1"
        assert signature.signer == ("c" if status_signer or xades_signer else None)

    def test_every_namespace_prefix_is_accepted(self) -> None:
        document = (
            f'<s:direct-signature-job-status-response xmlns:s="{NS}" xmlns="urn:other">'
            "<s:signature-job-id>7</s:signature-job-id>"
            "<s:signature-job-status>FAILED</s:signature-job-status>"
            "<s:status>REJECTED</s:status></s:direct-signature-job-status-response>"
        )
        read = messages.job_status_response(Secret(document.encode()))
        assert (read.job_id, read.status) == (7, DirectJobStatus.FAILED)

    @pytest.mark.parametrize(
        ("inner", "missing"),
        [
            ("<signature-job-status>FAILED</signature-job-status>", "signature-job-id"),
            (
                (
                    "<signature-job-id>seven</signature-job-id>"
                    "<signature-job-status>FAILED</signature-job-status>"
                ),
                "signature-job-id",
            ),
            ("<signature-job-id>7</signature-job-id>", "signature-job-status"),
            (STATUS, "status"),
        ],
    )
    def test_a_missing_required_field_is_named_as_in_the_response(
        self, inner: str, missing: str
    ) -> None:
        expected = f"direct-signature-job-status-response has no readable {missing}"
        with pytest.raises(UnexpectedResponseError, match=expected):
            messages.job_status_response(response(inner))

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (b"", "not a complete XML document"),
            (b"<html><body>Welcome", "not a complete XML document"),
            (b"\xff\xfe\x00", "not a complete XML document"),
            (b'<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>', "not a complete XML document"),
            (b"<!DOCTYPE html><html/>", "not a complete XML document"),
            (b"<html/>", "different document; expected direct-signature-job-status-response"),
            (
                f'<error xmlns="{NS}"><error-code>X</error-code></error>'.encode(),
                "different document",
            ),
            (
                response(f"{STATUS}<pades-url>a</pades-url><pades-url>b</pades-url>").reveal(),
                "more than one pades-url",
            ),
            (
                response(f"{STATUS}<signature-job-id>8</signature-job-id>").reveal(),
                "more than one signature-job-id",
            ),
        ],
    )
    def test_a_broken_or_hostile_response_is_an_error(self, document: bytes, message: str) -> None:
        with pytest.raises(UnexpectedResponseError, match=message) as caught:
            messages.job_status_response(Secret(document))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @pytest.mark.parametrize("kind", ["exit-urls", "nobody:knows", "a:b:c", ""])
    def test_the_attribute_xsi_type_is_ignored(self, kind: str) -> None:
        read = messages.job_status_response(
            response(
                f'{STATUS}<status xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
                f'xsi:type="{kind}">SIGNED</status>'
            )
        )
        assert read.signatures[0].status is SignerStatus.SIGNED

    def test_a_signer_with_two_redirect_urls_is_an_error(self) -> None:
        with pytest.raises(UnexpectedResponseError, match="more than one redirect-url"):
            messages.job_response(
                response(
                    "<signature-job-id>7</signature-job-id>"
                    '<signer href="https://a"><signer-identifier>c</signer-identifier>'
                    "<redirect-url>x</redirect-url><redirect-url>y</redirect-url></signer>",
                    "direct-signature-job-response",
                )
            )

    @pytest.mark.parametrize(
        "parts",
        [
            lambda count: "<new/>" * count,
            lambda count: f"<new {' '.join(f'a{i}={chr(34) * 2}' for i in range(count))}/>",
            lambda count: (
                f"<new {' '.join(f'xmlns:a{i}={chr(34)}u{chr(34)}' for i in range(count))}/>"
            ),
            lambda count: "<status>SIGNED</status>" * count,
        ],
        ids=["elements", "attributes", "namespaces", "statuses"],
    )
    def test_far_more_parts_than_the_schema_allows_are_an_error(
        self, parts: Callable[[int], str]
    ) -> None:
        """The parser would block the event loop for seconds."""
        signed = f"{STATUS}<status>SIGNED</status>"
        assert messages.job_status_response(response(signed + parts(450))).job_id == 7
        with pytest.raises(
            UnexpectedResponseError, match="has more than 500 elements, attributes"
        ) as caught:
            messages.job_status_response(response(signed + parts(550)))
        assert caught.value.job_id == 7

    def test_every_truncated_message_is_an_error(self) -> None:
        readers = {
            "direct-signature-job-response": messages.job_response,
            "direct-signer-response": messages.signer_response,
            "direct-signature-job-status-response": messages.job_status_response,
        }
        cuts = 0
        for path in sorted((Path(__file__).parents[1] / "messages").glob("*.xml")):
            whole = path.read_bytes().rstrip()
            reader = readers.get(etree.QName(etree.fromstring(whole)).localname)
            if reader is None:
                continue
            reader(Secret(whole))
            for end in range(len(whole) - 1):
                with pytest.raises(UnexpectedResponseError):
                    reader(Secret(whole[:end]))
                cuts += 1
        assert cuts > 1000

    def test_an_error_document_is_read_and_anything_else_gives_none(self) -> None:
        document = (
            f'<ns4:error xmlns:ns4="{NS}" xmlns:ns2="urn:x"><ns4:error-code> A_CODE </ns4:error-code>'
            "<ns4:error-message>Why</ns4:error-message><ns4:error-type>CLIENT</ns4:error-type></ns4:error>"
        )
        error = messages.service_error(Secret(document.encode()))
        assert error == messages.ServiceError(code="A_CODE", message="Why", type="CLIENT")
        for other in (b"", b"Internal error", b"<html/>", f'<error xmlns="{NS}"/>'.encode()):
            assert messages.service_error(Secret(other)) is None


# --- Times (xs:dateTime)


def since(attribute: str) -> datetime | None:
    """The time that is read from a signer's status with this attribute."""
    read = messages.job_status_response(response(f"{STATUS}<status{attribute}>SIGNED</status>"))
    return read.signatures[0].since


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            "2026-01-02T03:04:05.678+01:00",
            datetime(2026, 1, 2, 3, 4, 5, 678000, timezone(timedelta(hours=1))),
        ),
        (" 2026-01-02T00:00:00Z ", datetime(2026, 1, 2, tzinfo=UTC)),
        (
            "2026-01-02T03:04:05.12345678901Z",
            datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
        ),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        (
            "9999-12-31T23:59:59+14:00",
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=14))),
        ),
        # 24:00:00 is the first moment of the next day (XML Schema 1.0, part 2, 3.2.7).
        ("2026-01-01T24:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-12-31T24:00:00.000", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2028-02-28T24:00:00-05:00", datetime(2028, 2, 29, tzinfo=timezone(-timedelta(hours=5)))),
    ],
)
def test_a_time_is_read_as_an_aware_datetime(text, expected) -> None:
    moment = since(f' since="{text}"')
    assert moment == expected
    assert moment.utcoffset() == expected.utcoffset()


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "yesterday", "2026-01-01", "2026-01-01 00:00:00Z", "2026-1-1T00:00:00Z"),
        *("2026-01-01T00:00:00z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00Z"),
        *("2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-01T00:00:60Z"),
        *("2026-01-01T24:00:01Z", "2026-01-01T24:00:00.1Z", "2026-01-01T25:00:00Z"),
        *("2026-01-01T00:00:00+14:01", "2026-01-01T00:00:00+15:00"),
        *("20260-12-01T00:00:00Z", "0000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z"),
        *("9999-12-31T24:00:00Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"),
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_a_time_that_is_invalid_or_too_early_or_late_is_an_error(text) -> None:
    with pytest.raises(UnexpectedResponseError, match="has no readable since") as caught:
        since(f' since="{text}"')
    assert caught.value.job_id == 7


def test_a_missing_time_is_read_as_none() -> None:
    assert since("") is None


def faults(inner: str, root: str) -> tuple[xml.SchemaFault, ...]:
    return xml.faults(etree.fromstring(response(inner, root).reveal()))


class TestSchema:
    def test_a_fault_without_its_own_wording_is_reported_too(self) -> None:
        (fault,) = faults("<exit-urls/><unknown/>", "direct-signature-job-request")[:1]
        assert fault.rule
        strange = faults("<redirect-url>text</redirect-url>", "direct-signer-update-request")
        assert [fault.rule for fault in strange] == ["must conform to the schema"]

    def test_the_rule_of_an_enumeration_lists_its_members(self) -> None:
        """`validate` checks members before it renders, but a new schema may have fewer members."""
        urls = "".join(
            f"<{name}-url>u</{name}-url>" for name in ("completion", "rejection", "error")
        )
        (fault,) = faults(
            f"<exit-urls>{urls}</exit-urls>"
            "<status-retrieval-method>'s3cr3t' of the set {'x'}.</status-retrieval-method>",
            "direct-signature-job-request",
        )
        assert fault.rule == "one of WAIT_FOR_CALLBACK, POLLING"

    @pytest.mark.parametrize(
        ("value", "rules"),
        [
            ("", 1),
            *(
                (value, 0)
                for value in (" ", "\t\n", "\r", "\r\n", "<a>&'\"]]>", "\x85\u2028", "x" * 80)
            ),
            *((value, 1) for value in (" " * 81, "\r" * 81, "x" * 15_001)),
        ],
    )
    def test_the_tree_breaks_the_same_rules_as_the_document_that_is_sent(
        self, value: str, rules: int
    ) -> None:
        """The service parses the document, so the result must not depend on the parser."""
        job = a_job(
            title=value, documents=[Document(title=value, content=b"")], reference=value[:50]
        )
        rendered = the_messages(job, Sender(organization_number="123456789", polling_queue=value))
        parsed = [etree.fromstring(part.reveal()) for part in (rendered.request, rendered.manifest)]
        assert rendered.faults == (*xml.faults(parsed[0]), *xml.faults(parsed[1]))
        assert len(rendered.faults) == 2 * rules
        assert text(parsed[1], "title") == value

    def test_a_tree_with_faults_is_left_unchanged(self) -> None:
        root = etree.fromstring(
            response("<a>text</a>" * 3, "direct-signature-job-request").reveal()
        )
        before = etree.tostring(root)
        assert xml.faults(root)
        assert etree.tostring(root) == before

    def test_a_request_for_a_new_redirect_url_is_valid(self) -> None:
        valid(messages.signer_update_request())
