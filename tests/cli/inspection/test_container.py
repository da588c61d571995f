"""`inspect` of containers: it agrees with xmlsec1 about every signature, and finds what breaks the profile."""

import base64
import hashlib
import io
import re
import tracemalloc
import zipfile

import bundles
import certificates
import pytest
from bundles import Recipe
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree
from verdicts import accepted_by_xmlsec1, spoiled_signatures
from verify_bundle import NAMESPACES

from posten_signering._cli.inspection.container import inspect_container
from posten_signering.errors import ConfigurationError

FILES = bundles.two_files()
SIGNATURES = "META-INF/signatures.xml"


def rows(report) -> dict[str, list]:
    """The rows of every section, by name."""
    found = {}
    for section in report.sections:
        for row in section.rows:
            found.setdefault(row.name, []).append(row)
    return found


def problems(report) -> list[str]:
    return [
        f"{row.name}: {row.value}"
        for section in report.sections
        for row in section.rows
        if row.good is False
    ]


def replaced(pattern: bytes, replacement: bytes):
    """A change of a signature file."""
    return lambda content: re.sub(pattern, replacement, content, count=1, flags=re.DOTALL)


def signed_again(pattern: bytes, replacement: bytes, digest=hashes.SHA256()):  # noqa: B008 - it never changes
    """A change of a signature file that the holder of the key has signed."""

    def change(content: bytes) -> bytes:
        content = replaced(pattern, replacement)(content)
        info = etree.fromstring(content).find(".//ds:SignedInfo", NAMESPACES)
        alone = etree.fromstring(etree.tostring(info, with_tail=False))
        canonical = etree.tostring(alone, method="c14n")
        value = certificates.enterprise().key.sign(canonical, padding.PKCS1v15(), digest)
        return replaced(b"<SignatureValue>[^<]*", b"<SignatureValue>" + base64.b64encode(value))(
            content
        )

    return change


def without_signing_certificate(properties: str) -> str:
    return re.sub("<SigningCertificate>.*</SigningCertificate>", "", properties)


def with_a_second_signing_certificate(properties: str) -> str:
    """It names a different certificate than the first."""
    first = re.search("<SigningCertificate>.*</SigningCertificate>", properties)[0]
    second = first.replace("SigningCertificate", "SigningCertificateV2")
    return properties.replace(
        first, first + re.sub("DigestValue>....", "DigestValue>AAAA", second, count=1)
    )


EXCLUSIVE = b"http://www.w3.org/2001/10/xml-exc-c14n#"
SHA1_OF_PDF = base64.b64encode(hashlib.sha1(FILES[0].content).digest())
PROPERTIES_FILE = b"a file with the Id of the properties as its name"
SHA256_OF_PROPERTIES_FILE = base64.b64encode(hashlib.sha256(PROPERTIES_FILE).digest())
UNKNOWN = "signature value: not checked: it uses an algorithm that this command does not know"
INCOMPLETE = "signature value: the signature is not complete"


def signed_over_a_wrong_canonical_form(content: bytes) -> bytes:
    """Signs what lxml writes for SignedInfo in its place in the document, with `xmlns=""` in it."""
    info = etree.fromstring(content).find(".//ds:SignedInfo", NAMESPACES)
    wrong = etree.tostring(info, method="c14n")
    assert b'xmlns=""' in wrong
    value = certificates.enterprise().key.sign(wrong, padding.PKCS1v15(), hashes.SHA256())
    return re.sub(
        b"<SignatureValue>.*?</SignatureValue>",
        b"<SignatureValue>" + base64.b64encode(value) + b"</SignatureValue>",
        content,
    )


