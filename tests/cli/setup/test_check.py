"""`posten-signering check` against the sandbox: a set-up that works, and one for each fault that users have."""

import io
import json
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pki
import pytest
from anyio.from_thread import start_blocking_portal
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    pkcs12,
)
from loopback import answer, closed_port, connect_proxy
from service_files import refuse_host_names, variables

from posten_signering import Environment
from posten_signering._cli.app import run
from posten_signering._cli.options import ServiceOptions
from posten_signering._cli.setup.authorities import authorities_in
from posten_signering._cli.setup.network import clock_step, printable, proxy_step
from posten_signering._cli.setup.settings import given, installation
from posten_signering._cli.setup.steps import (
    ACCESS,
    ANCHORS,
    CERTIFICATE,
    CHAIN,
    CLOCK,
    CONFIGURATION,
    PROXY,
    SENDER,
    TITLES,
    TLS,
    certificate_step,
    topic,
    wrong_environment,
)
from posten_signering.errors import ConfigurationError
from posten_signering.sandbox import Fault, FaultKind, ThreadedSandbox

PREFIX = "POSTEN_SIGNERING_"
OWN, BROKER = "123456789", "987654321"


@pytest.fixture(scope="module")
def other_sandbox():
    """A sandbox with its own CA, in which one organisation has access."""
    with ThreadedSandbox(organizations=frozenset({BROKER})) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch):
    refuse_host_names(monkeypatch)


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs `check` with these variables. Returns the exit status, the steps by name, and the text."""

    def run_check(settings: dict[str, str], *options: str):
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            statuses = [run(["check", *options, "--json"]), run(["check", *options])]
        status = statuses[0]
        assert statuses == [status, status]
        printed = capsys.readouterr().out
        as_json, _, text = printed.partition("\n")
        report = json.loads(as_json)
        assert report["passed"] is (status == 0)
        assert [step["name"] for step in report["steps"]] == list(TITLES)
        for secret in (settings.get(f"{PREFIX}CERTIFICATE_PASSWORD"), "hunter2", "proxyuser"):
            assert not secret or secret not in printed
        return status, {step["name"]: step for step in report["steps"]}, text

    return run_check


def results(steps) -> dict[str, str]:
    return {name: step["result"] for name, step in steps.items()}


def p12(folder: Path, issued: pki.Issued) -> dict[str, str]:
    """The variables for a different certificate."""
    path = folder / "other.p12"
    path.write_bytes(issued.p12(b"correct-horse"))
    return {
        f"{PREFIX}CERTIFICATE": str(path),
        f"{PREFIX}CERTIFICATE_PASSWORD": "correct-horse",
    }


def issued_by(authority: str, **options) -> pki.Issued:
    name = pki.subject("Avsender AS", organization_identifier=f"NTRNO-{OWN}")
    return pki.issue(name, pki.root(authority), **options)


def without_issuers(settings: dict[str, str]) -> dict[str, str]:
    """The sandbox's own certificate, in a file that lacks the certificates of its issuers."""
    path, password = (
        Path(settings[f"{PREFIX}CERTIFICATE"]),
        settings[f"{PREFIX}CERTIFICATE_PASSWORD"],
    )
    key, certificate, _ = pkcs12.load_key_and_certificates(path.read_bytes(), password.encode())
    encryption = BestAvailableEncryption(password.encode())
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(None, key, certificate, None, encryption)
    )
    return {}


