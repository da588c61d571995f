"""The baselines: the least work that creating a job needs, written without the package.

This module computes hashes and a signature, and uses httpx directly to POST in chunks.
"""

import hashlib
import os
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from lxml import etree

CHUNK = 128 * 1024  # as in the package
_TLS_RECORD = 16 * 1024
_NONCE = bytes(12)
_DS = "http://www.w3.org/2000/09/xmldsig#"
_XADES = "http://uri.etsi.org/01903/v1.3.2#"


def transport(folder: Path, *, max_connections: int | None = None) -> httpx.AsyncHTTPTransport:
    """httpx's own connection pool over mutual TLS, which does not check host names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "root.pem")
    context.load_cert_chain(folder / "sender.pem")
    return httpx.AsyncHTTPTransport(
        verify=context,
        trust_env=False,
        limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=5),
    )


async def _in_memory(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


async def _in_file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


async def post(
    http: httpx.AsyncHTTPTransport, url: str, headers: Mapping[str, str], body: bytes | Path
) -> None:
    """Sends a body of known length in chunks, and reads the response."""
    response = await http.handle_async_request(
        httpx.Request(
            "POST",
            url,
            headers={**headers, "content-length": str(_length(body))},
            content=_in_memory(body) if isinstance(body, bytes) else _in_file(body),
            extensions={"timeout": httpx.Timeout(10).as_dict()},
        )
    )
    await response.aread()
    await response.aclose()
    if not response.is_success:
        raise RuntimeError(f"The benchmark server responded with HTTP {response.status_code}.")


def _length(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


async def get(http: httpx.AsyncHTTPTransport, url: str) -> None:
    timeout = httpx.Timeout(10, pool=2).as_dict()
    response = await http.handle_async_request(
        httpx.Request("GET", url, extensions={"timeout": timeout})
    )
    await response.aread()
    await response.aclose()


async def send(
    http: httpx.AsyncHTTPTransport, method: str, url: str, headers: Mapping[str, str]
) -> None:
    """Sends a request without a body, and reads the response."""
    response = await http.handle_async_request(
        httpx.Request(
            method, url, headers=headers, extensions={"timeout": httpx.Timeout(10).as_dict()}
        )
    )
    await response.aread()
    await response.aclose()
    if not response.is_success:
        raise RuntimeError(f"The benchmark server responded with HTTP {response.status_code}.")


async def stream(http: httpx.AsyncHTTPTransport, url: str, headers: Mapping[str, str]) -> None:
    """Receives a document, and keeps none of it."""
    async for _ in _chunks(http, url, headers):
        pass


async def stream_to_file(
    http: httpx.AsyncHTTPTransport, url: str, headers: Mapping[str, str], path: Path
) -> None:
    """Receives a document, writes it to a file and flushes that to the disk, all in the event loop."""
    with path.open("wb") as file:
        async for chunk in _chunks(http, url, headers):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


async def _chunks(
    http: httpx.AsyncHTTPTransport, url: str, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    response = await http.handle_async_request(
        httpx.Request(
            "GET", url, headers=headers, extensions={"timeout": httpx.Timeout(10).as_dict()}
        )
    )
    async for chunk in response.aiter_raw():
        yield chunk
    await response.aclose()


class Signing:
    """Computes the hashes of a document and a XAdES signature over them.

    Args:
        folder: Holds the sender's key and certificates.
    """

    def __init__(self, folder: Path) -> None:
        pem = (folder / "sender.pem").read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        self._chain = [
            *x509.load_pem_x509_certificates(pem),
            *x509.load_pem_x509_certificates((folder / "root.pem").read_bytes()),
        ]

    def __call__(self, document: bytes) -> bytes:
        """Computes SHA-256 and CRC-32, builds one XAdES and signs it once."""
        zlib.crc32(document)
        return self._xades(hashlib.sha256(document).digest())

    def _xades(self, digest: bytes) -> bytes:
        leaf = self._chain[0]
        ders = [certificate.public_bytes(Encoding.DER) for certificate in self._chain]
        properties = _canonical(
            f'<SignedProperties xmlns="{_XADES}" Id="p"><SignedSignatureProperties><SigningTime>'
            "2026-01-01T00:00:00.000Z</SigningTime><SigningCertificate><Cert><CertDigest><DigestMethod"
            f' xmlns="{_DS}" Algorithm="{_DS}sha1"/><DigestValue xmlns="{_DS}">'
            f"{_base64(hashlib.sha1(ders[0]).digest())}</DigestValue></CertDigest><IssuerSerial>"
            f'<X509IssuerName xmlns="{_DS}">{leaf.issuer.rfc4514_string()}</X509IssuerName>'
            f'<X509SerialNumber xmlns="{_DS}">{leaf.serial_number}</X509SerialNumber></IssuerSerial>'
            "</Cert></SigningCertificate></SignedSignatureProperties><SignedDataObjectProperties>"
            '<DataObjectFormat ObjectReference="#d"><MimeType>application/pdf</MimeType>'
            "</DataObjectFormat></SignedDataObjectProperties></SignedProperties>"
        )
        references = "".join(
            f'<Reference URI="{uri}"><DigestMethod Algorithm="sha256"/><DigestValue>'
            f"{_base64(value)}</DigestValue></Reference>"
            for uri, value in (
                ("document.pdf", digest),
                ("manifest.xml", digest),
                ("#p", hashlib.sha256(properties).digest()),
            )
        )
        signed_info = _canonical(f'<SignedInfo xmlns="{_DS}">{references}</SignedInfo>')
        value = self._key.sign(signed_info, padding.PKCS1v15(), hashes.SHA256())
        certificates = "".join(f"<X509Certificate>{_base64(der)}</X509Certificate>" for der in ders)
        return (
            f'<Signature xmlns="{_DS}">{signed_info.decode()}<SignatureValue>{_base64(value)}'
            f"</SignatureValue><KeyInfo><X509Data>{certificates}</X509Data></KeyInfo><Object>"
            f"{properties.decode()}</Object></Signature>"
        ).encode()


class Encryption:
    """Encrypts a body with AES-256-GCM in records of TLS size, and does nothing else of TLS."""

    def __init__(self) -> None:
        self._cipher = AESGCM(bytes(32))

    def __call__(self, body: bytes) -> None:
        for record in _records(body):
            self._cipher.encrypt(_NONCE, record, None)


def _records(body: bytes) -> Iterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), _TLS_RECORD):
        yield view[start : start + _TLS_RECORD]


def _canonical(text: str) -> bytes:
    return etree.tostring(etree.fromstring(text), method="c14n")


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