VALID = {
    **{layout: Recipe(layout=layout) for layout in bundles.LAYOUTS},
    "leaf": Recipe(whole_chain=False),
    "C14N 1.1": Recipe(c14n=bundles.C14N_11),
    "encoded name": Recipe(uris={"0000_document.pdf": "0000%5Fdocument.pdf"}),
}
MANIPULATED = {
    "document": Recipe(replaced={"0001_document.txt": b"Other text"}),
    "manifest": Recipe(
        replaced={"manifest.xml": bundles.manifest_xml(FILES).replace(b"bolig", b"hytte")}
    ),
    "certificate": Recipe(key_info_of=certificates.other_enterprise()),
    "signing time": spoiled_signatures(replaced(b"13:30:01", b"13:30:02")),
    "digest": spoiled_signatures(replaced(b"<DigestValue>....", b"<DigestValue>AAAA")),
    "signature value": spoiled_signatures(
        replaced(b"<SignatureValue>....", b"<SignatureValue>AAAA")
    ),
    "missing file": spoiled_signatures(replaced(b'URI="0000', b'URI="0009')),
    "missing element": spoiled_signatures(replaced(b'URI="#Signed', b'URI="#Other')),
    "wrong canonical form": spoiled_signatures(signed_over_a_wrong_canonical_form),
    "two digests": spoiled_signatures(
        signed_again(b"(<DigestValue>[^<]*</DigestValue>)", rb"\1\1")
    ),
    "unknown signature method": spoiled_signatures(
        signed_again(b'http[^"]*#rsa-sha256', b"urn:x#rsa-sha256")
    ),
}


@pytest.mark.parametrize(
    "recipe", [*VALID.values(), *MANIPULATED.values()], ids=[*VALID, *MANIPULATED]
)
def test_inspect_agrees_with_xmlsec1(recipe, xmlsec1, tmp_path):
    report = inspect_container(bundles.container(recipe))
    by_xmlsec1 = accepted_by_xmlsec1(xmlsec1, recipe, tmp_path) > 0
    if "%5F" in str(recipe.uris):  # xmlsec1 takes the name as it is written, the service decodes it
        by_xmlsec1 = True
    assert report.good is by_xmlsec1
    assert report.good is (recipe in VALID.values())
    assert bool(problems(report)) is not report.good


def signatures_of(recipe: Recipe) -> bytes:
    return dict(bundles.entries(recipe))[SIGNATURES]


