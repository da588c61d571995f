"""The configuration of a client from environment variables: what each of them does, and what is wrong with a value."""

import base64
import dataclasses
import logging
import re
import sys
from datetime import timedelta
from pathlib import Path

import pki
import pytest
from doubles import frames_with_locals, shown_in

from posten_signering import (
    ClientConfiguration,
    Environment,
    InMemoryFleet,
    RedisFleet,
    Retries,
    Sender,
    Timeouts,
)
from posten_signering._configuration.variables import PREFIX, VARIABLES
from posten_signering.errors import ConfigurationError

PASSWORD = "canary-password"
PROXY = "http://user:canary-proxy@proxy.example:8080"
REDIS = "rediss://:canary-redis@redis.example:6379/0"
ROOT = "https://localhost:8443/api"
OWN_SERVICE = {"SERVICE_ROOT": ROOT, "TRUST_ANCHORS": "{folder}/anchors"}
KEY = pki.sender().key_pem.decode()
PKCS12_IN_BASE64 = base64.b64encode(pki.sender().p12(PASSWORD.encode())).decode()
# Parts of secrets, which no error may show.
CANARIES = ["canary", "BEGIN", "MII", *KEY.split()[4:10], "17885599999"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with certificates, secrets and trust anchors, right and wrong ones."""
    folder = tmp_path_factory.mktemp("run")
    content = pki.sender().p12(PASSWORD.encode())
    files = {
        "client.p12": content,
        "open.p12": pki.sender().p12(None),
        "spaced.p12": pki.sender().p12(b" canary "),
        "cut-off.p12": content[:-100],
        "base64.p12": base64.b64encode(content),
        "pem.p12": pki.sender().pem,
        "text.p12": b"canary",
        "root.der": pki.root().der,
        "signing.p12": pki.issue(pki.subject("Sender"), pki.root(), usage="content_commitment").p12(
            PASSWORD.encode()
        ),
        "empty": b"",
        "large": b"x" * (1024 * 1024 + 1),
        "latin-1": "canary-æøå".encode("latin-1"),
        "utf-16": f"{PASSWORD}\n".encode("utf-16"),
        "password": f"{PASSWORD}\n".encode(),
        "password-windows": f"\ufeff{PASSWORD}\r\n".encode(),
        "password-two-lines": f"{PASSWORD}\n\n".encode(),
        "wrong-password": b"canary-wrong\n",
        "proxy": f"{PROXY}\n".encode(),
        "no-proxy": b"socks5://user:canary@proxy.example\n",
        "redis": f"{REDIS}\n".encode(),
        "anchors/root.pem": pki.root().pem,
        "anchors/business.cer": pki.intermediate().der,
        "anchors/.gitkeep": b"",
        "anchors/older/.gitkeep": b"",
        "readme/readme.txt": b"not a certificate",
        "no-anchors/.gitkeep": b"",
    }
    for name, file_content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file_content)
    return folder


@pytest.fixture
def variables(folder):
    """Returns the required variables and the given ones, by their names without the prefix. None: not set."""

    def make(**given: str | None) -> dict[str, str]:
        needed = {"CERTIFICATE": "{folder}/client.p12", "CERTIFICATE_PASSWORD": PASSWORD}
        return {
            "HOME": "/",
            **{
                f"POSTEN_SIGNERING_{name}": value.replace("{folder}", str(folder))
                for name, value in (needed | given).items()
                if value is not None
            },
        }

    return make


BOTH = [pki.intermediate().der, pki.root().der]
FROM_FILE = {"CERTIFICATE_PASSWORD": None}

# Variables without the prefix, and the settings that they have as a result. Each variable appears.
RIGHT = [
    ({}, {}),
    ({"CERTIFICATE": "{folder}/open.p12", "CERTIFICATE_PASSWORD": None}, {}),
    ({"CERTIFICATE": "{folder}/open.p12", "CERTIFICATE_PASSWORD": ""}, {}),
    ({"CERTIFICATE": "{folder}/spaced.p12", "CERTIFICATE_PASSWORD": " canary "}, {}),
    (FROM_FILE | {"CERTIFICATE_PASSWORD_FILE": "{folder}/password"}, {}),
    (FROM_FILE | {"CERTIFICATE_PASSWORD_FILE": "{folder}/password-windows"}, {}),
    ({"CERTIFICATE_PASSWORD": "", "CERTIFICATE_PASSWORD_FILE": "{folder}/password"}, {}),
    ({"ENVIRONMENT": "production"}, {"environment": Environment.PRODUCTION}),
    ({"ENVIRONMENT": " PRODUCTION "}, {"environment": Environment.PRODUCTION}),
    (OWN_SERVICE, {"environment": Environment(name="custom", service_root=ROOT)}),
    (
        OWN_SERVICE | {"ENVIRONMENT": "Sandbox"},
        {"environment": Environment(name="Sandbox", service_root=ROOT)},
    ),
    (
        {"ENVIRONMENT": "production", "SERVICE_ROOT": ROOT},
        {"environment": dataclasses.replace(Environment.PRODUCTION, service_root=ROOT)},
    ),
    (
        {"ENVIRONMENT": "production", "SERVICE_ROOT": Environment.PRODUCTION.service_root},
        {"environment": Environment.PRODUCTION},
    ),
    (
        {"ORGANIZATION_NUMBER": " 999888777 "},
        {"sender": Sender(organization_number="999888777")},
    ),
    (
        {"ORGANIZATION_NUMBER": "999888777", "POLLING_QUEUE": "shop"},
        {"sender": Sender(organization_number="999888777", polling_queue="shop")},
    ),
    ({"PROXY": PROXY}, {"proxy": PROXY}),
    ({"PROXY_FILE": "{folder}/proxy"}, {"proxy": PROXY}),
    *[
        (
            {"DEFAULT_POLL_WAIT": text},
            {
                "environment": dataclasses.replace(
                    Environment.PRODUCTION, default_poll_wait=timedelta(seconds=seconds)
                )
            },
        )
        for text, seconds in [("30", 30), (" 2.5 ", 2.5), ("86400", 86400)]
    ],
    ({"TIMEOUT_CONNECT": "2.5"}, {"timeouts": Timeouts(connect=2.5)}),
    ({"TIMEOUT_API": "30."}, {"timeouts": Timeouts(api=30)}),
    ({"TIMEOUT_DOWNLOAD": "3600"}, {"timeouts": Timeouts(download=3600)}),
    ({"MAX_CONNECTIONS": "16"}, {"max_connections": 16}),
    ({"RETRIES": "0"}, {"retries": Retries(max_retries=0)}),
    ({"REDIS_URL": REDIS}, {"fleet": RedisFleet(REDIS)}),
    *[
        ({"REDIS_URL": url}, {"fleet": RedisFleet(url)})
        for url in ("redis://redis.example", "unix:///run/redis.sock")
    ],
    ({"REDIS_URL_FILE": "{folder}/redis"}, {"fleet": RedisFleet(REDIS)}),
    ({"REDIS_URL": REDIS, "FLEET_SHARE": "0.5"}, {"fleet": RedisFleet(REDIS, share=0.5)}),
    (dict.fromkeys((row.name for row in VARIABLES if "CERT" not in row.name), " "), {}),
]


@pytest.mark.parametrize(("given", "expected"), RIGHT)
def test_right_values_have_their_effect(variables, given, expected):
    environ = variables(**given)
    configuration = ClientConfiguration.from_env(environ)
    default = ClientConfiguration(certificate=pki.sender().enterprise())
    settings = {"trust_anchors": configuration.trust_anchors} | expected
    assert configuration == dataclasses.replace(default, **settings)


def test_the_table_has_the_defaults_of_the_code():
    configuration = ClientConfiguration(certificate=pki.sender().enterprise())
    timeouts = configuration.timeouts
    settings = {
        "TIMEOUT_CONNECT": timeouts.connect,
        "TIMEOUT_API": timeouts.api,
        "TIMEOUT_DOWNLOAD": timeouts.download,
        "MAX_CONNECTIONS": configuration.max_connections,
        "RETRIES": configuration.retries.max_retries,
        "FLEET_SHARE": RedisFleet(REDIS).share,
    }
    assert {name: f"{value:g}" for name, value in settings.items()} == {
        row.name: row.default for row in VARIABLES if row.name in settings
    }
    waits = {
        environment.default_poll_wait.total_seconds()
        for environment in (Environment.PRODUCTION, Environment(name="a", service_root=ROOT))
    }
    assert waits == {600}
    assert Environment.STAGING.default_poll_wait.total_seconds() == 30


def test_a_share_without_redis_is_that_of_the_process(variables, monkeypatch):
    shares = []
    monkeypatch.setattr(InMemoryFleet, "__init__", lambda self, *, share: shares.append(share))
    configuration = ClientConfiguration.from_env(variables(FLEET_SHARE=".25"))
    assert isinstance(configuration.fleet, InMemoryFleet)
    assert shares == [0.25]


def test_every_variable_is_among_the_right_and_the_wrong_values():
    """Those of trust anchors have tests of their own."""
    names = {row.name for row in VARIABLES}
    blank = RIGHT[-1]
    assert {name for row in RIGHT if row is not blank for name in row[0]} | {"FLEET_SHARE"} == names
    assert {row[1] for row in WRONG} == names


def test_the_process_environment_is_the_default(variables, monkeypatch):
    for name, value in variables(ORGANIZATION_NUMBER="999888777").items():
        monkeypatch.setenv(name, value)
    configuration = ClientConfiguration.from_env()
    assert configuration.sender == Sender(organization_number="999888777")
    assert configuration.environment is Environment.PRODUCTION


SECONDS = "must be a number of seconds from 0.001 to 3600, such as"
COUNT = "must be a whole number from"
NOT_SHOWN = r" \(its value is not shown, because it may be a secret\): "
NO_PATH = "(no such file or directory|file name too long)"
NO_SUCH_FILE = "no such file or directory. It must be the path of"
PROXY_RULE = "the proxy must be an http or https URL of a host"
ENVIRONMENTS = "must be `production`, `staging`, `difitest` .*, or `sandbox`"

# Variables without the prefix, the variable that the message names first, and the rest of the message.
WRONG: list[tuple[dict[str, str | None], str, str]] = [
    ({"CERTIFICATE": None}, "CERTIFICATE", " is not set. Set it to the path of"),
    ({"CERTIFICATE": " "}, "CERTIFICATE", " is not set. Set it to the path of"),
    (
        {"CERTIFICATE": "/run/secrets/x.p12"},
        "CERTIFICATE",
        f"=/run/secrets/x.p12: {NO_SUCH_FILE} the enterprise certificate's PKCS#12 file",
    ),
    ({"CERTIFICATE": "gone.p12"}, "CERTIFICATE", f"=gone.p12: {NO_SUCH_FILE}"),
    (
        {"CERTIFICATE": "/run/MIGRATION/secrets/of/posten/signering/staging.p12"},
        "CERTIFICATE",
        f"=/run/MIGRATION/secrets/of/posten/signering/staging.p12: {NO_SUCH_FILE}",
    ),
    ({"CERTIFICATE": "~/x.p12"}, "CERTIFICATE", "=~/x.p12: no such .* Write the path in full"),
    ({"CERTIFICATE": "'/x.p12'"}, "CERTIFICATE", f"{NOT_SHOWN}the value is in quotation marks"),
    ({"CERTIFICATE": "{folder}"}, "CERTIFICATE", "=.*/run0: is a directory"),
    ({"CERTIFICATE": "{folder}/empty"}, "CERTIFICATE", "=.*/empty: the file is empty"),
    ({"CERTIFICATE": "{folder}/large"}, "CERTIFICATE", "=.*/large: the file is larger than"),
    ({"CERTIFICATE": "/x\0.p12"}, "CERTIFICATE", f"{NOT_SHOWN}not a path"),
    ({"CERTIFICATE": "$HOME/x.p12"}, "CERTIFICATE", "=.HOME/x.p12: no such .* Write the path in"),
    ({"CERTIFICATE": KEY}, "CERTIFICATE", f"{NOT_SHOWN}{NO_PATH}.* is the content of a file"),
    ({"CERTIFICATE": KEY[:150]}, "CERTIFICATE", f"{NOT_SHOWN}no such .* is the content of a file"),
    (
        {"CERTIFICATE": PKCS12_IN_BASE64},
        "CERTIFICATE",
        f"{NOT_SHOWN}{NO_PATH}.* is the content of a file",
    ),
    *[
        ({"CERTIFICATE": password}, "CERTIFICATE", f"{NOT_SHOWN}no such file")
        for password in (PASSWORD, f"/{PASSWORD}", f"~{PASSWORD}")
    ],
    ({"CERTIFICATE": "{folder}/text.p12"}, "CERTIFICATE", "=.*: The file is not PKCS#12. Use"),
    ({"CERTIFICATE": "{folder}/root.der"}, "CERTIFICATE", "=.*: The file is not PKCS#12. Use"),
    ({"CERTIFICATE": "{folder}/cut-off.p12"}, "CERTIFICATE", "=.*: .* the rest is missing"),
    ({"CERTIFICATE": "{folder}/base64.p12"}, "CERTIFICATE", "=.*: .* is in Base64. Decode it"),
    ({"CERTIFICATE": "{folder}/pem.p12"}, "CERTIFICATE", "=.*: .* is in PEM form"),
    ({"CERTIFICATE": "{folder}/signing.p12"}, "CERTIFICATE", "=.*: .* not for authentication"),
    *[
        ({"CERTIFICATE_PASSWORD": password}, "CERTIFICATE", f"=.*/client.p12: {problem}")
        for password, problem in [
            (
                None,
                "The .* without a password, and POSTEN_SIGNERING_CERTIFICATE_PASSWORD is not set",
            ),
            ("", "The .* an empty password, and POSTEN_SIGNERING_CERTIFICATE_PASSWORD is empty"),
            (f"{PASSWORD}\n", "POSTEN_SIGNERING_CERTIFICATE_PASSWORD ends in a line break"),
            (
                f" {PASSWORD}",
                "POSTEN_SIGNERING_CERTIFICATE_PASSWORD begins or ends with white space",
            ),
            (
                "canary-x",
                "POSTEN_SIGNERING_CERTIFICATE_PASSWORD does not open .* password is wrong",
            ),
            ("canary\0", "POSTEN_SIGNERING_CERTIFICATE_PASSWORD has a NUL character"),
            (f'"{PASSWORD}"', "POSTEN_SIGNERING_CERTIFICATE_PASSWORD is in quotation marks"),
            (
                "{folder}/password",
                "POSTEN_SIGNERING_CERTIFICATE_PASSWORD is .* Set .*_CERTIFICATE_PASSWORD_FILE",
            ),
            ("/" + "x" * 5000, "POSTEN_SIGNERING_CERTIFICATE_PASSWORD does not open"),
        ]
    ],
    *[
        (
            FROM_FILE | {"CERTIFICATE_PASSWORD_FILE": f"{{folder}}/{file}"},
            "CERTIFICATE",
            f"=.*/client.p12: POSTEN_SIGNERING_CERTIFICATE_PASSWORD_FILE {problem}",
        )
        for file, problem in [
            ("password-two-lines", "ends in a line break"),
            ("wrong-password", "does not open .* password is wrong"),
        ]
    ],
    (
        {"CERTIFICATE_PASSWORD_FILE": "{folder}/password"},
        "CERTIFICATE_PASSWORD",
        " and POSTEN_SIGNERING_CERTIFICATE_PASSWORD_FILE are both set",
    ),
    *[
        (
            FROM_FILE | {"CERTIFICATE_PASSWORD_FILE": value},
            "CERTIFICATE_PASSWORD_FILE",
            problem,
        )
        for value, problem in [
            (
                "/run/secrets/gone",
                f"=/run/secrets/gone: {NO_SUCH_FILE} a file that holds the password",
            ),
            ("{folder}/empty", "=.*/empty: the file is empty"),
            ("{folder}/large", "=.*/large: the file is larger than 16384 bytes"),
            ("{folder}/latin-1", "=.*/latin-1: the file is not text in UTF-8"),
            ("{folder}/utf-16", "=.*/utf-16: the file is not text in UTF-8"),
            ("{folder}", "=.*: is a directory"),
            (PASSWORD, f"{NOT_SHOWN}no such file"),
        ]
    ],
    ({"ENVIRONMENT": "prod"}, "ENVIRONMENT", f"=prod: {ENVIRONMENTS}. Did you mean production"),
    *[
        (OWN_SERVICE | {"ENVIRONMENT": name}, "ENVIRONMENT", f"={name}: {ENVIRONMENTS}{hint}")
        for name, hint in [
            ("prod", ". Did you mean production"),
            ("production1", ". Did you mean production"),
            ("stage", ". Did you mean staging"),
            ("test", ". Did you mean difitest"),
            ("acceptance", ". For a service of your own, unset it"),
        ]
    ],
    (
        {"ENVIRONMENT": "sandbox"},
        "SERVICE_ROOT",
        " is not set. POSTEN_SIGNERING_ENVIRONMENT is sandbox",
    ),
    *[
        (
            OWN_SERVICE | {"ENVIRONMENT": environment, "SERVICE_ROOT": root},
            "SERVICE_ROOT",
            f"=https://.*: is the URL of {name}. .* POSTEN_SIGNERING_ENVIRONMENT to {name}",
        )
        for environment, root, name in [
            (None, "https://api.signering.posten.no/api", "production"),
            ("sandbox", "https://API.signering.posten.no:443/other", "production"),
            ("staging", "https://api.signering.posten.no/api", "production"),
            ("production", "https://api.difitest.signering.posten.no/api", "staging"),
        ]
    ],
    *[
        (OWN_SERVICE | {"SERVICE_ROOT": root}, "SERVICE_ROOT", f"{shown}must be an absolute https")
        for root, shown in [
            ("http://service.example", "=http://service.example: "),
            ("https://service.example/api/", "=https://service.example/api/: "),
            ("service.example", "=service.example: "),
            ("https://user:canary@service.example/api", NOT_SHOWN),
            ("https://user:canary/x@service.example/api", NOT_SHOWN),
            ("user:canary@service.example", NOT_SHOWN),
            ("https://service.example/api?token=canary", NOT_SHOWN),
        ]
    ],
    ({"SERVICE_ROOT": ROOT}, "TRUST_ANCHORS", f" is not set. Set it .* at {ROOT}"),
    (
        {"ENVIRONMENT": "staging"},
        "TRUST_ANCHORS",
        " is not set. There is no trust anchor for STAGING.*, and set the variable to its path",
    ),
    *[
        (root | {"TRUST_ANCHORS": value}, "TRUST_ANCHORS", problem)
        for root in ({}, {"SERVICE_ROOT": ROOT})
        for value, problem in [
            ("gone", "=gone: The trust anchor gone can't be read: No such file"),
            ("~/anchors", "=~/anchors: The trust anchor .* Write the path in full"),
            ("{folder}/empty", "=.*/empty: .* hold no certificate"),
            ("{folder}/readme", "=.*/readme: .* hold no certificate .*readme.txt"),
            ("{folder}/no-anchors", "=.*/no-anchors: The directory holds no file"),
            (pki.root().pem.decode(), f"{NOT_SHOWN}it must be the path of a directory or a file"),
            ("x" * 300, f"{NOT_SHOWN}it must be the path of a directory or a file"),
        ]
    ],
    *[
        (
            OWN_SERVICE | {"ENVIRONMENT": name},
            "TRUST_ANCHORS",
            f"=.*/anchors: .* {name.upper()} uses none .* set POSTEN_SIGNERING_ENVIRONMENT to sandbox",
        )
        for name in ("production", "staging")
    ],
    *[
        (
            {"ORGANIZATION_NUMBER": value},
            "ORGANIZATION_NUMBER",
            "=.*: write only the nine digits: 123456789.",
        )
        for value in (
            *(
                "123 456 789",
                "NO123456789MVA",
                "NO 123 456 789 MVA",
                "NO-123456789",
                "0192:123456789",
            ),
            *("123.456.789", "123\u202f456\u202f789", "123\u00a0456\u00a0789", "123-456-789"),
        )
    ],
    *[
        (
            {"ORGANIZATION_NUMBER": value},
            "ORGANIZATION_NUMBER",
            f"{shown}must be the nine digits of the default sender's organisation number",
        )
        for value, shown in [
            ("12345678", "=12345678: "),
            ("Posten", "=Posten: "),
            ("١٢٣٤٥٦٧٨٩", "=.*: "),
            ("17885599999", NOT_SHOWN),
            ("178855 99999", NOT_SHOWN),
            ("17.88.55-99999", NOT_SHOWN),
        ]
    ],
    (
        {"POLLING_QUEUE": "shop"},
        "POLLING_QUEUE",
        " is set without POSTEN_SIGNERING_ORGANIZATION_NUMBER",
    ),
    ({"PROXY": "socks5://user:canary@proxy.example"}, "PROXY", f": {PROXY_RULE}"),
    ({"PROXY": "user:canary@proxy.example:8080"}, "PROXY", f": {PROXY_RULE}"),
    ({"PROXY": "http://user:can@ry@proxy.example"}, "PROXY", f": {PROXY_RULE}.* such as %40 for @"),
    ({"PROXY": f'"{PROXY}"'}, "PROXY", ": the value is in quotation marks"),
    (
        {"PROXY": PROXY, "PROXY_FILE": "{folder}/proxy"},
        "PROXY",
        " and POSTEN_SIGNERING_PROXY_FILE are",
    ),
    ({"PROXY_FILE": "{folder}/no-proxy"}, "PROXY_FILE", f"=.*/no-proxy: {PROXY_RULE}"),
    ({"PROXY_FILE": PROXY}, "PROXY_FILE", f"{NOT_SHOWN}no such file"),
    *[
        (
            {"DEFAULT_POLL_WAIT": text},
            "DEFAULT_POLL_WAIT",
            f"={text}: must be a number of seconds from 0.001 to 86400, such as 30.",
        )
        for text in ("30s", "nan", "inf", "-1", "0", "0.0001", "1e3", "86401", "٣", "1_0", "PT30S")
    ],
    ({"DEFAULT_POLL_WAIT": "9" * 400}, "DEFAULT_POLL_WAIT", f"{NOT_SHOWN}must be a number"),
    ({"TIMEOUT_CONNECT": "0"}, "TIMEOUT_CONNECT", f"=0: {SECONDS} 5."),
    ({"TIMEOUT_API": "10,5"}, "TIMEOUT_API", f"=10,5: {SECONDS} 10."),
    ({"TIMEOUT_DOWNLOAD": "5000"}, "TIMEOUT_DOWNLOAD", f"=5000: {SECONDS} 60."),
    *[
        ({"MAX_CONNECTIONS": text}, "MAX_CONNECTIONS", f"={text}: {COUNT} 1 to 1000.")
        for text in ("0", "8.0", "eight", "1001", "-8")
    ],
    *[
        ({"RETRIES": text}, "RETRIES", f"={text}: {COUNT} 0 to 100.")
        for text in ("-1", "2.5", "none", "101")
    ],
    *[
        ({"FLEET_SHARE": text}, "FLEET_SHARE", f"={text}: must be a number from 0.001 to 1, such")
        for text in ("0", "1.1", "25%", "0,25", "1/4")
    ],
    (
        {"REDIS_URL": "http://:canary@redis.example"},
        "REDIS_URL",
        ": RedisFleet.url must be the URL",
    ),
    *[
        ({"REDIS_URL": f"redis://{address}"}, "REDIS_URL", ": RedisFleet.url must be the URL")
        for address in ("re dis:6379/0", "redis/canary", "redis-1,redis-2")
    ],
    ({"REDIS_URL": f"{REDIS}?canary=1"}, "REDIS_URL", ": RedisFleet.url has an option"),
    ({"REDIS_URL_FILE": "{folder}/proxy"}, "REDIS_URL_FILE", "=.*: RedisFleet.url must be the URL"),
]


@pytest.mark.parametrize(("given", "name", "problem"), WRONG)
def test_the_error_for_a_wrong_value_names_the_variable_and_shows_no_secret(
    variables, given, name, problem
):
    secrets = {"PROXY": PROXY, "REDIS_URL": REDIS}
    others = {key: value for key, value in secrets.items() if key not in name}
    with pytest.raises(ConfigurationError) as raised:
        ClientConfiguration.from_env(variables(**others, **given))
    pattern = f"POSTEN_SIGNERING_{name}{problem}"
    assert re.match(pattern, str(raised.value), re.DOTALL), str(raised.value)
    shown = frames_with_locals(raised.value)
    assert "from_env" in shown
    assert shown_in(shown, CANARIES) == []


def test_without_the_extra_the_error_says_which_to_install(variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "posten_signering._session.redis_connection", None)
    expected = r"POSTEN_SIGNERING_REDIS_URL: .* pip install 'posten-signering\[redis\]'"
    with pytest.raises(ConfigurationError, match=expected):
        ClientConfiguration.from_env(variables(REDIS_URL=REDIS))


@pytest.mark.parametrize("name", [None, "sandbox"])
@pytest.mark.parametrize(
    ("path", "expected"), [("anchors", BOTH), ("anchors/root.pem", [pki.root().der])]
)
def test_of_a_different_service_the_given_anchors_are_trusted(variables, name, path, expected):
    """They need no pinned fingerprint, and the trust anchors of production are not used."""
    environ = variables(ENVIRONMENT=name, SERVICE_ROOT=ROOT, TRUST_ANCHORS=f"{{folder}}/{path}")
    anchors = ClientConfiguration.from_env(environ).trust_anchors
    assert anchors.candidates == ()
    assert sorted(anchors.trusted) == sorted(expected)


@pytest.mark.parametrize(
    ("path", "expected"), [("anchors", BOTH), ("anchors/root.pem", [pki.root().der])]
)
def test_of_production_only_pinned_anchors_are_trusted(variables, path, expected):
    configuration = ClientConfiguration.from_env(variables(TRUST_ANCHORS=f"{{folder}}/{path}"))
    assert sorted(configuration.trust_anchors.candidates) == sorted(expected)
    assert configuration.trust_anchors.trusted == ()
    selected = configuration.trust_anchors.select(
        configuration.environment, certificate=configuration.certificate
    )
    assert not set(selected) & set(BOTH)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("POSTEN_SIGNERING_CERTIFICAT", "POSTEN_SIGNERING_CERTIFICATE"),
        ("POSTEN_SIGNERING_PASSWORD", "POSTEN_SIGNERING_CERTIFICATE_PASSWORD"),
        ("POSTEN_SIGNERING_ORGANISATION_NUMBER", "POSTEN_SIGNERING_ORGANIZATION_NUMBER"),
        ("posten_signering_proxy", "POSTEN_SIGNERING_PROXY"),
        ("POSTEN_SIGNERING_TIMEOUT", "POSTEN_SIGNERING_TIMEOUT_API"),
        ("POSTEN_SIGNERING_PROXY_PORT", "POSTEN_SIGNERING_PROXY"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest_known_name(
    variables, caplog, name, nearest
):
    ClientConfiguration.from_env(variables() | {name: "canary"})
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(rf"{name} is not known, .* nearest known name is {nearest}\.", record.message)
    assert "canary" not in caplog.text


def test_known_variables_and_those_of_others_are_no_warning(variables, caplog):
    """Kubernetes sets some for a service with the name posten-signering."""
    given = dict.fromkeys((f"{PREFIX}{row.name}" for row in VARIABLES), "")
    kubernetes = (
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTPS", "PORT", "PORT_443_TCP"),
        *("PORT_443_TCP_ADDR", "WEB_SERVICE_HOST", "WEB_PORT", "WEB_PORT_443_TCP_PORT"),
    )
    given |= {f"{PREFIX}{name}": "10.0.0.1" for name in kubernetes}
    ClientConfiguration.from_env(given | variables() | {"POSTEN_OTHER": "1"})
    assert caplog.records == []
