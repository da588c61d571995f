"""The sandbox's verification of a container's signature, compared with xmlsec1 on the same bundles."""

import re
import zipfile
from datetime import UTC, datetime

import bundles
import certificates
import pytest
from bundles import SENDER, Recipe
from verdicts import accepted_by_xmlsec1, judged, refusal_of, spoiled_signatures

VALID = {
    f"{layout}-{compression}-{chain}": Recipe(
        layout=layout,
        compression=zipfile.ZIP_STORED if compression == "stored" else zipfile.ZIP_DEFLATED,
        whole_chain=chain == "chain",
    )
    for layout in bundles.LAYOUTS
    for compression in ("stored", "deflated")
    for chain in ("chain", "leaf")
}
VALID["c14n11"] = Recipe(c14n=bundles.C14N_11)
VALID["utc"] = Recipe(signing_time="2026-03-05T12:29:58.123Z", layout="dotnet")


@pytest.mark.parametrize("recipe", VALID.values(), ids=VALID)
def test_a_bundle_that_xmlsec1_accepts_is_accepted(recipe, xmlsec1, tmp_path):
    assert accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) == len(recipe.files) + 2

    bundle = judged(recipe)

    assert bundle.organization_number == SENDER
    assert len(bundle.certificates) == (3 if recipe.whole_chain else 1)
    assert dict(bundle.documents) == {file.entry: file.content for file in recipe.files}


def test_a_key_info_with_only_the_leaf_needs_a_trusted_intermediate():
    recipe = Recipe(whole_chain=False)
    root_only = [certificates.root().certificate]
    assert "does not chain" in refusal_of(recipe, trusted=root_only).message
    assert judged(Recipe(), trusted=root_only).organization_number == SENDER


def test_a_trusted_intermediate_is_enough_without_the_root():
    assert judged(Recipe(whole_chain=False), trusted=[certificates.intermediate().certificate])


def changed_time(signatures):
    return signatures.replace(b"13:30:01.250", b"13:30:02.250")


def flipped(content, position=-10):
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


def expired():
    return certificates.issue(
        certificates.enterprise_name(),
        certificates.intermediate(),
        certificates.rsa_key(3),
        valid=(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)),
    )


def not_yet_valid():
    return certificates.issue(
        certificates.enterprise_name(),
        certificates.intermediate(),
        certificates.rsa_key(3),
        valid=(datetime(2059, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)),
    )


def foreign():
    """A chain with the same names, under a root that the service does not trust."""
    root = certificates.issue(
        certificates.root().certificate.subject, None, certificates.rsa_key(8), ca=True
    )
    middle = certificates.issue(
        certificates.intermediate().certificate.subject, root, certificates.rsa_key(9), ca=True
    )
    return certificates.issue(certificates.enterprise_name(), middle, certificates.rsa_key(3))


def below_an_enterprise():
    """A certificate whose issuer is not a CA."""
    return certificates.issue(
        certificates.enterprise_name(), certificates.enterprise(), certificates.rsa_key(4)
    )


def beyond_the_path_length():
    """A certificate from a CA below the intermediate, whose path length is 0."""
    sub = certificates.issue(
        certificates.name("Sub CA"), certificates.intermediate(), certificates.rsa_key(8), ca=True
    )
    return certificates.issue(certificates.enterprise_name(), sub, certificates.rsa_key(3))


def tampered():
    """Name, recipe, and the reason of the refusal. xmlsec1 refuses these bundles too."""
    files = bundles.two_files()
    manifest = bundles.manifest_xml(files)
    moved = manifest.replace(b"Leie av bolig", b"Leie av hytte")
    yield (
        "a document byte",
        Recipe(replaced={"0001_document.txt": flipped(files[1].content)}),
        "the digest of 0001_document.txt differs from the DigestValue of its Reference",
    )
    yield (
        "the manifest",
        Recipe(replaced={"manifest.xml": moved}),
        "the digest of manifest.xml differs",
    )
    yield (
        "a swapped certificate",
        Recipe(key_info_of=certificates.other_enterprise()),
        "SignatureValue does not verify",
    )
    yield (
        "the signing time",
        spoiled_signatures(changed_time),
        "the digest of #SignedProperties differs",
    )
    yield (
        "a removed reference",
        spoiled_signatures(
            lambda xml: re.sub(rb'<Reference Id="ID_0".*?</Reference>', b"", xml, count=1)
        ),
        "SignatureValue does not verify",
    )
    yield (
        "the signature value",
        spoiled_signatures(lambda xml: xml.replace(b"<SignatureValue>", b"<SignatureValue>AAAA")),
        "SignatureValue does not verify",
    )
    yield "an expired certificate", Recipe(holder=expired()), "has expired"
    yield "a certificate that is not valid yet", Recipe(holder=not_yet_valid()), "is not valid yet"
    yield "an untrusted root", Recipe(holder=foreign()), "does not chain to a CA"
    yield "an issuer that is not a CA", Recipe(holder=below_an_enterprise()), "does not chain"
    yield "a chain that is too long", Recipe(holder=beyond_the_path_length()), "does not chain"
    yield (
        "a reference to a file that is not in the container",
        Recipe(uris={"0000_document.pdf": "9999.pdf"}),
        "names 9999.pdf, which is not in the container",
    )


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [pytest.param(recipe, reason, id=name) for name, recipe, reason in tampered()],
)
def test_a_bundle_that_xmlsec1_refuses_is_refused(recipe, reason, xmlsec1, tmp_path):
    assert accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) == 0

    refusal = refusal_of(recipe)

    assert refusal.code == "ASICE_VALIDATION_FAILED"
    assert reason in refusal.message
