"""Blocks of the guides for web apps that need more than a sandbox: a bucket, or a clock that moves."""

import doubles
import pytest
from docs_pages import ROOT, blocks_of

from posten_signering import DirectClient, DirectSigner, StatusRetrievalMethod
from posten_signering.errors import ApiError
from posten_signering.sandbox import Sandbox
from posten_signering.worker import StoreSignedDocuments

pytestmark = pytest.mark.anyio

SIGNERS = [DirectSigner(custom_identifier=name) for name in ("tenant", "landlord")]


@pytest.fixture
async def sandbox():
    async with Sandbox(rate_limit=None) as started:
        yield started


@pytest.fixture
async def client(sandbox):
    async with DirectClient(sandbox.client_configuration()) as opened:
        yield opened


def names_of(page, text):
    """What the only block of a page with this text defines."""
    [code] = [block.code for block in blocks_of(ROOT / "docs" / page) if text in block.code]
    names = {"__name__": "page"}
    exec(compile(code, page, "exec"), names)
    return names


class Bucket:
    """The one method of boto3's client that the example uses."""

    def __init__(self):
        self.objects = {}

    def put_object(self, **arguments):
        assert arguments.keys() == {"Bucket", "Key", "Body", "ChecksumAlgorithm"}
        self.objects[arguments["Bucket"], arguments["Key"]] = arguments["Body"]


async def test_the_example_for_object_storage_saves_each_document(sandbox, client):
    bucket = Bucket()
    names = names_of("guides/storing-and-confirming.md", "class ObjectStore")
    handler = StoreSignedDocuments(client, names["ObjectStore"](bucket, "signed"))
    created = await client.create(
        doubles.job(signers=SIGNERS, status_retrieval_method=StatusRetrievalMethod.POLLING)
    )
    for signer in created.signers:
        await sandbox.sign(signer.redirect_url)
        await handler((await client.get_status_change()).change)
    expected = {f"{created.job_id}/{name}" for name in ("pades.pdf", "xades-1.xml", "xades-2.xml")}
    assert {key for _, key in bucket.objects} == expected
    assert bucket.objects["signed", f"{created.job_id}/pades.pdf"].startswith(b"%PDF-")


async def test_the_example_for_deletion_deletes_only_when_it_is_possible(sandbox, client):
    delete = names_of("guides/deleting-documents.md", "async def delete(")["delete"]
    created = await client.create(doubles.job(signers=SIGNERS[:1]))
    token = sandbox.status_query_token(created.single_signer.redirect_url)
    await sandbox.sign(created.single_signer.redirect_url)
    status = await client.get_status(created, token)
    assert not await delete(client, created.status_url, token)
    assert await client.get_pades(status)
    await sandbox.advance(24 * 3600)
    assert await delete(client, created.status_url, token)
    with pytest.raises(ApiError):
        await client.get_pades(status)
