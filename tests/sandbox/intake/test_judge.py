"""How the sandbox checks the whole body of a create: messages, documents, sender."""

import bundles
import certificates
import pytest
from bundles import NOW, PERSON, SENDER, File, Recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from posten_signering.sandbox._intake.judge import judge
from posten_signering.sandbox._intake.messages import check_signer_update_request
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal

SIGNER = (
    f"<signer><personal-identification-number>{PERSON}</personal-identification-number></signer>"
)


def judged(recipe=None, *, request=None, organization_number=SENDER, content=None):
    recipe = recipe or Recipe()
    content = content or bundles.body(request or bundles.request_xml(), bundles.container(recipe))
    return judge(
        content_type=bundles.CONTENT_TYPE,
        body=content,
        organization_number=organization_number,
        trusted=[certificates.root().certificate],
        now=lambda: NOW,
    )


def refusal_of(*arguments, code="ASICE_VALIDATION_FAILED", **named):
    with pytest.raises(Refusal) as caught:
        judged(*arguments, **named)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert PERSON not in caught.value.message
    return caught.value.message


def parts(part, count=500):
    """Numbered parts of an XML document."""
    return "".join(part.format(number) for number in range(count)).encode()


def with_manifest(manifest, files=None):
    return Recipe(manifest=manifest, files=files or bundles.two_files())


def test_the_bundle_has_everything_that_was_sent():
    recipe = Recipe()
    bundle = judged(recipe)
    assert bundle.request.reference == "ordre-77"
    assert bundle.request.completion_url == "https://example.com/done?a=1&b=2"
    assert bundle.request.rejection_url == "https://example.com/rejected"
    assert bundle.request.status_retrieval_method == "WAIT_FOR_CALLBACK"
    assert bundle.request.polling_queue is None
    person, customer = bundle.manifest.signers
    assert (person.personal_identification_number, person.signer_identifier) == (PERSON, None)
    assert (customer.personal_identification_number, customer.signer_identifier) == (
        None,
        "kunde-42",
    )
    assert (person.identifier, customer.identifier) == (PERSON, "kunde-42")
    assert (person.signature_type, person.on_behalf_of) == ("ADVANCED_ELECTRONIC_SIGNATURE", "SELF")
    assert (customer.signature_type, customer.on_behalf_of) == (None, "OTHER")
    assert (bundle.manifest.title, bundle.manifest.description) == ("Leie av bolig", "Vær så god")
    assert [document.title for document in bundle.manifest.documents] == ["Leiekontrakt", "Vilkår"]
    assert bundle.manifest_xml == dict(bundles.entries(recipe))["manifest.xml"]
    assert bundle.request_xml == bundles.request_xml()
    assert bundle.container.startswith(b"PK")
    assert list(bundle.documents) == ["0000_document.pdf", "0001_document.txt"]
    assert bundle.signing_time.isoformat() == "2026-03-05T13:30:01.250000+01:00"


def test_the_repr_of_a_bundle_shows_no_contents():
    shown = repr(judged())
    for secret in (
        PERSON,
        "kunde-42",
        "Leie av bolig",
        "Vær så god",
        "example.com",
        "%PDF",
        "<signer",
    ):
        assert secret not in shown


def test_optional_parts_of_the_request_are_read():
    extra = (
        "<status-retrieval-method>POLLING</status-retrieval-method><polling-queue>k</polling-queue>"
    )
    request = judged(request=bundles.request_xml(extra=extra)).request
    assert (request.status_retrieval_method, request.polling_queue) == ("POLLING", "k")


def test_an_empty_polling_queue_is_the_default_queue():
    extra = "<polling-queue></polling-queue>"
    assert judged(request=bundles.request_xml(extra=extra)).request.polling_queue is None


def test_the_deprecated_manifest_of_one_document_is_read():
    file = bundles.two_files()[0]
    bundle = judged(with_manifest(bundles.legacy_manifest_xml(file), (file,)))
    assert (bundle.manifest.title, bundle.manifest.description) == ("Leiekontrakt", "Gammel form")
    assert bundle.manifest.required_authentication == "4"
    assert list(bundle.documents.values()) == [file.content]


@pytest.mark.parametrize("container_first", [False, True])
@pytest.mark.parametrize("quirks", ["java", "dotnet", "php"])
@pytest.mark.parametrize("layout", bundles.LAYOUTS)
def test_bundles_of_the_official_clients_are_accepted(container_first, quirks, layout):
    content = bundles.body_of(
        Recipe(layout=layout, whole_chain=True), container_first=container_first, quirks=quirks
    )
    assert judged(content=content).organization_number == SENDER


