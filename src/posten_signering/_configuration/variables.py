"""Reads a client's settings from the environment variables `POSTEN_SIGNERING_*`."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from posten_signering._trust.anchors import TrustAnchors
from posten_signering._trust.certificates import EnterpriseCertificate
from posten_signering._trust.environment import Environment
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

_PREFIX = "POSTEN_SIGNERING_"
# In seconds. A client polls at least once in 24 hours in any case.
_SHORTEST_POLL_WAIT, _LONGEST_POLL_WAIT = 0.001, 24 * 60 * 60.0
_ENVIRONMENTS = {
    "production": Environment.PRODUCTION,
    "staging": Environment.STAGING,
    "difitest": Environment.DIFITEST,
}


def settings(environ: Secret[Mapping[str, str]]) -> dict[str, Any]:
    """The arguments of `ClientConfiguration` that the variables describe.

    Raises:
        ConfigurationError: A required variable is missing, or a value can't be used.
    """

    def variable(name: str) -> str | None:
        return environ.reveal().get(_PREFIX + name, "").strip() or None

    # Not a local variable either: by mistake, it may be the certificate with its key, not a path.
    if variable("CERTIFICATE") is None:
        raise ConfigurationError(
            f"{_PREFIX}CERTIFICATE is not set. Set it to the path of the enterprise certificate's "
            "PKCS#12 file."
        )
    return {
        "environment": _environment(
            variable("ENVIRONMENT"), variable("SERVICE_ROOT"), variable("DEFAULT_POLL_WAIT")
        ),
        "certificate": EnterpriseCertificate.from_pkcs12(
            Path(variable("CERTIFICATE") or ""),
            password=environ.reveal().get(_PREFIX + "CERTIFICATE_PASSWORD"),
        ),
        "trust_anchors": _trust_anchors(
            variable("TRUST_ANCHORS"), unpinned=variable("SERVICE_ROOT") is not None
        ),
        "sender": _sender(variable("ORGANIZATION_NUMBER"), variable("POLLING_QUEUE")),
        "proxy": variable("PROXY"),
    }


def _environment(
    name: str | None, service_root: str | None, default_poll_wait: str | None
) -> Environment:
    environment = _installation(name, service_root)
    if default_poll_wait is None:
        return environment
    return replace(environment, default_poll_wait=_poll_wait(default_poll_wait))


def _poll_wait(text: str) -> timedelta:
    seconds = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII) else 0.0
    if not _SHORTEST_POLL_WAIT <= seconds <= _LONGEST_POLL_WAIT:
        raise ConfigurationError(
            f"{_PREFIX}DEFAULT_POLL_WAIT is {text!r}, but must be a number of seconds from "
            f"{_SHORTEST_POLL_WAIT:g} to {_LONGEST_POLL_WAIT:g} (24 hours), such as 30."
        )
    return timedelta(seconds=seconds)


def _installation(name: str | None, service_root: str | None) -> Environment:
    environment = _ENVIRONMENTS.get((name or "production").lower())
    if environment is None and service_root is None:
        raise ConfigurationError(
            f"{_PREFIX}ENVIRONMENT is {name!r}, but must be one of {', '.join(_ENVIRONMENTS)}. For a "
            f"different service, set {_PREFIX}SERVICE_ROOT as well."
        )
    if service_root is None:
        return environment or Environment.PRODUCTION
    if environment is None or name is None:
        return Environment(name=name or "custom", service_root=service_root)
    return replace(environment, service_root=service_root)


def _trust_anchors(path: str | None, *, unpinned: bool) -> TrustAnchors:
    if path is None:
        return TrustAnchors()
    location = Path(path)
    is_directory = False
    with suppress(OSError):  # for example "File name too long"; then `from_files` raises
        is_directory = location.is_dir()
    if is_directory:
        anchors = TrustAnchors.from_directory(location)
    else:
        anchors = TrustAnchors.from_files(location)
    return TrustAnchors().trusting(*anchors.candidates) if unpinned else anchors


def _sender(organization_number: str | None, polling_queue: str | None) -> Sender | None:
    if organization_number is not None:
        return Sender(organization_number=organization_number, polling_queue=polling_queue)
    if polling_queue is not None:
        raise ConfigurationError(
            f"{_PREFIX}POLLING_QUEUE is set without {_PREFIX}ORGANIZATION_NUMBER. Set the number too, "
            "or remove the queue."
        )
    return None
