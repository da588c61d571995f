"""Entering and closing a client, and the warnings that it logs."""

import asyncio
import dataclasses
import logging
import platform
from datetime import timedelta
from email.utils import format_datetime
from importlib.metadata import version

import anyio.lowlevel
import doubles
import pki
import pytest
from client_calls import OPERATIONS, URL, all_calls, consumed, status
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
    Environment,
    TrustAnchors,
)
from posten_signering._client import lifecycle
from posten_signering._wire import xml
from posten_signering.errors import (
    ApiError,
    ClientStateError,
    ConfigurationError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio

# --- Entering and closing


@pytest.mark.parametrize("name", OPERATIONS)
async def test_operations_of_a_client_that_was_not_entered_raise(name, tmp_path):
    transport = ScriptedTransport()
    client = DirectClient(doubles.configuration(transport))
    with pytest.raises(ClientStateError, match="was not entered: use it in `async with"):
        await all_calls(tmp_path / "signed")[name](client)
    assert transport.sent == []


@pytest.mark.parametrize("name", OPERATIONS)
async def test_operations_of_a_closed_client_raise(name, tmp_path):
    async with client_of() as (client, transport):
        pass
    with pytest.raises(ClientStateError, match="is closed: create a new one"):
        await all_calls(tmp_path / "signed")[name](client)
    assert transport.sent == []
    assert list(tmp_path.iterdir()) == []


async def test_confirming_without_a_url_needs_an_open_client_too():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    with pytest.raises(ClientStateError, match="was not entered"):
        await client.confirm(status())


async def test_a_client_can_be_entered_only_once():
    async with client_of() as (client, transport):
        with pytest.raises(ClientStateError, match="is open already: share it"):
            await client.__aenter__()
        assert transport.closed == 0
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_only_one_of_two_concurrent_tasks_can_enter_a_client():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    results = await asyncio.gather(client.__aenter__(), client.__aenter__(), return_exceptions=True)
    await client.aclose()
    assert {type(result) for result in results} == {DirectClient, ClientStateError}


async def test_a_client_that_is_closed_while_it_is_being_entered_stays_closed():
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


async def test_a_client_that_is_closed_before_entering_fails_stays_closed(monkeypatch):
    started, may_fail = anyio.Event(), anyio.Event()

    async def fail(configuration, current_send):
        started.set()
        await may_fail.wait()
        raise ConfigurationError("It can't be used.")

    monkeypatch.setattr(lifecycle, "open_client", fail)
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    entering = asyncio.ensure_future(client.__aenter__())
    await started.wait()
    await client.aclose()
    may_fail.set()
    with pytest.raises(ConfigurationError):
        await entering
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_a_client_with_an_expired_certificate_that_is_closed_while_entering_stays_closed():
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


async def test_a_client_can_be_closed_without_having_been_entered():
    transport = ScriptedTransport()
    client = DirectClient(doubles.configuration(transport))
    await client.aclose()
    assert transport.closed == 0
    with pytest.raises(ClientStateError, match="is closed"):
        await client.__aenter__()


async def test_an_exception_in_the_block_closes_the_client_and_propagates():
    transport = ScriptedTransport()
    with pytest.raises(ZeroDivisionError):
        async with DirectClient(doubles.configuration(transport)):
            raise ZeroDivisionError
    assert transport.closed == 1


async def test_a_client_that_failed_to_enter_can_be_entered_later():
    """The certificate is checked with the configured clock."""
    clock = Clock(pki.NOW + timedelta(days=1000))
    client = DirectClient(doubles.configuration(ScriptedTransport(), clock=clock))
    with pytest.raises(ConfigurationError, match="expired"):
        await client.__aenter__()
    with pytest.raises(ClientStateError, match="was not entered"):
        await client.check_access()
    clock.now = pki.NOW
    async with client:
        pass


async def test_entering_sends_nothing_and_the_repr_shows_no_values():
    async with client_of() as (client, transport):
        assert transport.sent == []
        assert repr(client) == object.__repr__(client)
        assert client.configuration.transport is transport


async def test_operations_can_be_interleaved_in_one_task():
    """Two downloads and a confirmation."""
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
async def test_a_wrong_clock_is_logged_once(caplog, seconds):
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
        # The warning is logged again after the clock was right in between.
        await client.get_pades(URL)
        await client.get_pades(URL)
    assert len(caplog.records) == 2


async def test_a_clock_at_the_limit_is_not_logged_repeatedly(caplog):
    """`Date` has whole seconds only: a clock that is 5.5 seconds off is measured as 5 to 6.5 seconds off."""
    clock = Clock()
    measured = [5.0, 6.4, 5.2, 6.3, 4.5, 6.4, 2.5, 6.4]
    script = [
        Answer(200, PADES, {"date": format_datetime(clock.now - timedelta(seconds=seconds))})
        for seconds in measured
    ]
    async with client_of(*script, clock=clock) as (client, _):
        for _ in measured:
            await client.get_pades(URL)
    assert len(caplog.records) == 2  # the second one after the clock was right


@pytest.mark.parametrize("seconds", [-5, 0, 5])
async def test_a_clock_within_the_tolerance_of_the_service_is_not_logged(caplog, seconds):
    clock = Clock()
    headers = poll_headers(clock.now - timedelta(seconds=seconds), TEN_MINUTES)
    script = [Answer(200, PADES, headers), Answer(200, PADES, {"date": "soon"}), Answer(200, PADES)]
    async with client_of(*script, clock=clock) as (client, _):
        for _ in script:
            await client.get_pades(URL)
    assert caplog.records == []


async def test_a_missing_issuer_in_the_certificate_chain_is_logged(caplog):
    alone = pki.sender().enterprise(cas=[])
    async with client_of(certificate=alone):
        pass
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "the certificate of CN=Sender CA is missing" in warning.getMessage()
    caplog.clear()
    issuers = TrustAnchors().trusting(*[issuer.pem for issuer in pki.sender().issuers])
    async with client_of(certificate=alone, trust_anchors=issuers):
        pass
    assert caplog.records == []


async def test_certificates_for_a_different_environment_are_logged_when_the_client_is_entered(
    caplog,
):
    """The configuration is valid, because certifi has one trust anchor of production."""
    production = {"environment": Environment.PRODUCTION}
    wrong = TrustAnchors.from_pem(pki.root().pem)
    async with DirectClient(doubles.configuration(None, trust_anchors=wrong, **production)):
        pass
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "given 1 certificate(s), but PRODUCTION uses none of them" in warning.getMessage()
    caplog.clear()
    async with DirectClient(doubles.configuration(None, **production)):
        pass
    assert caplog.records == []


async def test_entering_a_client_loads_the_schema():
    """Otherwise the first small job would load it in the event loop."""
    xml._loaded_schema.cache_clear()
    async with DirectClient(doubles.configuration(ScriptedTransport())):
        assert xml._loaded_schema.cache_info().currsize == 1


async def test_the_user_agent_names_the_versions_of_the_package_and_of_python():
    product = f"posten-signering/{version('posten-signering')} (Python {platform.python_version()})"
    assert lifecycle._user_agent(None) == product
    assert lifecycle._user_agent("shop/1.0") == f"{product} (shop/1.0)"


async def test_without_a_custom_transport_the_client_creates_and_closes_its_own():
    """Entering the client checks the values that the transport uses."""
    trusting = TrustAnchors().trusting(pki.root().pem)
    for suffix in (None, "shop/1.0"):
        configuration = doubles.configuration(
            None, trust_anchors=trusting, user_agent_suffix=suffix
        )
        async with DirectClient(configuration) as client:
            with pytest.raises(UntrustedUrlError):
                await client.confirm("https://elsewhere.example")
    for fields, message in (
        ({"proxy": "canary:canary"}, "The proxy must be"),
        ({"user_agent_suffix": "Ø"}, "user agent must be printable"),
        ({"max_connections": 0}, "max_connections must be"),
    ):
        with pytest.raises(ConfigurationError, match=message) as caught:
            await DirectClient(dataclasses.replace(configuration, **fields)).__aenter__()
        assert "canary" not in doubles.frames_with_locals(caught.value)
