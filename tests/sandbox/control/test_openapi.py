"""The OpenAPI document of the control API is valid, and the API does what the document says."""

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from doubles import CUSTOMER, job
from openapi_spec_validator import validate

from posten_signering import DirectClient, StatusRetrievalMethod
from posten_signering.sandbox import FaultKind, ThreadedSandbox
from posten_signering.sandbox._control.endpoints import ENDPOINTS, openapi

SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def document():
    return json.loads(json.dumps(openapi(None)))


# --- The document


def test_the_document_is_valid_and_describes_everything(document):
    validate(document)
    assert document["openapi"].startswith("3.1")
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert len(names) == len(set(names)) == len(ENDPOINTS)
    for component in document["components"]["schemas"].values():
        assert component["description"]
        for described in component.get("properties", {}).values():
            assert described.get("description") or "const" in described, component


def test_the_validator_refuses_an_invalid_document(document):
    del document["info"]["version"]
    with pytest.raises(Exception, match="version"):
        validate(document)


def test_the_body_of_a_fault_has_a_variant_for_each_kind(document):
    components = document["components"]["schemas"]
    variants = components["Fault-Input"]["discriminator"]["mapping"]
    assert list(variants) == list(FaultKind)
    delay = components[variants["delay"].rpartition("/")[2]]
    assert delay["required"] == ["kind", "seconds"]
    assert delay["properties"]["after"]["type"] == "boolean"
    assert delay["properties"]["header"] == {"const": None}


# --- The responses


async def create_jobs(sandbox):
    async with DirectClient(sandbox.client_configuration()) as client:
        polled = await client.create(job(status_retrieval_method=StatusRetrievalMethod.POLLING))
        sandbox.sign(polled.signer(CUSTOMER).redirect_url)
        assert (await client.get_status_change()).change is not None
        await client.create(job())


@pytest.fixture(scope="module")
def sandbox():
    """A sandbox with jobs. Every operation succeeds for job 1, signer 1 and change 1: the examples."""
    # schemathesis moves the clock forward, but the jobs must not expire.
    long = timedelta(days=100_000)
    with ThreadedSandbox(rate_limit=None, lifetime=long, lease=long) as sandbox:
        asyncio.run(create_jobs(sandbox))
        yield sandbox


def schemathesis(sandbox, document, *options):
    """Sends valid and invalid requests for the operations in a document, the same on every run."""
    pages = sandbox.control_url.removesuffix("/control")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", SETTINGS, "run"]
    return subprocess.run(
        [*command, document, "--url", pages, *options], capture_output=True, text=True, check=False
    )


def test_every_response_is_as_the_document_says(sandbox):
    # A reset would delete the jobs that the other operations need.
    document = f"{sandbox.control_url}/openapi.json"
    run = schemathesis(sandbox, document, "--exclude-path", "/control/reset")
    assert run.returncode == 0, run.stdout


def test_schemathesis_finds_every_mistake_in_a_document(sandbox, document, tmp_path):
    schemas, paths = document["components"]["schemas"], document["paths"]
    seconds = schemas["Advance"]["properties"]["seconds"]
    del seconds["exclusiveMinimum"]
    seconds["maximum"] = 10
    schemas["EnterpriseCertificateFile"]["required"].append("invented")
    schemas["Version"]["properties"]["version"]["type"] = "string"
    del paths["/control/faults"]["delete"]
    del paths["/control/faults/{fault}"]["delete"]["responses"]["404"]
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    operations = ["advance", "issue", "events", "faults", "remove_fault"]
    chosen = [f"--include-operation-id={operation}" for operation in operations]
    run = schemathesis(sandbox, file, *chosen, "--phases=coverage", "--continue-on-failure")
    assert run.returncode == 1
    for mistake in (
        "Schema-valid request rejected",
        "Schema-violating request accepted",
        "Response violates schema",
        "SSE event payload violates content schema",
        "Wrong response to undeclared method",
        "Undocumented status code",
    ):
        assert f"{mistake}: 1" in run.stdout
