"""The OpenAPI document of the control API is valid and describes every route correctly."""

import json

import aiohttp
import pytest
from bundles import SENDER
from callers import redirect_urls
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from posten_signering.sandbox import Fault, FaultKind
from posten_signering.sandbox._control.endpoints import ENDPOINTS, ControlApi

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
BROKER = "111222333"


@pytest.fixture
async def document(control_api):
    status, content = await control_api("GET", "/openapi.json")
    assert status == 200
    return content


async def test_the_document_is_valid_openapi_3_1(document):
    validate(document)
    assert document["openapi"].startswith("3.1")
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert len(names) == len(set(names)) == len(ENDPOINTS) + 3
    for component in document["components"]["schemas"].values():
        assert component["description"]
        assert ("properties" in component) is not ("enum" in component)
        for described in component.get("properties", {}).values():
            assert described["description"], component


async def test_the_validator_refuses_an_invalid_document(document):
    del document["info"]["version"]
    with pytest.raises(Exception, match="version"):
        validate(document)


def validator(document, operation, answer):
    schema = operation["responses"][answer]["content"]["application/json"]["schema"]
    resource = DRAFT202012.create_resource(document)
    registry = Registry().with_resource("urn:document", resource)
    reference = json.loads(json.dumps(schema).replace('"#/components', '"urn:document#/components'))
    return Draft202012Validator(reference, registry=registry)


BODIES = {
    "/control/advance": {"seconds": 1},
    "/control/faults": {"kind": "delay", "seconds": 0, "times": 100},
    "/control/enterprise-certificates": {"organization_number": BROKER},
    "/control/brokers": {"certificate_organization": BROKER, "sender": SENDER},
}


async def test_every_route_matches_the_document(sandbox, sender, control_api, document):
    """Calls every operation and validates its response. The document describes every served route."""
    last = ("/control/reset", "/control/jobs/{job}/documents", "/control/faults/{fault}")
    for path in sorted(document["paths"], key=lambda path: (path in last, path == last[0])):
        for method, operation in document["paths"][path].items():
            if path in {"/control/events", "/control/ca.pem"}:
                continue
            created = await sender.create(extra=POLLED, signers=ONE_SIGNER)
            job = created.text("//s:signature-job-id/text()")
            if "changes" in path or "documents" in path:
                await sandbox.sign(redirect_urls(created)[0])
            [queue] = sandbox.overview().queues or [None]
            change = queue.changes[-1].number if queue and queue.changes else 0
            while "changes" in path and (await sender.get(sender.jobs)).status == 200:
                pass
            fault = sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0))
            address = (
                path.removeprefix("/control")
                .replace("{job}", job)
                .replace("{signer}", "1")
                .replace("{act}", "reject")
                .replace("{change}", str(change))
                .replace("{fault}", str(fault))
            )
            status, answer = await control_api(method.upper(), address, BODIES.get(path))
            assert str(status) in operation["responses"], (method, path, answer)
            assert (status == 204) is (answer is None)
            if answer is not None:
                validator(document, operation, str(status)).validate(answer)
            for parameter in operation.get("parameters", ()):
                assert f"{{{parameter['name']}}}" in path
            # The response to a failed request has the schema of an error.
            unknown_job = address.replace(job, "999", 1) if "{job}" in path else None
            if unknown_job is not None:
                status, answer = await control_api(method.upper(), unknown_job)
                assert status == 404
                validator(document, operation, "default").validate(answer)
    served = {
        (route.method.lower(), resource.canonical)
        for resource in routes(sandbox)
        for route in resource
        if route.method not in {"*", "HEAD"}
    }
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    described.add(("get", "/control/"))  # served with and without the slash
    assert served == described


def routes(sandbox):
    application = aiohttp.web.Application()
    ControlApi(control=sandbox._now_running.control).add_to(application)
    return application.router.resources()


async def test_the_validator_refuses_a_response_that_breaks_the_document(document):
    operation = document["paths"]["/control/overview"]["get"]
    with pytest.raises(Exception, match="'version' is a required property"):
        validator(document, operation, "200").validate({})
    with pytest.raises(Exception, match="is not of type"):
        validator(document, operation, "default").validate({"error": 1})
