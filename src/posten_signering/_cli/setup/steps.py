"""The steps of `check` that need no network: settings, certificate, trust anchors, chain. Pure but for the files read."""

import logging
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from posten_signering import (
    ClientConfiguration,
    EnterpriseCertificate,
    Environment,
    Secret,
)
from posten_signering._cli.options import ServiceOptions
from posten_signering._cli.setup.authorities import Authority, authorities_in
from posten_signering._cli.setup.settings import (
    Setting,
    given,
    installation,
    password,
    typed_password,
)
from posten_signering.errors import ConfigurationError

CONFIGURATION = "configuration"
CERTIFICATE = "certificate"
ANCHORS = "trust_anchors"
CHAIN = "chain"
PROXY = "proxy"
TLS = "tls"
CLOCK = "clock"
ACCESS = "access"
SENDER = "sender"
# In the order in which they run.
TITLES = {
    CONFIGURATION: "Configuration",
    CERTIFICATE: "Enterprise certificate",
    ANCHORS: "Trust anchors",
    CHAIN: "Certificate chain",
    PROXY: "Proxy",
    TLS: "Connection and TLS",
    CLOCK: "Clock",
    ACCESS: "Access to the service",
    SENDER: "Sender",
}

# The step that an error of the configuration belongs to, by the first setting that its message names, or else by
# its words. The first row that matches counts.
_SETTING = re.compile(r"(?:POSTEN_SIGNERING_|--)([A-Za-z_-]+)")
_TOPICS = (("trust.anchor", ANCHORS), ("certificate", CERTIFICATE), ("proxy", PROXY))

_SANDBOX = "posten-signering sandbox"


