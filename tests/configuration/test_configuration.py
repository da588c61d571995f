"""The values of a client's configuration. Environment variables are in `test_variables`."""

import dataclasses
import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import doubles
import pki
import pytest

from posten_signering import (
    ClientConfiguration,
    Compression,
    Environment,
    FailurePolicy,
    InMemoryFleet,
    RedisFleet,
    Retries,
    Timeouts,
    TrustAnchors,
)
from posten_signering.errors import ArgumentTypeError, ConfigurationError


@pytest.mark.parametrize("name", ["connect", "api", "download"])
@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf])
def test_a_timeout_must_be_positive(name, seconds):
    with pytest.raises(ConfigurationError, match=rf"Timeouts\.{name} must be more than 0"):
        Timeouts(**{name: seconds})


def test_any_positive_timeout_is_accepted():
    timeouts = Timeouts(connect=0.001, api=1, download=math.inf)
    assert (timeouts.connect, timeouts.api, timeouts.download) == (0.001, 1, math.inf)
    assert Timeouts().connect < Timeouts().api < Timeouts().download


def test_a_configuration_needs_a_trust_anchor_of_its_environment():
    with pytest.raises(ConfigurationError, match="no trust anchor for STAGING") as caught:
        doubles.configuration(None, environment=Environment.STAGING)
    assert "TrustAnchors.fetch" in str(caught.value)
    assert "http://crt.test4.buypassca.com/BPCl3RootCaG2ST.cer" in str(caught.value)


def test_trust_anchors_of_another_environment_do_not_count():
    """Certifi contains an anchor of production, so only production needs no file."""
    assert doubles.configuration(None, environment=Environment.PRODUCTION).transport is None
    certifi_only = TrustAnchors().select(Environment.PRODUCTION, certificate=None)
    with pytest.raises(ConfigurationError, match="no trust anchor for STAGING"):
        doubles.configuration(
            None,
            environment=Environment.STAGING,
            trust_anchors=TrustAnchors(candidates=certifi_only),
        )


def test_a_custom_transport_needs_no_trust_anchor():
    doubles.configuration(doubles.ScriptedTransport(), environment=Environment.STAGING)


def test_an_explicitly_trusted_anchor_is_enough():
    trusting = TrustAnchors().trusting(pki.root().pem)
    configuration = doubles.configuration(
        None, environment=Environment.STAGING, trust_anchors=trusting
    )
    assert configuration.trust_anchors is trusting
    with pytest.raises(ConfigurationError):
        dataclasses.replace(configuration, trust_anchors=TrustAnchors())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("fleet", value) for value in ("redis://:canary@host", RedisFleet, 5)],
        *[("observers", print), ("environment", "staging"), ("certificate", "canary.p12")],
        *[("trust_anchors", "anchors"), ("sender", pki.SENDER), ("timeouts", 10), ("retries", 2)],
        *[("proxy", b"http://:canary@host"), ("user_agent_suffix", 1), ("compression", True)],
        *[("max_connections", value) for value in ("8", 8.0, True, None)],
        ("max_bytes_in_memory", "64"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(name, value):
    with pytest.raises(ArgumentTypeError, match=f"^The argument {name} must be ") as caught:
        doubles.configuration(None, **{name: value})
    assert "canary" not in doubles.frames_with_locals(caught.value)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        *[(Timeouts, name, value) for name in ("connect", "api") for value in ("10", None, True)],
        (Timeouts, "download", timedelta(seconds=1)),
        *[(Retries, name, value) for name in ("max_retries", "budget") for value in ("2", 2.0)],
        *[(Retries, "longest_retry_after", value) for value in (20, None)],
        *[(FailurePolicy, "max_failures", value) for value in ("3", 3.0, math.nan, True)],
        *[(FailurePolicy, "max_outage", value) for value in ("3", 60)],
        (FailurePolicy, "on_failure", "log"),
        *[(InMemoryFleet, "share", value) for value in ("1", True)],
        *[(partial(RedisFleet, "redis://redis"), "share", value) for value in ("1", None, True)],
        (partial(RedisFleet, "redis://redis"), "members_at_least", True),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused(make, name, value):
    message = rf"^The argument (\w+\.)?{name} must be .*, not {type(value).__name__}\.$"
    with pytest.raises(ArgumentTypeError, match=message):
        make(**{name: value})


@pytest.mark.parametrize("make", [InMemoryFleet, partial(RedisFleet, "redis://redis")])
def test_a_share_that_is_no_number_is_refused(make):
    with pytest.raises(ConfigurationError, match="share must be above 0 and at most 1"):
        make(share=math.nan)


def test_the_defaults_are_production_and_the_system_clocks():
    configuration = ClientConfiguration(certificate=pki.sender().enterprise())
    assert configuration.environment is Environment.PRODUCTION
    assert configuration.environment.service_root == "https://api.signering.posten.no/api"
    assert configuration.clock().tzinfo is UTC
    assert configuration.clock() >= datetime(2026, 1, 1, tzinfo=UTC)
    assert (configuration.sleep, configuration.monotonic) == (anyio.sleep, time.monotonic)
    assert configuration.compression is Compression.STORED
    assert (configuration.sender, configuration.proxy, configuration.transport) == (None,) * 3
    assert configuration.bundle_processors == ()
    assert configuration.timeouts == Timeouts()