class Case:
    """The settings that a fault changes, made from the working ones."""

    @staticmethod
    def wrong_password(settings, folder, sandbox, other):
        return {f"{PREFIX}CERTIFICATE_PASSWORD": "battery-staple"}

    @staticmethod
    def expired_certificate(settings, folder, sandbox, other):
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return p12(
            folder, issued_by("CA", not_before=pki.NOW - timedelta(days=9), not_after=yesterday)
        )

    @staticmethod
    def sandbox_certificate_in_staging(settings, folder, sandbox, other):
        return {f"{PREFIX}SERVICE_ROOT": "", f"{PREFIX}ENVIRONMENT": "staging"}

    @staticmethod
    def test_certificate_in_production(settings, folder, sandbox, other):
        issued = issued_by("Buypass Class 3 Test4 CA G2 ST Business")
        return {f"{PREFIX}SERVICE_ROOT": "", **p12(folder, issued)}

    @staticmethod
    def missing_chain(settings, folder, sandbox, other):
        return without_issuers(settings)

    @staticmethod
    def wrong_clock(settings, folder, sandbox, other):
        sandbox.advance(600)
        return {}

    @staticmethod
    def no_access(settings, folder, sandbox, other):
        return variables(other, folder)

    @staticmethod
    def rate_limit(settings, folder, sandbox, other):
        sandbox.faults.add(Fault(kind=FaultKind.RATE_LIMITED, times=2))
        return {}

    @staticmethod
    def unavailable_service(settings, folder, sandbox, other):
        sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=2))
        return {}

    @staticmethod
    def no_service(settings, folder, sandbox, other):
        return {f"{PREFIX}SERVICE_ROOT": f"https://127.0.0.1:{closed_port()}/api"}

    @staticmethod
    def restarted_sandbox(settings, folder, sandbox, other):
        return {f"{PREFIX}SERVICE_ROOT": other.service_root}

    @staticmethod
    def dead_proxy(settings, folder, sandbox, other):
        return {f"{PREFIX}PROXY": f"http://proxyuser:hunter2@127.0.0.1:{closed_port()}"}

    @staticmethod
    def unknown_host_of_the_proxy(settings, folder, sandbox, other):
        return {f"{PREFIX}PROXY": "http://proxyuser:hunter2@proxy.invalid:3128"}

    @staticmethod
    def no_certificate(settings, folder, sandbox, other):
        return {f"{PREFIX}CERTIFICATE": ""}

    @staticmethod
    def unknown_environment(settings, folder, sandbox, other):
        return {f"{PREFIX}SERVICE_ROOT": "", f"{PREFIX}ENVIRONMENT": "test"}

    @staticmethod
    def no_trust_anchor(settings, folder, sandbox, other):
        return {f"{PREFIX}TRUST_ANCHORS": ""} | p12(folder, issued_by("CA"))

    @staticmethod
    def expired_trust_anchor(settings, folder, sandbox, other):
        root = folder / "root.pem"
        root.write_bytes(
            pki.issue(pki.subject("Old CA"), ca=True, not_after=pki.NOW - timedelta(hours=1)).pem
        )
        return {}

    @staticmethod
    def proxy_that_is_no_url(settings, folder, sandbox, other):
        return {f"{PREFIX}PROXY": "proxyuser:hunter2"}

    @staticmethod
    def key_that_openssl_refuses(settings, folder, sandbox, other):
        return p12(folder, issued_by("CA", key=rsa.generate_private_key(65537, 1024)))

    @staticmethod
    def certificate_without_organization(settings, folder, sandbox, other):
        return p12(folder, pki.issue(pki.subject("Nobody"), pki.root()))

    @staticmethod
    def sender_without_authorization(settings, folder, sandbox, other):
        return {f"{PREFIX}ORGANIZATION_NUMBER": BROKER}


