"""The sandbox accepts the requests of the official Java and C# clients, sent as raw bytes over TLS.

The tests write the requests themselves, with the headers and quirks of those clients' HTTP libraries. An
HTTP library in between would normalise them.
"""

import asyncio
import io
import zipfile
from dataclasses import dataclass
from urllib.parse import urlsplit

import bundles
import pytest
from bundles import BOUNDARY, NOW, PERSON, SENDER, SERVICE, Recipe
from callers import NS, Clock, client_context, conforms, holder_in
from lxml import etree

from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio

JAVA = "posten-signature-api-client-java/7.0.7 (Eclipse Adoptium, 17.0.10)"
DOTNET = "posten-signature-api-client-dotnet/10.0.2 (netcore/8.0.1)"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self):
        return etree.fromstring(self.body)

    def texts(self, path):
        return [str(node) for node in self.xml.xpath(path, namespaces=NS)]


class RawCaller:
    """Sends bytes over mutual TLS, and reads the response until the connection is closed."""

    def __init__(self, sandbox, context, holder):
        self.sandbox = sandbox
        self.context = context
        self.holder = holder
        self.jobs = f"/api/{SENDER}/direct/signature-jobs"

    async def send(self, method, url, headers, body=b""):
        address = urlsplit(self.sandbox.service_root)
        target = url.removeprefix(f"https://{address.netloc}")
        head = [
            f"{method} {target} HTTP/1.1",
            f"Host: {address.netloc}",
            *headers,
            "Connection: close",
        ]
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, ssl=self.context
        )
        try:
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            received = await reader.read()
        finally:
            writer.transport.abort()
        top, _, content = received.partition(b"\r\n\r\n")
        status_line, *lines = top.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        assert len(content) == int(fields.get("Content-Length", 0))
        return Answer(int(status_line.split()[1]), fields, content)


