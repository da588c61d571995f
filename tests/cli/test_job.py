"""A job from options and from a YAML or JSON file."""

import json
from pathlib import Path

import pytest

from posten_signering import (
    AuthenticationLevel,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    Sender,
    SignatureType,
    StatusRetrievalMethod,
)
from posten_signering._cli.job import JobOptions, job_of
from posten_signering.errors import ConfigurationError

OCTAL = "01234567012"  # YAML itself would read an octal number
DONE = "https://shop.example/done"

FILE = """
title: Lease
description: Please read it all.
reference: order-77
documents:
  - file: contract.pdf
    title: Contract
  - terms.txt
  - {file: notes, type: text}
signers:
  - personal_identification_number: 01234567012
    signature_type: authenticated-signature
    on_behalf_of: OTHER
  - custom_identifier: customer-42
exit_urls:
  completion: https://shop.example/done
  rejection: https://shop.example/rejected
  error: https://shop.example/error
sender:
  organization_number: 123456789
  polling_queue: shop
authentication_level: 3
identifier_in_signed_documents: date_of_birth_and_name
status_retrieval_method: polling
"""

MINIMAL = "title: Lease\ndocuments: [a.pdf]\nsigners: [{custom_identifier: x}]\n"


def expected(folder):
    return DirectJob(
        title="Lease",
        description="Please read it all.",
        reference="order-77",
        documents=[
            Document(title="Contract", content=folder / "contract.pdf"),
            Document(title="terms", content=folder / "terms.txt", type=DocumentType.TEXT),
            Document(title="notes", content=folder / "notes", type=DocumentType.TEXT),
        ],
        signers=[
            DirectSigner(
                personal_identification_number=OCTAL,
                signature_type=SignatureType.AUTHENTICATED_SIGNATURE,
                on_behalf_of=OnBehalfOf.OTHER,
            ),
            DirectSigner(custom_identifier="customer-42"),
        ],
        exit_urls=ExitUrls(
            completion=DONE,
            rejection="https://shop.example/rejected",
            error="https://shop.example/error",
        ),
        sender=Sender(organization_number="123456789", polling_queue="shop"),
        authentication_level=AuthenticationLevel.THREE,
        identifier_in_signed_documents=IdentifierInSignedDocuments.DATE_OF_BIRTH_AND_NAME,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )


def from_file(path, text, *documents, encoding="utf-8", **options):
    path.write_text(text, encoding=encoding)
    return job_of(documents, JobOptions(job=path, **options))


def refusal(path, text, **options):
    with pytest.raises(ConfigurationError) as raised:
        from_file(path, text, **options)
    assert raised.value.__cause__ is None
    return str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_yaml_file_describes_a_whole_job(tmp_path, encoding):
    job = from_file(tmp_path / "job.yaml", FILE, encoding=encoding)
    assert job == expected(tmp_path)


def test_a_json_file_describes_the_same_job(tmp_path):
    content = {
        "title": "Lease",
        "description": "Please read it all.",
        "reference": "order-77",
        "documents": [
            {"file": "contract.pdf", "title": "Contract", "type": None},
            "terms.txt",
            {"file": "notes", "type": "TEXT"},
        ],
        "signers": [
            {
                "personal_identification_number": OCTAL,
                "signature_type": "AUTHENTICATED_ELECTRONIC_SIGNATURE",
                "on_behalf_of": "other",
            },
            {"custom_identifier": "customer-42"},
        ],
        "exit_urls": {
            "completion": DONE,
            "rejection": "https://shop.example/rejected",
            "error": "https://shop.example/error",
        },
        "sender": {"organization_number": 123456789, "polling_queue": "shop"},
        "authentication_level": 3,
        "identifier_in_signed_documents": "DATE_OF_BIRTH_AND_NAME",
        "status_retrieval_method": "POLLING",
    }
    text = json.dumps(content, indent="\t")
    assert from_file(tmp_path / "job.json", text) == expected(tmp_path)


def test_options_override_the_file(tmp_path):
    job = from_file(
        tmp_path / "job.yaml",
        FILE,
        Path("other.pdf"),
        document_title=("Other",),
        title="New title",
        description="New text",
        reference="order-78",
        signer=("customer-1",),
        signer_number=("17885599999",),
        rejection_url="https://shop.example/new",
        signature_type=SignatureType.ADVANCED_SIGNATURE,
        on_behalf_of=OnBehalfOf.SELF,
        authentication_level="4",
        identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
        status_retrieval_method=StatusRetrievalMethod.WAIT_FOR_CALLBACK,
    )
    for_all = {
        "signature_type": SignatureType.ADVANCED_SIGNATURE,
        "on_behalf_of": OnBehalfOf.SELF,
    }
    assert job == DirectJob(
        title="New title",
        description="New text",
        reference="order-78",
        documents=[Document(title="Other", content=Path("other.pdf"))],
        signers=[
            DirectSigner(custom_identifier="customer-1", **for_all),
            DirectSigner(personal_identification_number="17885599999", **for_all),
        ],
        exit_urls=ExitUrls(
            completion=DONE,
            rejection="https://shop.example/new",
            error="https://shop.example/error",
        ),
        sender=Sender(organization_number="123456789", polling_queue="shop"),
        authentication_level=AuthenticationLevel.FOUR,
        identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
        status_retrieval_method=StatusRetrievalMethod.WAIT_FOR_CALLBACK,
    )


