"""Who may use what the sandbox serves to browsers: this machine's programs and its own pages."""

import pytest

from posten_signering.sandbox import Fault, FaultKind

pytestmark = pytest.mark.anyio


GOOD = ["127.0.0.1", "localhost"]


@pytest.mark.parametrize("name", GOOD)
async def test_programs_and_own_pages_may_use_it(sandbox, hand, name):
    port = sandbox.signing_pages_url.rpartition(":")[2].rstrip("/")
    own = {"Host": f"{name}:{port}"}
    for headers in (
        own,
        own | {"Origin": f"http://{name}:{port}"},
        own | {"Origin": f"http://{name}:{port}", "Sec-Fetch-Site": "same-origin"},
        # A page without a referrer: its origin is not told, that it is its own is.
        own | {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        own | {"Sec-Fetch-Site": "none"},
    ):
        assert (await hand("DELETE", "/faults", headers=headers))[0] == 204
        assert (await hand("GET", "/faults", headers=headers))[0] == 200


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
async def test_other_sites_may_not(sandbox, hand, headers):
    port = sandbox.signing_pages_url.rpartition(":")[2].rstrip("/")
    headers = {name: value.format(port=port) for name, value in headers.items()}
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0))
    for method, path in (
        ("DELETE", "/faults"),
        ("GET", "/overview"),
        ("GET", "/events"),
        ("GET", ""),
    ):
        async with hand.session.request(method, hand.root + path, headers=headers) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert len(sandbox.faults.pending) == 1


async def test_the_pages_are_guarded_too_but_another_site_may_lead_to_them(sandbox, hand):
    async with hand.session.get(
        sandbox.signing_pages_url, headers={"Sec-Fetch-Site": "cross-site"}
    ) as answer:
        assert answer.status == 200
    async with hand.session.get(
        sandbox.signing_pages_url, headers={"Host": "evil.example"}
    ) as answer:
        assert answer.status == 403
    async with hand.session.post(
        f"{sandbox.signing_pages_url}signing", headers={"Origin": "http://evil.example"}
    ) as answer:
        assert answer.status == 403