def chunked(body):
    """A body in chunked transfer coding, with chunks of an odd size."""
    chunks = [body[start : start + 4093] for start in range(0, len(body), 4093)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return coded + b"0\r\n\r\n"


@pytest.fixture
async def sandbox():
    async with Sandbox(clock=Clock(), rate_limit=None) as running:
        yield running


@pytest.fixture
def caller(sandbox, tmp_path):
    holder = holder_in(*sandbox.enterprise_pkcs12(SENDER))

    def make(*, chain):
        context = client_context(sandbox.ca_pem, tmp_path, holder, chain=chain)
        return RawCaller(sandbox, context, holder)

    return make


POLLED = (
    "<status-retrieval-method>POLLING</status-retrieval-method><polling-queue>butikk &amp; co"
    "</polling-queue>"
)


def java_body(holder, *, extra="", files=None, manifest=None):
    """Deflated entries with data descriptors, default namespaces, and the whole chain in KeyInfo."""
    files = files or bundles.two_files()
    recipe = Recipe(
        files=files,
        holder=holder,
        layout="java",
        signing_time="2026-03-05T13:30:00+01:00",
        compression=zipfile.ZIP_DEFLATED,
        whole_chain=True,
        manifest=manifest or bundles.manifest_xml(files),
    )
    packed = bundles.container(recipe)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_DEFLATED
            assert entry.flag_bits & 0x08  # a data descriptor: the sizes follow the data
    return bundles.body(bundles.request_xml(extra=extra), packed)


def dotnet_body(holder, *, extra=""):
    """The manifest last, a prefix on the root, only the leaf in KeyInfo, every default written out."""
    files = bundles.two_files()
    manifest = bundles.manifest_xml(
        files,
        signers="".join(
            f"<signer>{identifier}<on-behalf-of>SELF</on-behalf-of></signer>"
            for identifier in (
                f"<personal-identification-number>{PERSON}</personal-identification-number>",
                "<signer-identifier>kunde-42</signer-identifier>",
            )
        ),
    )
    recipe = Recipe(
        files=files,
        holder=holder,
        layout="dotnet",
        signing_time="2026-03-05T12:30:00.000Z",
        compression=zipfile.ZIP_DEFLATED,
        whole_chain=False,
        manifest=manifest,
    )
    entries = dict(bundles.entries(recipe))
    order = [*(file.entry for file in files), "META-INF/signatures.xml", "manifest.xml"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in order:
            archive.writestr(entry, entries[entry])
    request = bundles.request_xml(extra=extra).replace(
        f'xmlns="{SERVICE}"'.encode(),
        b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        b' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns="' + SERVICE.encode() + b'"',
    )
    return bundles.body(request, packed.getvalue(), quirks="dotnet")


def java(*headers):
    return [*headers, "Accept-Encoding: gzip, x-gzip, deflate", f"User-Agent: {JAVA}"]


async def test_the_java_client_goes_through_the_whole_flow_by_token(sandbox, caller):
    client = caller(chain=True)
    created = await client.send(
        "POST",
        client.jobs,
        java(
            "Accept: application/xml",
            "Transfer-Encoding: chunked",
            f"Content-Type: multipart/mixed; charset=ISO-8859-1; boundary={BOUNDARY}",
        ),
        chunked(java_body(client.holder)),
    )
    assert created.status == 200, created.body
    conforms(created.xml, "direct-signature-job-response")

    # The Java client sends its charset in the header Content-Encoding.
    update = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        f'<direct-signer-update-request xmlns="{SERVICE}"><redirect-url/>'
        "</direct-signer-update-request>"
    ).encode()
    signers = {}
    for href in created.texts("//s:signer/@href"):
        renewed = await client.send(
            "POST",
            href,
            java(
                "Accept: application/xml",
                "Transfer-Encoding: chunked",
                "Content-Type: application/xml; charset=UTF-8",
                "Content-Encoding: UTF-8",
            ),
            chunked(update),
        )
        assert renewed.status == 200, renewed.body
        conforms(renewed.xml, "direct-signer-response")
        signers[href] = renewed.texts("//s:redirect-url/text()")[0]
    exit_urls = [await sandbox.sign(url) for url in signers.values()]

    token = exit_urls[-1].rpartition("=")[2]
    status_url = created.texts("//s:status-url/text()")[0]
    status = await client.send(
        "GET", f"{status_url}?status_query_token={token}", java("Accept: application/xml")
    )
    assert status.texts("//s:signature-job-status/text()") == ["COMPLETED_SUCCESSFULLY"]
    pades = await client.send(
        "GET",
        status.texts("//s:pades-url/text()")[0],
        java("Accept: application/octet-stream, application/xml"),
    )
    assert pades.body.startswith(b"%PDF-")
    assert "Content-Encoding" not in pades.headers
    for url in status.texts("//s:xades-url/text()"):
        xades = await client.send("GET", url, java("Accept: application/xml"))
        assert xades.xml.tag == f"{{{bundles.DSIG}}}Signature"
    confirmed = await client.send(
        "POST", status.texts("//s:confirmation-url/text()")[0], java("Accept: application/xml")
    )
    assert (confirmed.status, confirmed.body) == (204, b"")


@pytest.mark.parametrize(
    ("extra", "query"),
    [
        # A parameter without a value and without an equals sign means the default queue.
        ("<status-retrieval-method>POLLING</status-retrieval-method>", "?polling_queue"),
        # The Java client can also send an empty element for the default queue.
        (
            "<status-retrieval-method>POLLING</status-retrieval-method><polling-queue></polling-queue>",
            "?polling_queue",
        ),
        (POLLED, "?polling_queue=butikk%20%26%20co"),
    ],
)
async def test_the_java_client_polls(sandbox, caller, extra, query):
    client = caller(chain=True)
    content_type = f"Content-Type: multipart/mixed; charset=ISO-8859-1; boundary={BOUNDARY}"
    body = java_body(client.holder, extra=extra)
    created = await client.send(
        "POST", client.jobs, java(content_type, "Transfer-Encoding: chunked"), chunked(body)
    )
    assert created.status == 200, created.body
    await sandbox.reject(created.texts("//s:signer/s:redirect-url/text()")[0])
    change = await client.send("GET", client.jobs + query, java("Accept: application/xml"))
    assert change.texts("//s:signature-job-status/text()") == ["FAILED"]
    assert "X-Next-permitted-poll-time" in change.headers
    url = change.texts("//s:confirmation-url/text()")[0]
    assert (await client.send("POST", url, java("Content-Length: 0"))).status == 204
    empty = await client.send("GET", client.jobs + query, java("Accept: application/xml"))
    assert empty.status == 204
    early = await client.send("GET", client.jobs + query, java("Accept: application/xml"))
    assert early.status == 429
    assert early.headers["X-Next-permitted-poll-time"] == "2026-03-05T13:30:30.000+01:00"


async def test_the_deprecated_manifest_with_one_document_is_accepted(sandbox, caller):
    client = caller(chain=True)
    file = bundles.two_files()[0]
    body = java_body(client.holder, files=(file,), manifest=bundles.legacy_manifest_xml(file))
    created = await client.send(
        "POST",
        client.jobs,
        java(
            f"Content-Type: multipart/mixed; boundary={BOUNDARY}; charset=ISO-8859-1",
            f"Content-Length: {len(body)}",
        ),
        body,
    )
    assert created.status == 200, created.body
    assert sandbox.overview().jobs[0].title == "Leiekontrakt"
    exit_url = await sandbox.sign(created.texts("//s:signer/s:redirect-url/text()")[0])
    status_url = created.texts("//s:status-url/text()")[0]
    token = exit_url.rpartition("=")[2]
    status = await client.send("GET", f"{status_url}?status_query_token={token}", java())
    pades = await client.send("GET", status.texts("//s:pades-url/text()")[0], java())
    assert pades.body.startswith(b"%PDF-")


async def test_the_csharp_client_goes_through_the_whole_flow(sandbox, caller):
    """The C# client sends only the leaf certificate, both in TLS and in the container."""
    client = caller(chain=False)
    agent = f"User-Agent: {DOTNET}"
    extra = "<status-retrieval-method>WAIT_FOR_CALLBACK</status-retrieval-method>"
    body = dotnet_body(client.holder, extra=extra)
    created = await client.send(
        "POST",
        client.jobs,
        [
            "Accept: application/xml",
            agent,
            f"Content-Type: multipart/mixed; boundary={BOUNDARY}",
            f"Content-Length: {len(body)}",
        ],
        body,
    )
    assert created.status == 200, created.body
    urls = []
    for href in created.texts("//s:signer/@href"):
        # The C# client requests a new redirect URL without a body.
        renewed = await client.send("POST", href, [agent, "Content-Length: 0"])
        conforms(renewed.xml, "direct-signer-response")
        urls += renewed.texts("//s:redirect-url/text()")
    exit_urls = [await sandbox.sign(url) for url in urls]
    token = exit_urls[0].rpartition("=")[2]
    status = await client.send(
        "GET",
        f"{created.texts('//s:status-url/text()')[0]}?status_query_token={token}",
        ["Accept: application/xml", agent],
    )
    assert status.status == 200
    accept = "Accept: application/xml, application/octet-stream"
    for url in status.texts("//s:pades-url/text()|//s:xades-url/text()"):
        assert (await client.send("GET", url, [accept, agent])).status == 200
    url = status.texts("//s:confirmation-url/text()")[0]
    assert (await client.send("POST", url, [agent, "Content-Length: 0"])).status in {200, 204}


async def test_the_csharp_client_polls_with_and_without_a_name(sandbox, caller):
    client = caller(chain=False)
    agent = f"User-Agent: {DOTNET}"
    for extra, query in (
        ("<status-retrieval-method>POLLING</status-retrieval-method>", ""),
        (POLLED.replace(" &amp; ", "-"), "?polling_queue=butikk-co"),
    ):
        body = dotnet_body(client.holder, extra=extra)
        headers = [
            f"Content-Type: multipart/mixed; boundary={BOUNDARY}",
            f"Content-Length: {len(body)}",
        ]
        created = await client.send("POST", client.jobs, [*headers, agent], body)
        assert created.status == 200, created.body
        assert created.texts("//s:status-url") == []
        await sandbox.fail(created.texts("//s:signer/s:redirect-url/text()")[0])
        change = await client.send("GET", client.jobs + query, ["Accept: application/xml", agent])
        assert change.texts("//s:status/text()") == ["NOT_APPLICABLE", "FAILED"]


@pytest.mark.parametrize("layout", ["java", "dotnet", "prefixed"])
@pytest.mark.parametrize("whole_chain", [False, True])
async def test_signatures_with_any_namespace_prefixes_are_accepted(caller, layout, whole_chain):
    client = caller(chain=False)
    recipe = Recipe(
        files=bundles.two_files(),
        holder=client.holder,
        layout=layout,
        signing_time=NOW.isoformat(),
        whole_chain=whole_chain,
    )
    body = bundles.body_of(recipe)
    headers = [f"Content-Type: {bundles.CONTENT_TYPE}", f"Content-Length: {len(body)}"]
    assert (await client.send("POST", client.jobs, headers, body)).status == 200
    # The same container, but with a changed document.
    tampered = bundles.body_of(recipe.with_(replaced={"0001_document.txt": b"Something else\n"}))
    headers = [f"Content-Type: {bundles.CONTENT_TYPE}", f"Content-Length: {len(tampered)}"]
    refused = await client.send("POST", client.jobs, headers, tampered)
    assert refused.status == 400
    assert refused.texts("//s:error-code/text()") == ["ASICE_VALIDATION_FAILED"]


async def test_the_sandbox_records_the_user_agent_of_each_client(sandbox, caller):
    client = caller(chain=True)
    for agent in (JAVA, DOTNET):
        await client.send("GET", f"/api/{SENDER}", [f"User-Agent: {agent}"])
    assert [request.client for request in sandbox.overview().requests] == [DOTNET, JAVA]