TWO_SIGNATURES = re.sub(
    b"(<Signature .*</Signature>)", rb"\1\1", signatures_of(Recipe()), flags=re.DOTALL
)


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (Recipe(properties_reference=False), "signed properties: not covered"),
        (
            spoiled_signatures(replaced(b"<Object>", b'<Object Id="SignedProperties">')),
            "covers #SignedProperties: no element, or more than one, has this Id",
        ),
        (Recipe(properties_type="urn:other"), "signed properties: not covered"),
        (
            Recipe(unreferenced="0001_document.txt"),
            "0001_document.txt: 27 bytes, not covered by the signature",
        ),
        (
            Recipe(cert_digest_of=certificates.other_enterprise()),
            "certificate digest: of a different certificate, or by an unknown algorithm",
        ),
        (
            Recipe(extra_entries=(("extra.txt", b"extra"),)),
            "extra.txt: 5 bytes, not covered by the signature",
        ),
        (
            Recipe(extra_entries=(("extra.txt", b"extra"),)),
            "document extra.txt: not named in the manifest",
        ),
        (
            Recipe(extra_entries=(("META-INF/manifest.xml", b"<a/>"),)),
            "META-INF/manifest.xml: 4 bytes, not part of a container of the service",
        ),
        (
            Recipe(extra_entries=(("../../a", b"a"),)),
            "../../a: the name leads out of the container",
        ),
        (
            Recipe(extra_entries=(("C:\\..\\a", b"a"),)),
            "C:\\..\\a: the name leads out of the container",
        ),
        (Recipe(extra_entries=(("/a", b"a"),)), "/a: the name leads out of the container"),
        (Recipe(signing_time="2010-01-01T00:00:00Z"), "certificate at that time: not valid"),
        (
            Recipe(signing_time="today"),
            "certificate at that time: unknown, because the time can't be read",
        ),
        (Recipe(signatures=TWO_SIGNATURES), "signatures: 2, but there must be one"),
        (Recipe(signatures=b"<a/>"), "signatures: 0, but there must be one"),
        (
            spoiled_signatures(replaced(b"<SignedInfo>.*</SignedInfo>", b"")),
            INCOMPLETE,
        ),
        (
            spoiled_signatures(replaced(b"<SignatureValue>.*</SignatureValue>", b"")),
            INCOMPLETE,
        ),
        (
            spoiled_signatures(replaced(b"<KeyInfo>.*</KeyInfo>", b"")),
            "signature value: not checked: the signature contains no certificate that can be read",
        ),
        (
            spoiled_signatures(replaced(b"<X509Certificate>....", b"<X509Certificate>AAAA")),
            "certificate digest: of a different certificate, or by an unknown algorithm",
        ),
        # xmlsec1 accepts these.
        (
            spoiled_signatures(
                signed_again(
                    b"2001/04/xmldsig-more#rsa-sha256", b"2000/09/xmldsig#rsa-sha1", hashes.SHA1()
                )
            ),
            UNKNOWN,
        ),
        (
            spoiled_signatures(
                signed_again(
                    b'2001/04/xmlenc#sha256("></DigestMethod><DigestValue>)[^<]*',
                    rb"2000/09/xmldsig#sha1\1" + SHA1_OF_PDF,
                )
            ),
            "0000_document.pdf: 580 bytes, not checked: its digest uses an algorithm that this command does not know",
        ),
        (
            spoiled_signatures(
                signed_again(
                    b'(Type=.*<Transform Algorithm=")[^"]*">',
                    rb"\1" + EXCLUSIVE + b'"><a xmlns="' + EXCLUSIVE + b'" PrefixList="x"/>',
                )
            ),
            "covers #SignedProperties: not checked, because it uses a transform that this command does not know",
        ),
        (
            spoiled_signatures(
                signed_again(
                    b'#(SignedProperties">)<Transforms>.*</Transforms>(.*<DigestValue>)[^<]*',
                    rb"\1\2" + SHA256_OF_PROPERTIES_FILE,
                )
            ).with_(extra_entries=(("SignedProperties", PROPERTIES_FILE),)),
            "signed properties: not covered",
        ),
        (
            Recipe(properties=without_signing_certificate),
            "certificate digest: missing",
        ),
        (
            Recipe(properties=with_a_second_signing_certificate),
            "certificate digest: of a different certificate, or by an unknown algorithm",
        ),
        (
            spoiled_signatures(replaced(b"<Object>.*</Object>", b"")),
            "signed properties: missing",
        ),
        (Recipe(extra_entries=(("a/", b"a"),)), "a/: 1 bytes, not covered by the signature"),
        (
            spoiled_signatures(replaced(b"(<SignedInfo>.*</SignedInfo>)", rb"\1\1")),
            INCOMPLETE,
        ),
        (
            spoiled_signatures(replaced(b"<DigestValue>[^<]*<", b"<DigestValue>?<")),
            "0000_document.pdf: 580 bytes, its digest can't be read",
        ),
        (
            spoiled_signatures(replaced(b"xmlenc#sha256", b"xmlenc#md5")),
            "0000_document.pdf: 580 bytes, not checked: its digest uses an algorithm that this command does not know",
        ),
        (
            Recipe(
                file_transform='<Transforms><Transform Algorithm="urn:x"></Transform></Transforms>'
            ),
            "manifest.xml: 843 bytes, not checked, because it uses a transform that this command does not know",
        ),
    ],
)
def test_what_breaks_the_profile_is_a_problem(recipe, problem):
    report = inspect_container(bundles.container(recipe))
    found = problems(report)
    assert any(
        re.fullmatch(
            re.sub(r"\d+ bytes", r"\\d+ bytes", re.escape(problem).replace(r"\ ", " ")), line
        )
        for line in found
    ), found


def test_a_file_with_a_right_and_a_wrong_digest_is_a_problem():
    second = re.search(
        b'<Reference Id="ID_0".*?</Reference>', signatures_of(Recipe()), flags=re.DOTALL
    )[0]
    wrong = re.sub(b"<DigestValue>....", b"<DigestValue>AAAA", second)
    recipe = spoiled_signatures(lambda content: content.replace(second, wrong + second))
    found = [
        row.good for row in rows(inspect_container(bundles.container(recipe)))["0000_document.pdf"]
    ]
    assert found == [False, True]


