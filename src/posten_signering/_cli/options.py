"""The options that several commands have: which service, which certificate, and how results are printed."""

import os
import re
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from getpass import getpass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from posten_signering import ClientConfiguration, Secret
from posten_signering.errors import ConfigurationError

PROMPT = "Password of the certificate: "
AS_TYPED = "the password that you typed"

_PREFIX = "POSTEN_SIGNERING_"
_SERVICE = Group(
    "Service",
    help="The variable in brackets is used if the option is not given.",
    sort_key=1,
)


@Parameter(name="*", group=_SERVICE)
@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """Which service to call, and with which certificate.

    Attributes:
        certificate: The enterprise certificate, a PKCS#12 file (.p12 or .pfx). [POSTEN_SIGNERING_CERTIFICATE]
        certificate_password_file: A file with the password of the certificate. [POSTEN_SIGNERING_CERTIFICATE_PASSWORD_FILE]
        environment: production, staging or difitest. The default is production. [POSTEN_SIGNERING_ENVIRONMENT]
        service_root: The root URL of a different service, such as a sandbox. [POSTEN_SIGNERING_SERVICE_ROOT]
        trust_anchors: A directory or a file with CA certificates that may vouch for the service. [POSTEN_SIGNERING_TRUST_ANCHORS]
        organization_number: The organisation number of the sender. [POSTEN_SIGNERING_ORGANIZATION_NUMBER]
        polling_queue: The polling queue of the sender. [POSTEN_SIGNERING_POLLING_QUEUE]
        proxy_file: A file with the URL of an HTTP proxy. [POSTEN_SIGNERING_PROXY_FILE]
    """

    certificate: Path | None = None
    certificate_password_file: Path | None = None
    environment: str | None = None
    service_root: str | None = None
    trust_anchors: Path | None = None
    organization_number: str | None = None
    polling_queue: str | None = None
    proxy_file: Path | None = None

    def configuration(self, password: Secret[str] | None = None) -> ClientConfiguration:
        """The configuration that these options and the environment variables describe.

        Args:
            password: The certificate's password, if the user has typed it already.

        Raises:
            ConfigurationError: A setting is missing or can't be used. The message names the option or
                the variable.
        """
        given = {
            field.name: str(value)
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        # A password or proxy in a file replaces one in a variable.
        replaced = {name.removesuffix("_file") for name in given if name.endswith("_file")}
        if "environment" in given:
            replaced.add("service_root")  # an environment says where the service is
        environ = {
            name: value
            for name, value in os.environ.items()
            if name.removeprefix(_PREFIX).lower() not in replaced
        }
        environ |= {_PREFIX + name.upper(): value for name, value in given.items()}
        try:
            if password is None and _needs_password(environ) and at_terminal():
                password = asked(PROMPT)
            if password is not None:
                environ[_PREFIX + "CERTIFICATE_PASSWORD"] = password.reveal()
            return ClientConfiguration.from_env(environ)
        except ConfigurationError as error:
            message = str(error)
        finally:
            del environ
        for name in given:
            message = re.sub(rf"{_PREFIX}{name.upper()}\b", _option(name), message)
        if password is not None:
            message = message.replace(_PREFIX + "CERTIFICATE_PASSWORD", AS_TYPED)
        raise ConfigurationError(_with_options(message))


def secret(name: str) -> str:
    """A line of standard input, which other users can't see. A terminal does not show what the user types.

    Raises:
        ConfigurationError: There is none.
    """
    if at_terminal():
        line = asked(f"{name}: ").reveal()
    else:
        try:
            with interruptible():
                line = sys.stdin.readline() if sys.stdin else ""
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"The {name} in standard input is not text in UTF-8."
            ) from None
    if not line.strip():
        raise ConfigurationError(f"Standard input has no {name}. Write it as one line.")
    return line.strip()


def asked(prompt: str) -> Secret[str]:
    """What the user types at a prompt of the terminal, which does not show it."""
    with interruptible():
        return Secret(getpass(prompt))


@contextmanager
def interruptible() -> Generator[None]:
    """Ctrl-C ends a read at once. The handler of asyncio would only cancel the task, which waits in the read."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # a shell ignores SIGINT for a command in the background
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def at_terminal() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def _needs_password(environ: Mapping[str, str]) -> bool:
    """Whether there is a certificate, and neither an option nor a variable has its password."""
    passwords = {_PREFIX + "CERTIFICATE_PASSWORD", _PREFIX + "CERTIFICATE_PASSWORD_FILE"}
    return _PREFIX + "CERTIFICATE" in environ and not passwords & environ.keys()


def _with_options(message: str) -> str:
    """The message, which names a variable that is not set, with the option that does the same."""
    for field in fields(ServiceOptions):
        variable = _PREFIX + field.name.upper()
        message = message.replace(
            f"{variable} is not set. Set it to",
            f"Neither {_option(field.name)} nor {variable} is set. Set one of them to",
        )
    return message.replace(
        f"{_PREFIX}CERTIFICATE_PASSWORD is not set. Set it to the file's password.",
        f"{_PREFIX}CERTIFICATE_PASSWORD is not set. Set it to the file's password, or use "
        "--certificate-password-file.",
    )


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


DEFAULT_SERVICE = ServiceOptions()

AsJson = Annotated[
    bool,
    Parameter(name="--json", negative="", help="Print JSON, for scripts."),
]