# The fault, the steps that fail, and words of the problem.
CASES = [
    (Case.wrong_password, {CERTIFICATE}, "the password is wrong"),
    (Case.expired_certificate, {CERTIFICATE}, "expired at"),
    (Case.sandbox_certificate_in_staging, {CERTIFICATE}, "the environment is STAGING"),
    (Case.test_certificate_in_production, {CERTIFICATE}, "belongs to STAGING"),
    (Case.missing_chain, {CHAIN}, "The certificate of the issuer"),
    (Case.wrong_clock, {CLOCK}, "seconds behind the service's"),
    (Case.no_access, {ACCESS}, "has no access"),
    (Case.rate_limit, {ACCESS}, "too many calls"),
    (Case.unavailable_service, {ACCESS}, "HTTP 503 .* Run the check again later"),
    (Case.no_service, {TLS}, "Connection refused. Check that the service runs at this URL"),
    (Case.restarted_sandbox, {TLS}, "A sandbox makes a new CA at each start"),
    (Case.dead_proxy, {PROXY}, "Connection refused"),
    (Case.unknown_host_of_the_proxy, {PROXY}, "proxy.invalid:3128 can't be reached: Unknown host"),
    (
        Case.no_certificate,
        {CERTIFICATE},
        "Neither --certificate nor POSTEN_SIGNERING_CERTIFICATE is set",
    ),
    (Case.unknown_environment, {CONFIGURATION}, "POSTEN_SIGNERING_ENVIRONMENT"),
    (Case.no_trust_anchor, {ANCHORS}, "trust.?anchors"),
    (Case.expired_trust_anchor, {ANCHORS}, "None of the trust anchors is valid now"),
    (Case.proxy_that_is_no_url, {PROXY}, "http://"),
    (Case.key_that_openssl_refuses, {TLS}, "OpenSSL rejects the enterprise certificate"),
    (Case.certificate_without_organization, {CERTIFICATE}, "has no organisation number"),
    (Case.sender_without_authorization, {SENDER}, "BROKER_NOT_AUTHORIZED"),
]


@pytest.mark.parametrize(
    ("fault", "failing", "words"), [pytest.param(*case, id=case[0].__name__) for case in CASES]
)
def test_the_output_says_which_step_failed_and_why(
    fault, failing, words, sandbox, other_sandbox, tmp_path, check
):
    working = variables(sandbox, tmp_path)
    try:
        settings = working | fault(working, tmp_path, sandbox, other_sandbox)
        status, steps, text = check(settings)
    finally:
        sandbox.reset()
    assert status == 1
    assert {name for name, result in results(steps).items() if result == "failed"} == failing
    [step] = [steps[name] for name in failing]
    assert re.search(words, step["problem"], re.IGNORECASE)
    assert f"✗ {TITLES[step['name']]}" in text
    assert re.search(words, text, re.IGNORECASE)
    # A certificate that can't be right is never presented to a service.
    reached = failing & {CHAIN, CLOCK, ACCESS, SENDER}
    assert (results(steps)[TLS] == "passed") is bool(reached)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "none is set"),
        ({"ORGANIZATION_NUMBER": OWN}, f"{OWN}, the organisation of the certificate"),
        ({"ORGANIZATION_NUMBER": BROKER}, f"{BROKER}, for which the organisation {OWN} may act"),
    ],
)
def test_a_set_up_that_works_passes_every_step(settings, expected, sandbox, tmp_path, check):
    working = variables(sandbox, tmp_path)
    sandbox.authorize_broker(OWN, BROKER)
    added = {PREFIX + name: value for name, value in settings.items()}
    status, steps, text = check(working | added)
    assert (status, set(results(steps).values())) == (0, {"passed"})
    assert expected in steps[SENDER]["details"][0]
    assert all(f"✓ {title}" in text for title in TITLES.values())
    assert "Python 3." in text
    assert "OpenSSL " in text
    assert f"certificate: {working[f'{PREFIX}CERTIFICATE']} (by {PREFIX}CERTIFICATE)" in text
    assert f"certificate-password: set (by {PREFIX}CERTIFICATE_PASSWORD)" in text
    assert f"organisation number {OWN}" in steps[ACCESS]["details"][0]


def test_an_option_replaces_a_variable_and_is_named(sandbox, tmp_path, check):
    working = variables(sandbox, tmp_path)
    broken = working | {f"{PREFIX}CERTIFICATE": "/nowhere.p12"}
    status, _, text = check(broken, "--certificate", working[f"{PREFIX}CERTIFICATE"])
    assert status == 0
    assert "(by --certificate)" in text
    assert "nowhere" not in text


