"""A client from its making to its closing, and what it warns of meanwhile."""

import asyncio
import dataclasses
import logging
from datetime import timedelta
from email.utils import format_datetime

import anyio.lowlevel
import doubles
import pki
import pytest
from client_calls import EVERY, URL, consumed, every, status
from doubles import (
    PADES,
    Answer,
    Clock,
    ScriptedTransport,
    client_of,
    poll_headers,
)

from posten_signering import (
    DirectClient,
    TrustAnchors,
)
from posten_signering._client import lifecycle
from posten_signering.errors import (
    ApiError,
    ClientStateError,
    ConfigurationError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio

# --- A client's life


@pytest.mark.parametrize("name", EVERY)
async def test_a_client_that_was_not_entered_says_so(name, tmp_path):
    transport = ScriptedTransport()
    client = DirectClient(doubles.configuration(transport))
    with pytest.raises(ClientStateError, match="was not entered: use it in `async with"):
        await every(tmp_path / "signed")[name](client)
    assert transport.sent == []


@pytest.mark.parametrize("name", EVERY)
async def test_a_client_that_is_closed_says_so(name, tmp_path):
    async with client_of() as (client, transport):
        pass
    with pytest.raises(ClientStateError, match="is closed: create a new one"):
        await every(tmp_path / "signed")[name](client)
    assert transport.sent == []
    assert list(tmp_path.iterdir()) == []


async def test_a_confirmation_of_nothing_needs_an_open_client_too():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    with pytest.raises(ClientStateError, match="was not entered"):
        await client.confirm(status())


async def test_a_client_is_entered_once():
    async with client_of() as (client, transport):
        with pytest.raises(ClientStateError, match="is open already: share it"):
            await client.__aenter__()
        assert transport.closed == 0
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_a_client_is_entered_once_by_two_tasks_at_once():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    entered = await asyncio.gather(client.__aenter__(), client.__aenter__(), return_exceptions=True)
    await client.aclose()
    assert {type(each) for each in entered} == {DirectClient, ClientStateError}


async def test_a_client_that_is_closed_while_it_is_entered_stays_closed():
    transport = ScriptedTransport()
    client = DirectClient(doubles.configuration(transport))
    entering = asyncio.ensure_future(client.__aenter__())
    await anyio.lowlevel.checkpoint()
    await client.aclose()
    await asyncio.wait([entering])
    entering.exception()
    with pytest.raises(ClientStateError, match="is closed"):
        await client.check_access()
    assert transport.closed == 1


async def test_a_client_that_is_closed_while_it_can_not_be_entered_stays_closed(monkeypatch):
    begun, go_on = anyio.Event(), anyio.Event()

    async def fail(configuration):
        begun.set()
        await go_on.wait()
        raise ConfigurationError("It can't be used.")

    monkeypatch.setattr(lifecycle, "open_client", fail)
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    entering = asyncio.ensure_future(client.__aenter__())
    await begun.wait()
    await client.aclose()
    go_on.set()
    with pytest.raises(ConfigurationError):
        await entering
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_a_client_that_is_closed_while_entering_fails_stays_closed():
    clock = Clock(pki.NOW + timedelta(days=1000))
    client = DirectClient(doubles.configuration(ScriptedTransport(), clock=clock))
    entering = asyncio.ensure_future(client.__aenter__())
    await anyio.lowlevel.checkpoint()
    await client.aclose()
    with pytest.raises(ConfigurationError, match="expired"):
        await entering
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_closing_twice_closes_the_transport_once():
    async with client_of() as (client, transport):
        await client.aclose()
        await client.aclose()
    assert transport.closed == 1


async def test_closing_what_was_never_open_does_nothing():
    transport = ScriptedTransport()
    client = DirectClient(doubles.configuration(transport))
    await client.aclose()
    assert transport.closed == 0
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_an_exception_inside_closes_the_client_and_comes_through():
    transport = ScriptedTransport()
    with pytest.raises(ZeroDivisionError):
        async with DirectClient(doubles.configuration(transport)):
            raise ZeroDivisionError
    assert transport.closed == 1


async def test_a_client_that_could_not_be_entered_can_be_entered_later():
    """The certificate is checked by the clock that is set."""
    clock = Clock(pki.NOW + timedelta(days=1000))
    client = DirectClient(doubles.configuration(ScriptedTransport(), clock=clock))
    with pytest.raises(ConfigurationError, match="expired"):
        await client.__aenter__()
    with pytest.raises(ClientStateError, match="was not entered"):
        await client.check_access()
    clock.now = pki.NOW
    async with client:
        pass


async def test_entering_sends_nothing_and_a_client_shows_nothing():
    async with client_of() as (client, transport):
        assert transport.sent == []
        assert repr(client) == object.__repr__(client)
        assert client.configuration.transport is transport


async def test_operations_run_side_by_side():
    """Two downloads and a confirmation in the middle of each other, in one task."""
    script = [Answer(200, [b"a", b"b"]), Answer(200, [b"c", b"d"]), Answer(204)]
    async with client_of(*script) as (client, transport), client.open_pades(URL) as pades:
        pieces = [await anext(aiter(pades))]
        async with client.open_xades(URL) as xades:
            pieces.append(await anext(aiter(xades)))
            await client.confirm(URL)
            assert transport.open == 2
            pieces += [await anext(aiter(pades)), await anext(aiter(xades))]
    assert pieces == [b"a", b"c", b"b", b"d"]


# --- Warnings

TEN_MINUTES = timedelta(minutes=10)


@pytest.mark.parametrize("seconds", [-7, 7, 600, -600])
async def test_a_clock_that_is_off_is_told_once(caplog, seconds):
    clock = Clock()
    off = poll_headers(clock.now - timedelta(seconds=seconds), TEN_MINUTES)
    right = poll_headers(clock.now, TEN_MINUTES)
    script = [Answer(200, PADES, off), Answer(404, b"", off), Answer(200, PADES, off)]
    script += [Answer(200, PADES, right), Answer(200, PADES, off)]
    async with client_of(*script, clock=clock) as (client, _):
        await client.get_pades(URL)
        with pytest.raises(ApiError):
            await client.get_pades(URL)
        await consumed(client.open_pades(URL))
        [warning] = caplog.records
        assert warning.levelno == logging.WARNING
        assert f"clock is {seconds} seconds off the service's" in warning.getMessage()
        # Once it was right, it is told again.
        await client.get_pades(URL)
        await client.get_pades(URL)
    assert len(caplog.records) == 2


async def test_a_clock_at_the_border_is_not_told_of_again_and_again(caplog):
    """`Date` is cut off to whole seconds: one that is 5.5 seconds off is measured from 5 to 6.5."""
    clock = Clock()
    measured = [5.0, 6.4, 5.2, 6.3, 4.5, 6.4, 2.5, 6.4]
    script = [
        Answer(200, PADES, {"date": format_datetime(clock.now - timedelta(seconds=each))})
        for each in measured
    ]
    async with client_of(*script, clock=clock) as (client, _):
        for _ in measured:
            await client.get_pades(URL)
    assert len(caplog.records) == 2  # the second one after it was right


@pytest.mark.parametrize("seconds", [-5, 0, 5])
async def test_a_clock_within_the_services_tolerance_is_let_be(caplog, seconds):
    clock = Clock()
    headers = poll_headers(clock.now - timedelta(seconds=seconds), TEN_MINUTES)
    script = [Answer(200, PADES, headers), Answer(200, PADES, {"date": "soon"}), Answer(200, PADES)]
    async with client_of(*script, clock=clock) as (client, _):
        for _ in script:
            await client.get_pades(URL)
    assert caplog.records == []


async def test_a_chain_that_lacks_an_issuer_is_told(caplog):
    alone = pki.sender().enterprise(cas=[])
    async with client_of(certificate=alone):
        pass
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "the certificate of CN=Sender CA is missing" in warning.getMessage()
    caplog.clear()
    issuers = TrustAnchors().trusting(*[each.pem for each in pki.sender().issuers])
    async with client_of(certificate=alone, trust_anchors=issuers):
        pass
    assert caplog.records == []


async def test_the_packages_own_transport_is_made_and_closed():
    """Without a transport of the caller's own; the proxy's URL is checked on entering."""
    trusting = TrustAnchors().trusting(pki.root().pem)
    for suffix in (None, "shop/1.0"):
        configuration = doubles.configuration(
            None, trust_anchors=trusting, user_agent_suffix=suffix
        )
        async with DirectClient(configuration) as client:
            with pytest.raises(UntrustedUrlError):
                await client.confirm("https://elsewhere.example")
    for fields, said in (
        ({"proxy": "canary:canary"}, "The proxy must be"),
        ({"user_agent_suffix": "Ø"}, "user agent must be printable"),
        ({"max_connections": 0}, "max_connections must be"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            await DirectClient(dataclasses.replace(configuration, **fields)).__aenter__()
        assert "canary" not in doubles.frames_with_locals(caught.value)