def test_the_report_has_the_manifest_without_identity_numbers():
    report = inspect_container(bundles.container(Recipe()))
    found = rows(report)
    assert found["title"][0].value == "Leie av bolig"
    assert found["sender"][0].value == bundles.SENDER
    assert found["signers"][0].value == "2"
    assert found["signer 1"][0].value == (
        "by identity number ***********, ADVANCED_ELECTRONIC_SIGNATURE"
    )
    assert found["signer 2"][0].value == (
        "by an identifier of the sender, the default signature type"
    )
    assert found["document 0001_document.txt"][0].value == "“Vilkår”"
    assert found["signing time"][0].value == "2026-03-05T13:30:01.250+01:00"
    assert bundles.PERSON not in str(report)
    assert "kunde-42" not in str(report)


def test_an_identity_number_in_a_title_is_masked():
    file = bundles.File("0000_document.pdf", b"%PDF-1.4", title=f"For {bundles.PERSON}")
    report = inspect_container(bundles.container(Recipe(files=(file,))))
    assert bundles.PERSON not in str(report)
    assert rows(report)["document 0000_document.pdf"][0].value == "“For ***********”"


def test_the_older_form_of_the_manifest_is_read():
    file = FILES[0]
    manifest = bundles.legacy_manifest_xml(file)
    report = inspect_container(bundles.container(Recipe(files=(file,), manifest=manifest)))
    assert report.good
    assert rows(report)["title"][0].value == "none"
    assert rows(report)["document 0000_document.pdf"][0].value == "“Leiekontrakt”"


def test_a_manifest_that_names_a_missing_document():
    manifest = bundles.manifest_xml((*FILES, bundles.File("0002.pdf", b"", title="Third")))
    report = inspect_container(bundles.container(Recipe(manifest=manifest)))
    assert problems(report) == ["document 0002.pdf: “Third”, which is missing"]


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def test_a_zip_file_that_is_no_container():
    report = inspect_container(zipped(("folder/", b""), ("a.txt", b"a"), ("mimetype", b"x")))
    assert set(problems(report)) == {
        "a.txt: 1 bytes, not covered by the signature",
        "folder/: 0 bytes, not covered by the signature",
        "manifest: the entry manifest.xml is missing",
        f"signature: the entry {SIGNATURES} is missing",
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_with_one_name_are_a_problem():
    report = inspect_container(zipped(("a.txt", b"a"), ("a.txt", b"b")))
    assert "a.txt: there are several entries with this name" in problems(report)


def test_a_name_with_a_nul_is_not_that_before_the_nul():
    content = zipped(("a.txt?.pdf", b"a")).replace(b"a.txt?", b"a.txt\0")
    assert "a.txt.pdf: 1 bytes, not covered by the signature" in problems(
        inspect_container(content)
    )


def test_an_entry_with_more_content_than_it_says_is_not_decompressed_to_its_end():
    bomb = bytearray(zipped(("a", bytes(32 * 2**20)), method=zipfile.ZIP_DEFLATED))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = bomb.index(signature) + place
        bomb[start : start + 4] = (1).to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match="can't be read"):
            inspect_container(bytes(bomb))
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


ENCRYPTED = zipped(("a", b"a")).replace(
    b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\x01"
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bundles.container(Recipe())[:-30], "can't be read"),
        (zipped(("a", b"aaaa")).replace(b"aaaa", b"aaab"), "can't be read"),
        (zipped(("a", bytes(65 * 2**20)), method=zipfile.ZIP_DEFLATED), "too large to inspect"),
        (b"PK\x01\x02" * 501, "more than 500 entries"),
        (ENCRYPTED, "is encrypted"),
        (zipped(("a", b"a" * 99), method=zipfile.ZIP_LZMA), "other than deflate"),
        (zipped((SIGNATURES, b"<!DOCTYPE a><a/>")), "has a DOCTYPE"),
        (zipped(("manifest.xml", b"<a>")), "manifest.xml is not well-formed XML"),
    ],
)
def test_a_broken_or_hostile_container_is_refused(content, words):
    with pytest.raises(ConfigurationError, match=words):
        inspect_container(content)
