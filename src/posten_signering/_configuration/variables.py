"""Reads a client's settings from the environment variables `POSTEN_SIGNERING_*`, which `VARIABLES` lists."""

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from posten_signering._session.fleet import Fleet, InMemoryFleet
from posten_signering._session.redis import RedisFleet, check_url
from posten_signering._session.retry import Retries
from posten_signering._trust.anchors import TrustAnchors, unpinned
from posten_signering._trust.certificates import EnterpriseCertificate, read_pkcs12
from posten_signering._trust.environment import SERVICE_ROOT_RULE, Environment
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering._wire.urls import is_proxy, origin_of
from posten_signering.errors import ConfigurationError

_LOGGER = logging.getLogger("posten_signering")

PREFIX = "POSTEN_SIGNERING_"

# In bytes.
_LARGEST_CERTIFICATE = 1024 * 1024
_LARGEST_SECRET = 16 * 1024

_ENVIRONMENTS = {
    "production": Environment.PRODUCTION,
    "staging": Environment.STAGING,
    "difitest": Environment.DIFITEST,
}
_SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable.

    Attributes:
        name: Its name without the prefix.
        value: What it must be, in words that follow "must be".
        setting: The setting that it sets.
        default: What applies if it is not set.
        secret: Whether its value is never shown.
        swappable: Whether it is a path that is easily set to the password or the key itself. It is shown
            only if it looks like a path.
        limits: The lowest and the highest number; None if it is not a number.
        whole: Whether the number has no decimals.
    """

    name: str
    value: str
    setting: str
    default: str = "none"
    secret: bool = False
    swappable: bool = False
    limits: tuple[float, float] | None = None
    whole: bool = False


def _seconds(name: str, setting: str, default: str, longest: int, example: str) -> Variable:
    limits = (0.001, float(longest))
    value = f"a number of seconds from 0.001 to {longest}, such as {example}"
    return Variable(name=name, value=value, setting=setting, default=default, limits=limits)


def _count(name: str, setting: str, default: str, fewest: int, most: int) -> Variable:
    value = f"a whole number from {fewest} to {most}"
    limits = (fewest, most)
    return Variable(
        name=name, value=value, setting=setting, default=default, limits=limits, whole=True
    )


VARIABLES = (
    Variable(
        name="CERTIFICATE",
        value="the path of the enterprise certificate's PKCS#12 file (`.p12` or `.pfx`)",
        setting="certificate",
        default="required",
        swappable=True,
    ),
    Variable(
        name="CERTIFICATE_PASSWORD",
        value="the password of that file",
        setting="certificate",
        default="no password",
        secret=True,
    ),
    Variable(
        name="CERTIFICATE_PASSWORD_FILE",
        value="the path of a file that holds the password",
        setting="certificate",
        swappable=True,
    ),
    Variable(
        name="ENVIRONMENT",
        value="`production`, `staging`, `difitest` (the same as `staging`), or `sandbox`",
        setting="environment",
        default="`production`, or the service of `SERVICE_ROOT`",
    ),
    Variable(
        name="SERVICE_ROOT",
        value="the root URL of a different service, such as a sandbox",
        setting="environment.service_root",
        default="that of the environment",
    ),
    Variable(
        name="TRUST_ANCHORS",
        value="the path of a directory or a file with CA certificates, in PEM or DER form",
        setting="trust_anchors",
        default="the CA certificates in the PKCS#12 file and in certifi",
    ),
    Variable(
        name="ORGANIZATION_NUMBER",
        value="the nine digits of the default sender's organisation number, such as 123456789",
        setting="sender",
        default="no default sender",
    ),
    Variable(
        name="POLLING_QUEUE",
        value="the name of the default sender's polling queue",
        setting="sender.polling_queue",
        default="the default queue",
    ),
    Variable(
        name="PROXY",
        value="an http or https URL of a host, such as `http://user:password@proxy.example:8080`",
        setting="proxy",
        default="no proxy",
        secret=True,
    ),
    Variable(
        name="PROXY_FILE",
        value="the path of a file that holds the URL of the proxy",
        setting="proxy",
        swappable=True,
    ),
    _seconds(
        "DEFAULT_POLL_WAIT",
        "environment.default_poll_wait",
        "600 in production, 30 in staging, 600 elsewhere",
        24 * 60 * 60,  # A client polls at least once in 24 hours in any case.
        "30",
    ),
    _seconds("TIMEOUT_CONNECT", "timeouts.connect", "5", 3600, "5"),
    _seconds("TIMEOUT_API", "timeouts.api", "10", 3600, "10"),
    _seconds("TIMEOUT_DOWNLOAD", "timeouts.download", "60", 3600, "60"),
    _count("MAX_CONNECTIONS", "max_connections", "8", 1, 1000),
    _count("RETRIES", "retries.max_retries", "2", 0, 100),
    Variable(
        name="REDIS_URL",
        value="the URL of a Redis server, such as `rediss://:password@redis.example:6379/0`",
        setting="fleet: a RedisFleet",
        default="no Redis",
        secret=True,
    ),
    Variable(
        name="REDIS_URL_FILE",
        value="the path of a file that holds the URL of Redis",
        setting="fleet: a RedisFleet",
        swappable=True,
    ),
    Variable(
        name="FLEET_SHARE",
        value="a number from 0.001 to 1, such as 0.25",
        setting="the share of the fleet: of the RedisFleet, or without Redis of an InMemoryFleet",
        default="1",
        limits=(0.001, 1),
    ),
)
_BY_NAME = {variable.name: variable for variable in VARIABLES}

# Kubernetes sets such variables in each pod for a service with the name posten-signering, or posten-signering-web.
_KUBERNETES = re.compile(
    r"(?P<service>(?:\w+?_)??)(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)"
)


def settings(environ: Secret[Mapping[str, str]]) -> dict[str, Any]:
    """The arguments of `ClientConfiguration` that the variables describe, except `timeouts`.

    Raises:
        ConfigurationError: A required variable is missing, or a value can't be used.
    """
    variables = _Variables(environ)
    arguments: dict[str, Any] = {
        "environment": _environment(variables),
        "sender": _sender(variables),
        "fleet": _fleet(variables),
    }
    connections, retries = variables.number("MAX_CONNECTIONS"), variables.number("RETRIES")
    if connections is not None:
        arguments["max_connections"] = int(connections)
    if retries is not None:
        arguments["retries"] = Retries(max_retries=int(retries))
    proxy = _proxy(variables)
    # Last, because reading a key takes longest.
    certificate = arguments["certificate"] = _certificate(variables)
    arguments["trust_anchors"] = _trust_anchors(variables, arguments["environment"], certificate)
    return {"proxy": proxy.reveal(), **arguments}


def timeouts(environ: Secret[Mapping[str, str]]) -> dict[str, float]:
    """The arguments of `Timeouts` that the variables describe.

    Raises:
        ConfigurationError: A value can't be used.
    """
    variables = _Variables(environ)
    found = {
        name: variables.number(f"TIMEOUT_{name.upper()}") for name in ("connect", "api", "download")
    }
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def warn_of_unknown(environ: Secret[Mapping[str, str]]) -> None:
    """Logs a WARNING for each variable that begins with the prefix and is not known."""
    for name in sorted(environ.reveal()):
        rest = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or name.removeprefix(PREFIX) in _BY_NAME:
            continue
        others = _KUBERNETES.fullmatch(rest)
        if others and f"{PREFIX}{others['service']}SERVICE_HOST" in environ.reveal():
            continue
        [nearest] = get_close_matches(rest, _BY_NAME, n=1, cutoff=0.0)
        _LOGGER.warning(
            "The environment variable %s is not known, and is ignored. The nearest known name is %s%s.",
            name,
            PREFIX,
            nearest,
        )


class _Variables:
    """Reads variables. Its errors name the variable, and show the value if it can't be a secret.

    The arguments are names without the prefix. Values are in `Secret`, because they may be secret by mistake too.
    """

    def __init__(self, environ: Secret[Mapping[str, str]]) -> None:
        self._environ = environ

    def text(self, name: str) -> Secret[str] | None:
        """The value without white space around it; None if the variable is not set, or is blank."""
        value = Secret(self._environ.reveal().get(PREFIX + name, "").strip())
        if not value.reveal():
            return None
        if len(value.reveal()) > 1 and value.reveal()[0] == value.reveal()[-1] in {'"', "'"}:
            raise self.error(
                name,
                "the value is in quotation marks. Remove them: no shell has removed them here.",
            )
        return value

    def password(self) -> Secret[str | None]:
        """The password of the certificate as it is set, with white space; None if it is not set."""
        if self.source("CERTIFICATE_PASSWORD") == "CERTIFICATE_PASSWORD":
            return Secret(self._environ.reveal().get(f"{PREFIX}CERTIFICATE_PASSWORD"))
        return cast("Secret[str | None]", self._text_of_file("CERTIFICATE_PASSWORD_FILE"))

    def secret(self, name: str) -> Secret[str] | None:
        """The value of a variable, or the text of the file that the variable with `_FILE` names."""
        source = self.source(name)
        return (
            self.text(name)
            if source == name
            else Secret(self._text_of_file(source).reveal().strip())
        )

    def source(self, name: str) -> str:
        """The variable that has the secret: this one, or the one with `_FILE` if that is set."""
        if self.text(f"{name}_FILE") is None:
            return name
        if self._environ.reveal().get(PREFIX + name):
            raise ConfigurationError(
                f"{PREFIX}{name} and {PREFIX}{name}_FILE are both set. Set only one of them."
            )
        return f"{name}_FILE"

    def number(self, name: str) -> float | None:
        """The value as a number within the variable's limits; None if it is not set."""
        text, variable = self.text(name), _BY_NAME[name]
        if text is None:
            return None
        pattern = "[0-9]{1,9}" if variable.whole else r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}"
        lowest, highest = cast("tuple[float, float]", variable.limits)
        if (
            re.fullmatch(pattern, text.reveal(), re.ASCII) is None
            or not lowest <= float(text.reveal()) <= highest
        ):
            raise self.error(name, f"must be {variable.value}.")
        return float(text.reveal())

    def content(self, name: str, limit: int) -> Secret[bytes]:
        """The content of the file that a variable names."""
        path, reason = self.text(name) or Secret(""), "the file is empty"
        try:
            with Path(path.reveal()).open("rb") as file:
                content = Secret(file.read(limit + 1))
            if 0 < len(content.reveal()) <= limit:
                return content
            if content.reveal():
                reason = f"the file is larger than {limit} bytes"
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
        except ValueError:  # a NUL character
            reason = "not a path"
        # Raised here, because the text of the errors above may have the value.
        hint = _hint_for_path(path)
        raise self.error(name, f"{reason}. It must be {_BY_NAME[name].value}.{hint}")

    def error(self, name: str, problem: str) -> ConfigurationError:
        """The error for a variable's value; for a variable that is not set, `problem` says what to set."""
        if not self._environ.reveal().get(PREFIX + name, "").strip():
            return ConfigurationError(f"{PREFIX}{name} is not set. {problem}")
        if _BY_NAME[name].secret:
            return ConfigurationError(f"{PREFIX}{name}: {problem}")
        value = Secret(" ".join(self._environ.reveal()[PREFIX + name].split()))
        if _may_show(_BY_NAME[name], value):
            return ConfigurationError(f"{PREFIX}{name}={value.reveal()}: {problem}")
        return ConfigurationError(
            f"{PREFIX}{name} (its value is not shown, because it may be a secret): {problem}"
        )

    def _text_of_file(self, name: str) -> Secret[str]:
        """The text of a mounted secret, without one line break at its end."""
        content = self.content(name, _LARGEST_SECRET)
        with suppress(UnicodeDecodeError):
            text = Secret(content.reveal().decode("utf-8-sig"))
            return Secret(re.sub(r"\r?\n\Z", "", text.reveal()))
        raise self.error(name, "the file is not text in UTF-8. Save it as UTF-8.")