def test_a_bundle_has_the_organisation_number_of_the_broker_that_signed_it():
    assert judged(Recipe(holder=certificates.other_enterprise())).organization_number == "111222333"


@pytest.mark.parametrize(
    ("subject", "number"),
    [
        (certificates.name("x", identifier="999888777"), "999888777"),
        (certificates.name("x", identifier="NTRNO-999888777", serial="111222333"), "999888777"),
        (certificates.name("x", identifier="VATNO-9", serial="111222333"), "111222333"),
        (certificates.name("123456789 Bedrift AS"), "123456789"),
        (certificates.name("1234567890 Bedrift AS"), None),
        (certificates.name("Bedrift AS", organization="123456789"), None),
        (certificates.name("x", identifier="XNTRNO-999888777"), None),
        (certificates.name("x", identifier="NTRNO-9998887771"), None),
    ],
)
def test_the_organisation_number_is_read_by_oid(subject, number):
    holder = certificates.issue(subject, certificates.intermediate(), certificates.rsa_key(3))
    assert judged(Recipe(holder=holder)).organization_number == number


def test_a_sender_that_differs_from_the_sender_in_the_url_is_refused():
    message = refusal_of(organization_number="111222333")
    assert "names the sender 999888777, but the URL of the request names 111222333" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.replace(b"ordre-77", b"x" * 51), "reference is longer than its type allows"),
        (
            lambda x: x.replace(b"error-url", b"mistake-url"),
            "is not expected here (expected: error-url)",
        ),
        (
            lambda x: x.replace(b"direct-signature-job-request", b"other"),
            "the root element other",
        ),
        (lambda x: x.replace(b"signering.posten.no", b"example.com"), "the root element"),
        (lambda x: x[:-40], "is not well-formed XML: line"),
        (lambda x: x.replace(b"<direct", b"<!DOCTYPE x []><direct", 1), "DOCTYPE"),
        (
            lambda x: x.replace(
                b"<direct", b'<!DOCTYPE x [<!ENTITY y SYSTEM "/etc/passwd">]><direct', 1
            ).replace(b"ordre-77", b"&y;"),
            "DOCTYPE",
        ),
        (lambda x: x.replace(b"ordre-77", b"<?php ?>ordre-77"), "processing instruction"),
        (lambda x: x + b" " * 128 * 1024, "larger than"),
        (lambda x: x.replace(b"UTF-8", b"utf-7"), "not well-formed"),
        (lambda x: x.replace(b"UTF-8", b"nonsense"), "not well-formed XML"),
        (lambda x: x.replace(b"ordre-77", b"<a/>" * 500), "more than 500 elements, attributes"),
        (
            lambda x: x.replace(b"<exit-urls", b"<exit-urls" + parts(' a{0}="b"')),
            "more than 500 elements, attributes",
        ),
        (
            lambda x: x.replace(b"<exit-urls", b"<exit-urls" + parts(' xmlns:a{0}="b"')),
            "attributes and namespace declarations",
        ),
        (lambda _: b" ", "not well-formed"),
    ],
)
def test_a_request_that_breaks_the_schema_is_refused(change, reason):
    request = change(bundles.request_xml())
    assert reason in refusal_of(request=request, code="SCHEMA_VALIDATION_ERROR")


def test_nested_entities_are_refused():
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "lol">{levels}]><x>&e11;</x>'.encode()
    refusal_of(request=bomb, code="SCHEMA_VALIDATION_ERROR")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused_before_its_declarations_are_read(encoding):
    """lxml needs minutes for a hundred thousand declarations of attributes."""
    declarations = parts('a{0} CDATA "b" ', 3_000).decode()
    document = f"<!-- a --><!DOCTYPE x [<!ATTLIST x {declarations}>"  # without an end
    message = refusal_of(request=document.encode(encoding), code="SCHEMA_VALIDATION_ERROR")
    assert "DOCTYPE" in message


def test_a_refusal_names_at_most_twenty_violations():
    document = b"<document/>" * 40
    manifest = bundles.manifest_xml(bundles.two_files())
    manifest = manifest.replace(b"<documents>", b"<documents>" + document)
    message = refusal_of(with_manifest(manifest), code="SCHEMA_VALIDATION_ERROR")
    assert message.count(";") == 19


