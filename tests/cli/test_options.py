"""The options that name the service and the certificate, and the arguments that are secrets."""

import io
import signal

import pytest

from posten_signering._cli.options import ServiceOptions, interruptible, secret
from posten_signering.errors import ConfigurationError


def test_an_option_replaces_its_variable(variables):
    options = ServiceOptions(organization_number="987654321", polling_queue="shop")
    sender = options.configuration().sender
    assert (sender.organization_number, sender.polling_queue) == ("987654321", "shop")
    assert ServiceOptions().configuration().sender.organization_number == "123456789"


def test_a_message_names_the_option_that_was_given(variables):
    with pytest.raises(ConfigurationError, match="--polling-queue") as raised:
        _without_organization(variables, ServiceOptions(polling_queue="shop"))
    assert "POSTEN_SIGNERING_ORGANIZATION_NUMBER" in str(raised.value)
    assert "POSTEN_SIGNERING_POLLING_QUEUE" not in str(raised.value)


def _without_organization(variables, options):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POSTEN_SIGNERING_ORGANIZATION_NUMBER")
        options.configuration()


def test_a_name_that_begins_with_the_name_of_a_given_option_stays_whole(monkeypatch, variables):
    message = "POSTEN_SIGNERING_CERTIFICATE_PASSWORD is wrong for POSTEN_SIGNERING_CERTIFICATE."

    def refuse(_environ):
        raise ConfigurationError(message)

    monkeypatch.setattr("posten_signering._cli.options.ClientConfiguration.from_env", refuse)
    with pytest.raises(ConfigurationError) as raised:
        ServiceOptions(certificate="x.p12").configuration()
    assert str(raised.value) == (
        "POSTEN_SIGNERING_CERTIFICATE_PASSWORD is wrong for --certificate."
    )


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({"certificate_password_file": "password.txt"}, "CERTIFICATE_PASSWORD"),
        ({"proxy_file": "proxy.txt"}, "PROXY"),
        ({"environment": "staging"}, "SERVICE_ROOT"),
    ],
)
def test_an_option_hides_a_variable_that_contradicts_it(monkeypatch, variables, options, hidden):
    monkeypatch.setenv("POSTEN_SIGNERING_PROXY", "http://127.0.0.1:1")
    read = {}

    def from_env(environ):
        read.update(environ)

    monkeypatch.setattr("posten_signering._cli.options.ClientConfiguration.from_env", from_env)
    ServiceOptions(**options).configuration()
    assert f"POSTEN_SIGNERING_{hidden}" not in read
    [(name, value)] = options.items()
    assert read[f"POSTEN_SIGNERING_{name.upper()}"] == value
    ServiceOptions().configuration()
    assert f"POSTEN_SIGNERING_{hidden}" in read


def test_an_environment_as_an_option_is_not_the_sandbox_of_the_variables(command, variables):
    ran = command("poll", "--environment", "staging")
    assert ran.status == 2
    assert "There is no trust anchor for STAGING" in ran.err


def test_no_certificate_is_an_error_that_names_the_option_and_the_variable(command):
    ran = command("poll")
    assert ran.status == 2
    assert ran.err.startswith(
        "Neither --certificate nor POSTEN_SIGNERING_CERTIFICATE is set. Set one of them to the path of"
    )


def test_a_missing_password_is_an_error_that_names_the_option(command, variables, monkeypatch):
    monkeypatch.delenv("POSTEN_SIGNERING_CERTIFICATE_PASSWORD")
    assert "or use --certificate-password-file." in command("poll").err


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_standard_input_without_the_expected_line_is_an_error(command, stdin):
    ran = command("confirm", stdin=stdin)
    assert ran.status == 2
    assert "Standard input has no confirmation URL." in ran.err


def test_standard_input_that_is_not_utf8_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xf8\n"), encoding="utf-8"))
    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        secret("URL")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.getsignal(signal.SIGINT)])
def test_the_handler_of_ctrl_c_is_replaced_only_where_there_is_one(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with interruptible():
            inside = signal.getsignal(signal.SIGINT)
        assert inside == (handler if handler == signal.SIG_IGN else signal.default_int_handler)
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_closed_standard_input_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigurationError, match="Standard input has no URL"):
        secret("URL")