# What a value that was set by mistake may be: a key, in PEM form or in Base64, an identity number, or a URL with a
# password or a token.
_CONTENT = r"-----BEGIN|^MI[A-Za-z0-9+/]{38}"
_IDENTITY_NUMBER = r"(?<!\d)\d\d[ .-]?\d\d[ .-]?\d\d[ .-]?\d{3}[ .-]?\d\d(?!\d)"
_SECRET = re.compile(rf"{_CONTENT}|{_IDENTITY_NUMBER}|:.*@|://.*[?#]", re.ASCII)
_SUFFIXES = {".cer", ".crt", ".key", ".p12", ".pem", ".pfx", ".txt"}


def _may_show(variable: Variable, value: Secret[str]) -> bool:
    """Whether a value is certainly no secret."""
    if (
        len(value.reveal()) > 200
        or not value.reveal().isprintable()
        or _SECRET.search(value.reveal()) is not None
    ):
        return False
    if not variable.swappable:
        return True
    path = Secret(Path(value.reveal()))
    # A password may begin with a slash, a point or a ~ too.
    return (
        (path.reveal().is_absolute() and len(path.reveal().parts) > 2)
        or value.reveal().startswith(("./", "../", "~/"))
        or path.reveal().suffix.lower() in _SUFFIXES
    )