def test_a_path_that_is_a_key_is_not_printed(sandbox, tmp_path, check):
    settings = variables(sandbox, tmp_path)
    settings[f"{PREFIX}CERTIFICATE"] = pki.sender().key_pem.decode()
    status, steps, text = check(settings)
    assert (status, results(steps)[CERTIFICATE]) == (1, "failed")
    assert "PRIVATE" not in text


def test_an_identity_number_is_not_printed(sandbox, tmp_path, check):
    settings = variables(sandbox, tmp_path) | {f"{PREFIX}POLLING_QUEUE": "018170 99921"}
    _, _, text = check(settings)
    assert "polling-queue: ***********" in text
    assert "99921" not in text


def test_a_proxy_for_other_programs_is_named_but_not_shown(sandbox, tmp_path, check):
    settings = variables(sandbox, tmp_path) | {
        "HTTPS_PROXY": "http://proxyuser:hunter2@proxy",
        "ALL_PROXY": "",
    }
    status, steps, _ = check(settings)
    assert status == 0
    assert "HTTPS_PROXY is set, but the client does not read it" in steps[PROXY]["details"][1]
    assert "ALL_PROXY" not in str(steps)


def test_a_misspelled_variable_is_named_and_not_listed_as_a_setting(sandbox, tmp_path, check):
    settings = variables(sandbox, tmp_path) | {f"{PREFIX}ENVIROMENT": "staging"}
    _, steps, _ = check(settings)
    [line] = [line for line in steps[CONFIGURATION]["details"] if "ENVIROMENT" in line]
    assert line.endswith(f"The nearest known name is {PREFIX}ENVIRONMENT.")


def test_given_anchors_of_a_different_environment_are_named(tmp_path, monkeypatch, check):
    """The real service is never called: the network steps are replaced."""

    monkeypatch.setattr("posten_signering._cli.setup.check.network_steps", lambda configuration: [])
    (tmp_path / "root.pem").write_bytes(pki.root().pem)
    settings = {f"{PREFIX}TRUST_ANCHORS": str(tmp_path), **p12(tmp_path, issued_by("CA"))}
    (tmp_path / "other.p12").rename(tmp_path.parent / "other.p12")
    settings[f"{PREFIX}CERTIFICATE"] = str(tmp_path.parent / "other.p12")
    _, steps, text = check(settings)
    unused = "not used: 1 of the given certificates, because PRODUCTION does not pin them"
    assert unused in steps[ANCHORS]["details"]
    assert "Buypass Class 3 Root CA: pinned for PRODUCTION, valid to 2040-10-26" in text
    assert "environment: production (the default)" in text


def test_a_file_of_a_proxy_that_is_missing_fails_the_step_of_the_proxy(
    sandbox, tmp_path, monkeypatch, check
):
    def fail(options, password):
        raise ConfigurationError("POSTEN_SIGNERING_PROXY_FILE=/nowhere: no such file")

    monkeypatch.setattr(ServiceOptions, "configuration", fail)
    _, steps, _ = check(variables(sandbox, tmp_path))
    assert [name for name, result in results(steps).items() if result == "failed"] == [PROXY]


@pytest.mark.parametrize(
    ("refusal", "status", "words"),
    [
        (None, 0, "accepts connections"),
        (answer(407), 1, "The proxy refused to open a tunnel to the service: HTTP 407"),
    ],
)
def test_a_proxy_that_runs(refusal, status, words, sandbox, tmp_path, check):
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect_proxy(refusal)) as proxy,
    ):
        url = f"http://proxyuser:hunter2@127.0.0.1:{proxy.port}"
        settings = variables(sandbox, tmp_path) | {f"{PREFIX}PROXY": url}
        found, steps, text = check(settings)
    assert found == status
    assert words in text
    assert (steps[PROXY]["problem"] is None) is (status == 0)


def test_a_proxy_that_does_not_react_fails_after_the_timeout(sandbox, monkeypatch):
    def time_out(address, timeout):
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", time_out)
    configuration = sandbox.client_configuration(proxy="http://127.0.0.1:1")
    assert "no connection within 5 seconds" in proxy_step(configuration).problem


