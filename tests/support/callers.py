"""Calls a sandbox over real TLS with aiohttp's client, without code of the SDK or the sandbox."""

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources

import aiohttp
import bundles
from bundles import NOW, SENDER, Holder, Recipe
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from lxml import etree

NS = {"s": bundles.SERVICE}


class Clock:
    """A clock that advances only when `wait` is called."""

    def __init__(self):
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def wait(self, **time) -> None:
        self.now += timedelta(**time)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    xml: etree._Element | None = field(init=False, default=None)

    def __post_init__(self):
        if self.headers.get("Content-Type", "").startswith("application/xml") and self.body:
            self.xml = etree.fromstring(self.body)

    def texts(self, path: str) -> list[str]:
        return [str(text) for text in self.xml.xpath(path, namespaces=NS)]

    def text(self, path: str) -> str | None:
        texts = self.texts(path)
        assert len(texts) <= 1
        return texts[0] if texts else None

    @property
    def error(self) -> tuple[int, str]:
        """The HTTP status and the error code. The error document must be valid by the schema."""
        conforms(self.xml, "error")
        assert self.text("/s:error/s:error-type/text()") in {"CLIENT", "SERVER"}
        return self.status, self.text("/s:error/s:error-code/text()")


def conforms(message: etree._Element, name: str) -> None:
    """Fails if the message is not valid by the packaged schema, or has another root element."""
    folder = resources.files("posten_signering_xml") / "schema"
    with resources.as_file(folder) as path:
        schema = etree.XMLSchema(file=str(path / "direct.xsd"))
    schema.assertValid(message)
    assert etree.QName(message).localname == name


def holder_in(content: bytes, password: str) -> Holder:
    """The certificate, key and chain of a PKCS#12 file, read by `cryptography`."""
    key, certificate, others = pkcs12.load_key_and_certificates(content, password.encode())
    return Holder(certificate, key, tuple(others))


def client_context(ca_pem: bytes, folder, holder: Holder | None, *, chain: bool = True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ca_pem.decode())
    if holder is not None:
        certificates = (holder.certificate, *(holder.chain if chain else ()))
        path = folder / "client.pem"
        path.write_bytes(
            holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        )
        context.load_cert_chain(path)
    return context


class Caller:
    """An organisation that calls the sandbox with its certificate, for itself or for another sender."""

    def __init__(self, sandbox, session, holder, clock, sender=SENDER):
        self.sandbox = sandbox
        self.session = session
        self.holder = holder
        self.clock = clock
        self.root = f"{sandbox.service_root}/{sender}"
        self.jobs = f"{self.root}/direct/signature-jobs"

    async def call(self, method: str, url: str, **options) -> Answer:
        async with self.session.request(method, url, **options) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def get(self, url: str) -> Answer:
        return await self.call("GET", url)

    async def post(self, url: str, **options) -> Answer:
        return await self.call("POST", url, **options)

    def body(self, *, extra="", signers=None, sender=SENDER, holder=None, files=None) -> bytes:
        files = files or bundles.two_files()
        recipe = Recipe(
            files=files,
            holder=holder or self.holder,
            signing_time=self.clock.now.isoformat(),
            manifest=bundles.manifest_xml(files, signers=signers, sender=sender),
        )
        return bundles.body(bundles.request_xml(extra=extra), bundles.container(recipe))

    async def send(self, body, **headers) -> Answer:
        headers = {"Content-Type": bundles.CONTENT_TYPE, **headers}
        return await self.post(self.jobs, data=body, headers=headers)

    async def create(self, **options) -> Answer:
        answer = await self.send(self.body(**options))
        assert answer.status == 200, answer.body
        return answer


@asynccontextmanager
async def caller_of(sandbox, clock, folder, *, certificate=SENDER, sender=SENDER, chain=True):
    holder = holder_in(*sandbox.enterprise_pkcs12(certificate))
    context = client_context(sandbox.ca_pem, folder, holder, chain=chain)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Caller(sandbox, session, holder, clock, sender)


def redirect_urls(answer: Answer) -> list[str]:
    """The redirect URLs in the answer to a create, in the order of the manifest."""
    return answer.texts("//s:direct-signature-job-response/s:redirect-url/text()")


def signer_named(answer: Answer, identifier: str) -> etree._Element:
    [signer] = answer.xml.xpath(
        "//s:signer[s:signer-identifier=$identifier"
        " or s:personal-identification-number=$identifier]",
        namespaces=NS,
        identifier=identifier,
    )
    return signer