def _hint_for_path(path: Secret[str]) -> str:
    """What else to do about a value that is not the path of a file; empty if that is not known."""
    if re.search(_CONTENT, path.reveal()):
        return " The value is the content of a file: write it to a file, and set the path of that file."
    if path.reveal().startswith(("~", "$", "%")):
        return " Write the path in full, because only a shell replaces ~ and variables."
    return ""


def _certificate(variables: _Variables) -> EnterpriseCertificate:
    if variables.text("CERTIFICATE") is None:
        raise variables.error("CERTIFICATE", f"Set it to {_BY_NAME['CERTIFICATE'].value}.")
    content = variables.content("CERTIFICATE", _LARGEST_CERTIFICATE)
    password = variables.password()
    source = variables.source("CERTIFICATE_PASSWORD")
    try:
        return read_pkcs12(content, password, argument=f"{PREFIX}{source}")
    except ConfigurationError as error:
        problem = str(error)
    if source == "CERTIFICATE_PASSWORD" and _is_file(password):
        problem = (
            f"{PREFIX}CERTIFICATE_PASSWORD is the path of a file. Set {PREFIX}CERTIFICATE_PASSWORD_FILE to "
            "it instead."
        )
    raise variables.error("CERTIFICATE", problem)


def _is_file(password: Secret[str | None]) -> bool:
    with suppress(OSError, ValueError):  # for example "File name too long", or a NUL character
        path = Secret(Path(password.reveal() or ""))
        return path.reveal().is_absolute() and path.reveal().is_file()
    return False