class Result(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the check.

    Attributes:
        name: A key of `TITLES`.
        result: How it ended.
        details: What was found.
        problem: What failed and how to fix it; None unless it failed.
    """

    name: str
    result: Result
    details: tuple[str, ...] = ()
    problem: str | None = None


def passed(name: str, *details: str) -> Step:
    """A step that found nothing wrong."""
    return Step(name=name, result=Result.PASSED, details=details)


def failed(name: str, problem: str, *details: str) -> Step:
    """A step that found a problem."""
    return Step(name=name, result=Result.FAILED, details=details, problem=problem)


def topic(message: str) -> str:
    """The step that an error of the configuration belongs to."""
    setting = _SETTING.search(message)
    place = message if setting is None else setting[1]
    matching = (name for words, name in _TOPICS if re.search(words, place, re.IGNORECASE))
    return next(matching, CONFIGURATION)


def local_steps(
    options: ServiceOptions, *, now: datetime
) -> tuple[list[Step], ClientConfiguration | None]:
    """The steps that need no network.

    Returns:
        The steps, and the configuration for the other steps. It is None if they can't run.
    """
    settings = dict(given(options))
    typed = typed_password(settings)
    if typed is not None:
        name = "certificate_password"
        settings[name] = Setting(name=name, source="the prompt", value=typed)
    with _warnings() as warnings:
        configuration, problems = _configuration(options, typed)
    steps = [_configuration_step(settings, warnings, problems.get(CONFIGURATION))]
    if PROXY in problems:
        steps.append(failed(PROXY, problems[PROXY]))
    if configuration is None:
        certificate, unreadable = _certificate(settings)
    else:
        certificate, unreadable = configuration.certificate, ""
    if certificate is None:
        steps.append(failed(CERTIFICATE, problems.get(CERTIFICATE, unreadable)))
        return steps, None
    step = certificate_step(
        certificate, installation(settings), now=now, problem=problems.get(CERTIFICATE)
    )
    steps.append(step)
    if step.result is Result.FAILED:
        return steps, None
    if configuration is None:
        if ANCHORS in problems:
            steps.append(failed(ANCHORS, problems[ANCHORS]))
        return steps, None
    anchors = authorities_in(
        configuration.trust_anchors.select(configuration.environment, certificate=certificate)
    )
    given_anchors = configuration.trust_anchors.candidates
    step = anchors_step(anchors, configuration.environment, given_anchors=given_anchors, now=now)
    steps += [step, chain_step(certificate, anchors)]
    return steps, None if step.result is Result.FAILED else configuration


def _configuration(
    options: ServiceOptions, password_typed: Secret[str] | None
) -> tuple[ClientConfiguration | None, Mapping[str, str]]:
    try:
        return options.configuration(password_typed), {}
    except ConfigurationError as error:
        return None, {topic(str(error)): str(error)}


@contextmanager
def _warnings() -> Generator[list[str]]:
    """Collects the warnings that the package logs. They are printed too, but the output for support has no log lines."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    logger, collector = logging.getLogger("posten_signering"), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield collected
    finally:
        logger.removeHandler(collector)


def _configuration_step(
    settings: Mapping[str, Setting], warnings: Sequence[str], problem: str | None
) -> Step:
    # A warning about a variable, which is not known, takes the place of its line.
    words = {word for warning in warnings for word in warning.split()}
    lines = [
        f"{setting.name.replace('_', '-')}: {setting.shown} (by {setting.source})"
        for setting in settings.values()
        if setting.source not in words
    ]
    lines += warnings
    if not {"environment", "service_root"} & settings.keys():
        lines.append("environment: production (the default)")
    if problem is not None:
        return failed(CONFIGURATION, problem, *lines)
    return passed(CONFIGURATION, *lines)


def _certificate(
    settings: Mapping[str, Setting],
) -> tuple[EnterpriseCertificate | None, str]:
    """The certificate by itself, because an error of another setting must not hide what is wrong with it."""
    setting = settings.get("certificate")
    if setting is None:
        return None, "No certificate is set. Set --certificate or POSTEN_SIGNERING_CERTIFICATE."
    try:
        path = Path(setting.value.reveal().strip())
        secret = password(settings, ask_for=path)
        return EnterpriseCertificate.from_pkcs12(path, password=secret.reveal()), ""
    except ConfigurationError as error:
        return None, f"{error} The file is set by {setting.source}."


def certificate_step(
    certificate: EnterpriseCertificate,
    environment: Environment | None,
    *,
    now: datetime,
    problem: str | None = None,
) -> Step:
    """Whether the certificate is valid now, names an organisation, and belongs to the environment.

    Args:
        certificate: The enterprise certificate.
        environment: The installation of the service; None if it is one that is not known.
        now: The current time.
        problem: A problem that is known already.
    """
    days = (certificate.not_after - now).days
    left = f"{days} days left" if days >= 0 else "expired"
    details = (
        f"organisation: {certificate.organization_name or 'no name'}, {certificate.organization_number or 'no number'}",
        f"issuer: {certificate.issuer}",
        f"valid: {certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d} ({left})",
        f"key usage: {', '.join(certificate.key_usage) or 'everything'}",
        f"SHA-256: {certificate.sha256}",
    )
    misplaced = wrong_environment(certificate, environment)
    if misplaced is not None:
        misplaced = f"{misplaced} Nothing was sent."
    problem = problem or _not_valid(certificate, now) or misplaced
    if problem is None and certificate.organization_number is None:
        problem = (
            "The certificate has no organisation number. Use an enterprise certificate, which names the "
            "organisation that it was issued to."
        )
    return (
        passed(CERTIFICATE, *details) if problem is None else failed(CERTIFICATE, problem, *details)
    )


def _not_valid(certificate: EnterpriseCertificate, now: datetime) -> str | None:
    try:
        certificate.check(now)
    except ConfigurationError as error:
        return str(error)
    return None


def environment_of(certificate: EnterpriseCertificate) -> Environment | None:
    """The environment whose authorities issued the certificate, by their names; None if they are not known."""
    names = {_attribute(entry.issuer, NameOID.COMMON_NAME) for entry in certificate.chain}
    for environment in (Environment.PRODUCTION, Environment.STAGING):
        if any(authority.name in names for authority in environment.authorities):
            return environment
    return None


def wrong_environment(
    certificate: EnterpriseCertificate, environment: Environment | None
) -> str | None:
    """Why the certificate belongs to a different environment; None if nothing says so.

    Args:
        certificate: The enterprise certificate.
        environment: The installation of the service; None if it is one that is not known.
    """
    if environment is None:
        return None
    advice = (
        f"Use a certificate for {environment.name}, or set the environment with --environment or "
        "POSTEN_SIGNERING_ENVIRONMENT."
    )
    if any(
        _attribute(entry.issuer, NameOID.ORGANIZATION_NAME) == _SANDBOX
        for entry in certificate.chain
    ):
        return (
            f"A sandbox issued the certificate, but the environment is {environment.name}, which does not "
            f"accept it. {advice} For a sandbox, set --service-root or POSTEN_SIGNERING_SERVICE_ROOT."
        )
    own = environment_of(certificate)
    if own is None or own.name == environment.name:
        return None
    return (
        f"The certificate belongs to {own.name}, because an authority of {own.name} issued it, but the "
        f"environment is {environment.name}. {advice}"
    )


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    attributes = name.get_attributes_for_oid(oid)
    return str(attributes[0].value) if attributes else ""


def anchors_step(
    anchors: Sequence[Authority],
    environment: Environment,
    *,
    given_anchors: Sequence[bytes],
    now: datetime,
) -> Step:
    """Which trust anchors the client uses, and whether they are valid now.

    Args:
        anchors: The trust anchors that the client uses.
        environment: The client's environment.
        given_anchors: The certificates that the user gave as candidates, in DER form.
        now: The current time.
    """
    pinned = {authority.sha256 for authority in environment.authorities}
    details = [
        f"{anchor.name}: {f'pinned for {environment.name}' if anchor.sha256 in pinned else 'trusted by you'}"
        f", {anchor.validity(now)}"
        for anchor in anchors
    ]
    unused = set(given_anchors) - {anchor.der for anchor in anchors}
    if unused:
        details.append(
            f"not used: {len(unused)} of the given certificates, because {environment.name} does not pin them"
        )
    if not any(anchor.is_valid(now) for anchor in anchors):
        return failed(
            ANCHORS,
            "None of the trust anchors is valid now. Check the clock of this machine, and get the "
            "current files with: posten-signering trust-anchors fetch",
            *details,
        )
    return passed(ANCHORS, *details)


def chain_step(certificate: EnterpriseCertificate, anchors: Sequence[Authority]) -> Step:
    """Whether the chain from the certificate to a root is complete."""
    missing = certificate.missing_issuer(anchor.der for anchor in anchors)
    if missing is None:
        return passed(CHAIN, "complete up to the root")
    return failed(
        CHAIN,
        f"The certificate of the issuer {missing} is missing. The service's documentation requires the "
        "whole chain in each container. Use a .p12 file that has it, or add the file to the trust anchors.",
    )


def ignored_proxies(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The names of variables that set a proxy for other programs. The client does not read them."""
    variables = os.environ if environ is None else environ
    return tuple(
        name
        for name in sorted(variables)
        if name.upper() in {"HTTPS_PROXY", "ALL_PROXY"} and variables[name].strip()
    )