def test_one_exit_url_is_used_for_all_outcomes(tmp_path):
    assert (
        from_file(tmp_path / "a.yaml", f"{MINIMAL}exit_urls: {DONE}\n").exit_urls
        == from_file(tmp_path / "b.yaml", MINIMAL, exit_url=DONE).exit_urls
        == ExitUrls(completion=DONE, rejection=DONE, error=DONE)
    )


def test_a_title_that_is_not_given_is_the_name_of_the_file():
    documents = [Path("first.pdf"), Path(f"{'x' * 90}.TXT")]
    options = JobOptions(title="t", document_title=("One",), signer=("s",), exit_url=DONE)
    job = job_of(documents, options)
    assert [document.title for document in job.documents] == ["One", "x" * 80]
    assert [document.type for document in job.documents] == [DocumentType.PDF, DocumentType.TEXT]


def test_identity_numbers_can_be_read_from_a_file(tmp_path):
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("17885599999\n\n  01234567012 \n")
    options = JobOptions(title="t", signer_numbers_file=numbers, exit_url=DONE)
    job = job_of([Path("a.pdf")], options)
    assert [signer.personal_identification_number for signer in job.signers] == [
        "17885599999",
        OCTAL,
    ]
    numbers.write_text("\n")
    with pytest.raises(ConfigurationError, match=r"--signer-numbers-file=.*: the file is empty"):
        job_of([Path("a.pdf")], options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            JobOptions(exit_url=DONE),
            r"no title \(--title\), no documents \(the paths of files\), no signers \(--signer\)\.",
        ),
        (
            JobOptions(title="t", signer=("s",), error_url=DONE),
            "no exit URL for: completion, rejection. .* --completion-url, --rejection-url",
        ),
        (JobOptions(document_title=("a", "b")), r"more document titles \(2\) than documents \(0\)"),
    ],
)
def test_a_missing_part_is_named_with_its_option(options, message):
    with pytest.raises(ConfigurationError, match=message):
        job_of([], options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", "the job: unknown key 'titel'. The nearest known key is 'title'."),
        ("1: x", "the job: unknown key '1'. The nearest known key is "),
        ("- x", "the job: must have keys and values. Its keys are title, description, "),
        ("title: [x]", "title: must be text."),
        ("documents: a.pdf", "documents: must be a list."),
        ("documents: [{title: x}]", "documents[0]: the key `file` is missing."),
        ("documents: [a.pdf, {file: x, type: doc}]", "documents[1].type: must be one of: pdf, text."),
        ("signers: [customer-42]", "signers[0]: must have keys and values. Its keys are personal_"),
        (
            "signers: [{custom_identifer: x}]",
            "signers[0]: unknown key 'custom_identifer'. The nearest known key is 'custom_identifier'.",
        ),
        (
            "signers: [{on_behalf_of: me}]",
            "signers[0].on_behalf_of: must be one of: self, other.",
        ),
        ("exit_urls: {complete: x}", "exit_urls: unknown key 'complete'."),
        ("sender: {polling_queue: x}", "sender: the key `organization_number` is missing."),
        ("authentication_level: 5", "authentication_level: must be one of: 3, 4."),
        ("title: a\ntitle: b", "the key 'title' occurs twice in the same place."),
        ("17885599999: a\n17885599999: b", "the key occurs twice in the same place."),
        ("17885599999: a", "the job: unknown key '(hidden)'."),
        ('{"title": "a", "title": "b"}', "the key 'title' occurs twice in the same place."),
        ("title: 'number-canary", "not valid YAML: see line 1, column 22."),
        ("title: number-canary\x07", "not valid YAML: it has a character that YAML does not allow."),
        ('{"title": number-canary}', "not valid JSON: see line 1, column 11."),
    ],
)  # fmt: skip
def test_an_error_in_a_file_names_the_file_and_the_place(tmp_path, text, message):
    path = tmp_path / "job.yaml"
    refused = refusal(path, text)
    assert refused.startswith(f"{path}: {message}")
    assert "canary" not in refused


def test_a_file_that_cannot_be_read_is_an_error_that_names_the_option(tmp_path):
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigurationError, match=r"--job=.*missing.yaml: No such file"):
        job_of([], JobOptions(job=missing))
    assert "not text in UTF-8" in refusal(tmp_path / "job.yaml", "title: å", encoding="latin-1")
