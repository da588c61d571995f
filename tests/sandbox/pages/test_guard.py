"""Only programs on this machine and the sandbox's own pages may use the pages and the control API."""

import aiohttp
import pytest
from control_caller import ControlCaller

from posten_signering.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox():
    async with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
async def control_api(sandbox):
    async with aiohttp.ClientSession() as session:
        yield ControlCaller(session, sandbox.control_url)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_programs_and_own_pages_may_use_it(sandbox, control_api, name):
    port = sandbox.signing_pages_url.rpartition(":")[2].rstrip("/")
    own = {"Host": f"{name}:{port}"}
    for headers in (
        own,
        own | {"Origin": f"http://{name}:{port}"},
        own | {"Origin": f"http://{name}:{port}", "Sec-Fetch-Site": "same-origin"},
        # A page with the policy `no-referrer` hides its origin, but not that the request is same-origin.
        own | {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        own | {"Sec-Fetch-Site": "none"},
    ):
        assert (await control_api("DELETE", "/faults", headers=headers))[0] == 204
        assert (await control_api("GET", "/faults", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_requests_from_other_sites_are_refused(sandbox, control_api, headers):
    port = sandbox.signing_pages_url.rpartition(":")[2].rstrip("/")
    headers = {name: value.format(port=port) for name, value in headers.items()}
    sandbox.faults.clear()
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0))
    for method, path in (
        ("DELETE", "/faults"),
        ("GET", "/overview"),
        ("GET", "/events"),
        ("GET", ""),
    ):
        async with control_api.session.request(
            method, control_api.root + path, headers=headers
        ) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(sandbox.faults.pending) == 1


async def test_another_site_may_link_to_the_pages_but_not_post_to_them(sandbox, control_api):
    async with control_api.session.get(
        sandbox.signing_pages_url, headers={"Sec-Fetch-Site": "cross-site"}
    ) as answer:
        assert answer.status == 200
    async with control_api.session.get(
        sandbox.signing_pages_url, headers={"Host": "evil.example"}
    ) as answer:
        assert answer.status == 403
    async with control_api.session.post(
        f"{sandbox.signing_pages_url}signing", headers={"Origin": "http://evil.example"}
    ) as answer:
        assert answer.status == 403
