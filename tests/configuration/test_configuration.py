"""The configuration of a client, from values and from environment variables."""

import dataclasses
import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import doubles
import pki
import pytest
from doubles import frames_with_locals, shown_in

from posten_signering import (
    ClientConfiguration,
    Compression,
    Environment,
    FailurePolicy,
    InMemoryFleet,
    RedisFleet,
    Retries,
    Sender,
    Timeouts,
    TrustAnchors,
)
from posten_signering.errors import ArgumentTypeError, ConfigurationError

PASSWORD = "canary-password"
PROXY = "http://user:canary-proxy@proxy.example:8080"
CANARIES = [PASSWORD, "canary"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("certificate") / "enterprise.p12"
    path.write_bytes(pki.sender().p12(PASSWORD.encode()))
    return path


@pytest.fixture
def variables(certificate):
    """Returns the required variables and the given ones. The arguments are their names without the prefix."""

    def make(**given: str) -> dict[str, str]:
        needed = {"CERTIFICATE": str(certificate), "CERTIFICATE_PASSWORD": PASSWORD}
        return {
            "HOME": "/",
            **{f"POSTEN_SIGNERING_{name}": value for name, value in (needed | given).items()},
        }

    return make


@pytest.fixture
def anchors(tmp_path) -> Path:
    """A directory with a CA certificate as PEM, another as DER, and a subdirectory."""
    folder = tmp_path / "anchors"
    (folder / "older").mkdir(parents=True)
    (folder / "root.pem").write_bytes(pki.root().pem)
    (folder / "business.cer").write_bytes(pki.intermediate().der)
    return folder


BOTH = [pki.intermediate().der, pki.root().der]

# --- Values


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


# --- Environment variables


def test_every_variable_is_read(variables, anchors):
    configuration = ClientConfiguration.from_env(
        variables(
            ENVIRONMENT="Staging",
            SERVICE_ROOT="https://service.example/api",
            TRUST_ANCHORS=str(anchors),
            ORGANIZATION_NUMBER="999888777",
            POLLING_QUEUE="shop",
            PROXY=PROXY,
        )
    )
    assert configuration.environment == dataclasses.replace(
        Environment.STAGING, service_root="https://service.example/api"
    )
    assert configuration.certificate == pki.sender().enterprise()
    assert configuration.sender == Sender(organization_number="999888777", polling_queue="shop")
    assert configuration.proxy == PROXY
    assert sorted(configuration.trust_anchors.trusted) == sorted(BOTH)


def test_the_process_environment_is_the_default(variables, monkeypatch):
    for name, value in variables(ORGANIZATION_NUMBER="999888777").items():
        monkeypatch.setenv(name, value)
    configuration = ClientConfiguration.from_env()
    assert configuration.sender == Sender(organization_number="999888777")
    assert configuration.environment is Environment.PRODUCTION


def test_a_certificate_alone_is_enough_for_production(variables):
    configuration = ClientConfiguration.from_env(variables())
    assert configuration == ClientConfiguration(certificate=pki.sender().enterprise())


def test_empty_variables_count_as_unset(variables):
    blank = dict.fromkeys(
        (
            *("ENVIRONMENT", "SERVICE_ROOT", "TRUST_ANCHORS"),
            *("ORGANIZATION_NUMBER", "POLLING_QUEUE", "PROXY"),
        ),
        " ",
    )
    assert ClientConfiguration.from_env(variables(**blank)) == (
        ClientConfiguration.from_env(variables())
    )


def test_a_certificate_file_without_a_password_is_accepted(variables, tmp_path):
    path = tmp_path / "open.p12"
    path.write_bytes(pki.sender().p12(None))
    environ = variables(CERTIFICATE=str(path))
    del environ["POSTEN_SIGNERING_CERTIFICATE_PASSWORD"]
    assert ClientConfiguration.from_env(environ).certificate == pki.sender().enterprise()


def test_white_space_around_a_password_is_kept(variables, tmp_path):
    path = tmp_path / "spaced.p12"
    path.write_bytes(pki.sender().p12(b" canary "))
    environ = variables(CERTIFICATE=str(path), CERTIFICATE_PASSWORD=" canary ")
    assert ClientConfiguration.from_env(environ).certificate == pki.sender().enterprise()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("production", Environment.PRODUCTION),
        ("PRODUCTION", Environment.PRODUCTION),
        ("staging", Environment.STAGING),
        ("DifiTest", Environment.STAGING),
    ],
)
def test_the_name_of_an_environment_may_have_any_case(variables, name, expected):
    environ = variables(ENVIRONMENT=name, SERVICE_ROOT="https://service.example/api")
    if expected is Environment.PRODUCTION:
        assert ClientConfiguration.from_env(variables(ENVIRONMENT=name)).environment is expected
    else:
        with pytest.raises(ConfigurationError, match="no trust anchor for STAGING"):
            ClientConfiguration.from_env(variables(ENVIRONMENT=name))
        environ["POSTEN_SIGNERING_TRUST_ANCHORS"] = ""
        with pytest.raises(ConfigurationError, match="no trust anchor for STAGING"):
            ClientConfiguration.from_env(environ)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), (" 2.5 ", 2.5), ("86400", 86400)])