def _environment(variables: _Variables) -> Environment:
    environment = _installation(variables)
    seconds = variables.number("DEFAULT_POLL_WAIT")
    if seconds is None:
        return environment
    return replace(environment, default_poll_wait=timedelta(seconds=seconds))


def _installation(variables: _Variables) -> Environment:
    name, root = variables.text("ENVIRONMENT"), variables.text("SERVICE_ROOT")
    key = Secret("" if name is None else name.reveal().lower())
    if name is not None and key.reveal() not in {*_ENVIRONMENTS, _SANDBOX}:
        known = (*_ENVIRONMENTS, _SANDBOX)
        near = get_close_matches(key.reveal(), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise variables.error(
            "ENVIRONMENT",
            f"must be {_BY_NAME['ENVIRONMENT'].value}.{hint} For a service of your own, unset it and set "
            f"{PREFIX}SERVICE_ROOT.",
        )
    environment = _ENVIRONMENTS.get(key.reveal())
    if root is None:
        if key.reveal() == _SANDBOX:
            raise variables.error(
                "SERVICE_ROOT",
                f"{PREFIX}ENVIRONMENT is sandbox, so set it to the URL that the sandbox printed.",
            )
        return environment or Environment.PRODUCTION
    root = _service_root(variables, root, environment)
    if environment is not None:
        return replace(environment, service_root=root.reveal())
    return Environment(name="custom" if name is None else name.reveal(), service_root=root.reveal())


def _service_root(
    variables: _Variables, root: Secret[str], environment: Environment | None
) -> Secret[str]:
    """Checks the root of a different service."""
    for key, known in _ENVIRONMENTS.items():
        # Nobody may reach production by a setting that looks like a sandbox, or with anchors that are not pinned.
        if origin_of(root) == origin_of(Secret(known.service_root)) and known is not environment:
            raise variables.error(
                "SERVICE_ROOT",
                f"is the URL of {key}. Unset it, and set {PREFIX}ENVIRONMENT to {key}.",
            )
    try:
        Environment(name="custom", service_root=root.reveal())
    except ConfigurationError:
        pass
    else:
        return root
    # Raised here, because the traceback of the error above may have the value.
    raise variables.error("SERVICE_ROOT", SERVICE_ROOT_RULE)


def _trust_anchors(
    variables: _Variables, environment: Environment, certificate: EnterpriseCertificate
) -> TrustAnchors:
    path = variables.text("TRUST_ANCHORS")
    if path is None and not environment.authorities:
        raise variables.error(
            "TRUST_ANCHORS",
            f"Set it to {_BY_NAME['TRUST_ANCHORS'].value}: those of the service at "
            f"{environment.service_root}. A sandbox prints its path.",
        )
    try:
        anchors = TrustAnchors() if path is None else _anchors_in(path)
        if not environment.authorities:
            # No fingerprints are known for the service.
            return TrustAnchors().trusting(*anchors.candidates)
        # Without a service root, a certificate of certifi may be enough.
        note = unpinned(anchors, environment)
        if note is None or variables.text("SERVICE_ROOT") is None:
            anchors.select(environment, certificate=certificate)
            return anchors
        problem = (
            f"{note} {PREFIX}ENVIRONMENT and {PREFIX}SERVICE_ROOT are both set, so the service must be "
            f"{environment.name} at a different URL. For a sandbox, set {PREFIX}ENVIRONMENT to sandbox."
        )
    except ConfigurationError as error:
        problem = str(error)
    if path is None:
        problem = f"{problem} Put the files into a directory, and set the variable to its path."
    elif not _may_show(_BY_NAME["TRUST_ANCHORS"], path):
        problem = f"it must be {_BY_NAME['TRUST_ANCHORS'].value}."
    hint = _hint_for_path(path or Secret(""))
    # Raised here, because the traceback of the error above may have the value.
    raise variables.error("TRUST_ANCHORS", f"{problem}{hint}")


def _anchors_in(path: Secret[str]) -> TrustAnchors:
    location = Secret(Path(path.reveal()))
    is_directory = False
    with suppress(OSError):  # for example "File name too long"; then `from_files` raises
        is_directory = location.reveal().is_dir()
    if not is_directory:
        return TrustAnchors.from_files(location.reveal())
    anchors = TrustAnchors.from_directory(location.reveal())
    if not anchors.candidates:
        raise ConfigurationError("The directory holds no file. Check the path.")
    return anchors


def _sender(variables: _Variables) -> Sender | None:
    number, queue = variables.text("ORGANIZATION_NUMBER"), variables.text("POLLING_QUEUE")
    if number is None and queue is not None:
        raise ConfigurationError(
            f"{PREFIX}POLLING_QUEUE is set without {PREFIX}ORGANIZATION_NUMBER. Set the number too, "
            "or remove the queue."
        )
    if number is None:
        return None
    if re.fullmatch("[0-9]{9}", number.reveal()) is None:
        # Without spaces of any width, points and hyphens.
        compact = Secret(
            re.sub(r"[\s.\-\u2010-\u2015\u00ad\u200b\u2060\ufeff]", "", number.reveal())
        )
        found = re.findall("(?<![0-9])[0-9]{9}(?![0-9])", compact.reveal())
        raise variables.error(
            "ORGANIZATION_NUMBER",
            f"write only the nine digits: {found[0]}."
            if len(found) == 1
            else f"must be {_BY_NAME['ORGANIZATION_NUMBER'].value}.",
        )
    return Sender(
        organization_number=number.reveal(),
        polling_queue=None if queue is None else queue.reveal(),
    )


def _proxy(variables: _Variables) -> Secret[str | None]:
    url = variables.secret("PROXY")
    if url is not None and not is_proxy(url):
        raise variables.error(
            variables.source("PROXY"),
            f"the proxy must be {_BY_NAME['PROXY'].value}. Percent-encode special characters in the user and "
            "the password, such as %40 for @.",
        )
    return cast("Secret[str | None]", url or Secret(None))


def _fleet(variables: _Variables) -> Fleet | None:
    url, share = variables.secret("REDIS_URL"), variables.number("FLEET_SHARE")
    if url is None:
        return None if share is None else InMemoryFleet(share=share)
    try:
        check_url(url)
        return RedisFleet(url.reveal(), share=1.0 if share is None else share)
    except ConfigurationError as error:
        problem = str(error)
    raise variables.error(variables.source("REDIS_URL"), problem)