def test_a_refusal_lists_the_path_of_every_violation_without_values():
    wrong = PERSON + "5"
    manifest = bundles.manifest_xml(
        bundles.two_files(),
        sender="99988877",
        signers=SIGNER + SIGNER.replace(PERSON, wrong) + "<signer/>",
    ).replace(b' href="0000_document.pdf"', b' href="abc"')
    message = refusal_of(with_manifest(manifest), code="SCHEMA_VALIDATION_ERROR")
    assert wrong not in message
    assert (
        "signer[1]/personal-identification-number does not match the pattern of its type" in message
    )
    assert (
        "signer[2] has a missing child element"
        " (expected: personal-identification-number, signer-identifier)" in message
    )
    assert "sender/organization-number does not match" in message
    assert "documents/document[0] (attribute href) is shorter than its type allows" in message
    assert "abc" not in message
    assert "99988877" not in message


def test_a_refusal_lists_the_paths_of_messages_with_namespace_prefixes():
    file = bundles.two_files()[0]
    manifest = bundles.legacy_manifest_xml(file).replace(PERSON.encode(), b"1")
    message = refusal_of(with_manifest(manifest, (file,)), code="SCHEMA_VALIDATION_ERROR")
    assert "signer/personal-identification-number does not match" in message


@pytest.mark.parametrize(
    "signers",
    [
        SIGNER * 2,
        SIGNER + f"<signer><signer-identifier>{PERSON}</signer-identifier></signer>",
    ],
)
def test_two_signers_with_the_same_identifier_are_refused(signers):
    manifest = bundles.manifest_xml(bundles.two_files(), signers=signers)
    assert "signer[0] and signer[1] have the same identifier" in refusal_of(with_manifest(manifest))


def test_the_manifest_must_name_every_document_of_the_container_once():
    first, second = bundles.two_files()
    extra = refusal_of(Recipe(extra_entries=(("extra.pdf", b"%PDF-1.4"),)))
    assert "The container has extra.pdf, which manifest.xml does not name" in extra
    missing = refusal_of(with_manifest(bundles.manifest_xml((first, second)), (first,)))
    assert "names the document 0001_document.txt, which is not in the container" in missing
    twice = refusal_of(with_manifest(bundles.manifest_xml((first, first)), (first,)))
    assert "names the document 0000_document.pdf twice" in twice


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (File("aaaa.txt", "æ".encode("latin-1"), "text/plain"), "is not text in UTF-8"),
        (File("aaaa.png", b"png", "image/png"), "has the media type image/png"),
        (File("aaaa.pdf", b"hello"), "is not a PDF of version 1.1 to 1.7"),
        (File("aaaa.pdf", bundles.pdf(version="2.0")), "is not a PDF of version 1.1 to 1.7"),
        (File("aaaa.pdf", bundles.pdf(version="1.0")), "is not a PDF of version 1.1 to 1.7"),
        (File("aaaa.pdf", b"x" * 1020 + bundles.pdf()), "is not a PDF of version 1.1 to 1.7"),
    ],
)
def test_a_document_that_does_not_match_its_media_type_is_refused(file, reason):
    assert f"The document {file.entry} {reason}" in refusal_of(Recipe(files=(file,)))


def test_the_header_of_a_pdf_may_begin_anywhere_in_the_first_1024_bytes():
    late = File("aaaa.pdf", b"x" * 1019 + bundles.pdf())
    assert judged(Recipe(files=(late,))).documents["aaaa.pdf"] == late.content


def test_an_identity_number_in_a_file_name_is_masked_in_the_refusal():
    message = refusal_of(Recipe(files=(File(f"{PERSON}.png", b"png", "image/png"),)))
    assert "The document ***********.png has the media type" in message


def test_a_request_for_a_new_redirect_url_is_validated_against_the_schema():
    element = "direct-signer-update-request"
    valid = f'<{element} xmlns="{bundles.SERVICE}"><redirect-url/></{element}>'
    check_signer_update_request(Octets(valid.encode()))
    with pytest.raises(Refusal, match=r"missing child element \(expected: redirect-url\)"):
        check_signer_update_request(Octets(valid.replace("<redirect-url/>", "").encode()))


@settings(max_examples=60)
@given(st.data())
def test_a_body_with_a_changed_byte_is_refused_or_gives_the_same_bundle(data):
    """No other exception is raised, whichever byte changes."""
    content = bytearray(bundles.body_of(Recipe()))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        bundle = judged(content=bytes(content))
    except Refusal:
        return
    assert list(bundle.documents.values()) == [file.content for file in bundles.two_files()]
    assert bundle.manifest_xml == bundles.manifest_xml(bundles.two_files())