def test_the_default_poll_wait_is_read_in_seconds(variables, text, seconds):
    environment = ClientConfiguration.from_env(variables(DEFAULT_POLL_WAIT=text)).environment
    wait = timedelta(seconds=seconds)
    assert environment == dataclasses.replace(Environment.PRODUCTION, default_poll_wait=wait)


@pytest.mark.parametrize(
    "text",
    ["30s", "nan", "inf", "-1", "0", "0.0001", "1e3", "86401", "9" * 400, "٣", "1_0", "PT30S"],
)
def test_a_default_poll_wait_that_is_not_a_sensible_number_is_refused(variables, text):
    expected = "POSTEN_SIGNERING_DEFAULT_POLL_WAIT is .* a number of seconds from 0.001 to 86400"
    with pytest.raises(ConfigurationError, match=expected):
        ClientConfiguration.from_env(variables(DEFAULT_POLL_WAIT=text))


@pytest.mark.parametrize(("name", "expected"), [(None, "custom"), ("sandbox", "sandbox")])
def test_with_a_custom_service_root_the_given_anchors_are_trusted(
    variables, anchors, name, expected
):
    """They need no listed fingerprint, and the trust anchors of production are not used."""
    environ = variables(SERVICE_ROOT="https://localhost:8443/api", TRUST_ANCHORS=str(anchors))
    if name:
        environ["POSTEN_SIGNERING_ENVIRONMENT"] = name
    configuration = ClientConfiguration.from_env(environ)
    assert configuration.environment == Environment(
        name=expected, service_root="https://localhost:8443/api"
    )
    assert configuration.trust_anchors.candidates == ()
    assert sorted(configuration.trust_anchors.trusted) == sorted(BOTH)


def test_with_a_custom_service_root_one_file_of_anchors_is_enough(variables, anchors):
    environ = variables(
        SERVICE_ROOT="https://localhost:8443/api", TRUST_ANCHORS=str(anchors / "root.pem")
    )
    assert ClientConfiguration.from_env(environ).trust_anchors.trusted == (pki.root().der,)


@pytest.mark.parametrize(
    ("value", "message"),
    [(pki.root().pem.decode(), "is the content of a file"), ("x" * 5000, "File name too long")],
)
def test_trust_anchors_that_are_no_path_are_refused(variables, value, message):
    with pytest.raises(ConfigurationError, match=message):
        ClientConfiguration.from_env(variables(TRUST_ANCHORS=value))


def test_without_a_custom_service_root_only_listed_anchors_are_trusted(variables, anchors):
    for path, expected in ((anchors, BOTH), (anchors / "root.pem", [pki.root().der])):
        configuration = ClientConfiguration.from_env(variables(TRUST_ANCHORS=str(path)))
        assert sorted(configuration.trust_anchors.candidates) == sorted(expected)
        assert configuration.trust_anchors.trusted == ()
        selected = configuration.trust_anchors.select(
            configuration.environment, certificate=configuration.certificate
        )
        assert not set(selected) & set(BOTH)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CERTIFICATE": ""}, "POSTEN_SIGNERING_CERTIFICATE is not set"),
        ({"CERTIFICATE": "gone.p12"}, "PKCS#12 file can't be read"),
        ({"CERTIFICATE": "-----BEGIN PRIVATE KEY-----\ncanary"}, "given as text in PEM form"),
        ({"CERTIFICATE_PASSWORD": "canary"}, "password is wrong"),
        ({"ENVIRONMENT": "prod"}, "must be one of production, staging, difitest"),
        ({"SERVICE_ROOT": "http://service.example"}, "must be an absolute https URL"),
        ({"SERVICE_ROOT": "https://service.example/api"}, "no trust anchor for custom"),
        ({"TRUST_ANCHORS": "gone"}, "gone can't be read"),
        ({"TRUST_ANCHORS": "gone", "SERVICE_ROOT": "https://s.example"}, "gone can't be read"),
        ({"POLLING_QUEUE": "shop"}, "POLLING_QUEUE is set without POSTEN_SIGNERING_ORG"),
    ],
)
def test_an_error_names_what_is_wrong_and_shows_no_secret(variables, changes, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        ClientConfiguration.from_env(variables(PROXY=PROXY, **changes))
    shown = frames_with_locals(caught.value)
    assert "from_env" in shown
    assert shown_in(shown, CANARIES) == []


def test_a_file_that_is_not_a_certificate_is_named(variables, anchors):
    (anchors / "readme.txt").write_bytes(b"not a certificate")
    (anchors / ".gitkeep").touch()
    for root in ({}, {"SERVICE_ROOT": "https://localhost:8443/api"}):
        with pytest.raises(ConfigurationError, match=r"readme\.txt") as caught:
            ClientConfiguration.from_env(variables(TRUST_ANCHORS=str(anchors), **root))
        assert ".gitkeep" not in str(caught.value)