@pytest.mark.parametrize("proxy", ["socks5://hunter2@host:1", "http://", "http://host:hunter2"])
def test_a_proxy_that_is_no_url_of_a_proxy_is_not_printed(proxy, sandbox):
    problem = proxy_step(sandbox.client_configuration(proxy=proxy)).problem
    assert "not an http or https URL" in problem
    assert "hunter2" not in problem


def test_a_terminal_without_the_signs_gets_words(sandbox, tmp_path, monkeypatch):
    for name, value in variables(sandbox, tmp_path).items():
        monkeypatch.setenv(name, value)
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", output)
    assert run(["check"]) == 0
    output.flush()
    assert b"[ok] Clock" in output.buffer.getvalue()


@pytest.mark.parametrize(
    ("seconds", "passes"),
    [(-5, True), (-6, False), (6, True), (7, False), (0, True)],
)
def test_the_clock_may_differ_by_as_much_as_the_service_accepts(seconds, passes):
    step = clock_step(timedelta(seconds=seconds))
    assert (step.problem is None) is passes
    assert ("agrees" in str(step)) is (abs(seconds) < 1)


def test_an_unknown_time_of_the_service_is_no_failure():
    assert "not compared" in clock_step(None).details[0]


def test_the_text_of_the_service_is_printed_on_one_short_line():
    assert printable(" a\n\x1b[31mb\t c" + "d" * 1000) == ("a [31mb c" + "d" * 1000)[:300]


def test_a_certificate_of_an_unknown_issuer_may_belong_to_any_environment():
    assert wrong_environment(issued_by("CA").enterprise(), Environment.STAGING) is None
    known = issued_by("Commfides Legal Person - G3 - TEST").enterprise()
    assert wrong_environment(known, Environment.STAGING) is None
    assert wrong_environment(known, None) is None


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ("POSTEN_SIGNERING_TRUST_ANCHORS is not set", ANCHORS),
        ("--trust-anchors=/x: has no certificate", ANCHORS),
        ("There is no trust anchor for STAGING: no certificate has its fingerprint", ANCHORS),
        ("POSTEN_SIGNERING_CERTIFICATE_PASSWORD_FILE=/x: no such file", CERTIFICATE),
        ("--certificate=/x: no such file", CERTIFICATE),
        ("POSTEN_SIGNERING_PROXY: is not a URL", PROXY),
        (
            "POSTEN_SIGNERING_ENVIRONMENT=x: must be the environment of the certificate",
            CONFIGURATION,
        ),
        ("something else", CONFIGURATION),
    ],
)
def test_an_error_belongs_to_the_step_of_the_setting_that_it_names(message, step):
    assert topic(message) == step


@pytest.mark.parametrize(
    ("variables", "environment"),
    [
        ({}, Environment.PRODUCTION),
        ({"ENVIRONMENT": " Difitest"}, Environment.STAGING),
        ({"ENVIRONMENT": "other"}, None),
        ({"SERVICE_ROOT": Environment.STAGING.service_root}, Environment.STAGING),
        ({"SERVICE_ROOT": "https://localhost/api", "ENVIRONMENT": "staging"}, None),
    ],
)
def test_the_installation_that_the_settings_name(variables, environment):
    environ = {PREFIX + name: value for name, value in variables.items()}
    assert installation(given(ServiceOptions(), environ)) == environment


def test_an_option_for_the_environment_replaces_a_service_root():
    environ = {f"{PREFIX}SERVICE_ROOT": "https://localhost/api"}
    settings = given(ServiceOptions(environment="staging"), environ)
    assert installation(settings) == Environment.STAGING


def test_a_certificate_that_is_not_valid_yet_fails():
    certificate = issued_by("CA").enterprise()
    step = certificate_step(certificate, None, now=pki.NOW - timedelta(days=30))
    assert "Check the clock" in step.problem
    [root] = authorities_in([pki.root().der])
    assert root.validity(pki.NOW - timedelta(days=30)).startswith("not valid before ")
