"""The steps of `check` that use the network: proxy, TLS, clock, access, sender. They send one request."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from posten_signering import (
    CallEnded,
    ClientConfiguration,
    DirectClient,
    Event,
    Retries,
    Secret,
    Sender,
)
from posten_signering._cli.setup.steps import (
    ACCESS,
    CLOCK,
    PROXY,
    SENDER,
    TLS,
    Result,
    Step,
    failed,
    ignored_proxies,
    passed,
)
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    ConfigurationError,
    SigningError,
    TlsError,
    TransportError,
)

# The service accepts a signature only if its time differs by at most 5 seconds ("Dokumentpakke").
_TOLERANCE = timedelta(seconds=5)
# The service's Date has whole seconds.
_UNCERTAINTY = timedelta(seconds=1)

# What to do, where the error itself has no advice.
_REACHABLE = " Check that the service runs at this URL, and that no firewall blocks connections to its host and port."
_LATER = " The service is not available at present. Run the check again later."

_LONGEST_DESCRIPTION = 300
_DEFAULT_PORTS = {"http": 80, "https": 443}


def network_steps(configuration: ClientConfiguration) -> list[Step]:
    """The steps that use the network. They end at the first failure that prevents the others."""
    proxy = proxy_step(configuration)
    if proxy.result is Result.FAILED:
        return [proxy]
    return [proxy, *asyncio.run(_client_steps(configuration))]


def proxy_step(configuration: ClientConfiguration) -> Step:
    """Whether the proxy accepts connections, if there is one."""
    if configuration.proxy is None:
        ignored = [
            f"{name} is set, but the client does not read it. Set POSTEN_SIGNERING_PROXY to use a proxy."
            for name in ignored_proxies()
        ]
        return passed(PROXY, "none", *ignored)
    address = _address(Secret(configuration.proxy))
    if address is None:
        return failed(
            PROXY, "The proxy is not an http or https URL, such as http://user:password@host:port."
        )
    host, port = address
    try:
        socket.create_connection(address, timeout=configuration.timeouts.connect).close()
    except TimeoutError:
        reason = f"no connection within {configuration.timeouts.connect:g} seconds"
    except socket.gaierror as error:  # its numbers are not those of the operating system
        reason = str(error.strerror)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
    else:
        return passed(PROXY, f"{host}:{port} accepts connections")
    return failed(
        PROXY,
        f"The proxy {host}:{port} can't be reached: {reason}. Check its host and port, and whether it runs.",
    )


def _address(proxy: Secret[str]) -> tuple[str, int] | None:
    """The host and the port of a proxy, without user and password; None if the URL can't be used."""
    with suppress(ValueError):
        scheme = urlsplit(proxy.reveal()).scheme
        host, port = urlsplit(proxy.reveal()).hostname, urlsplit(proxy.reveal()).port
        if host and scheme in _DEFAULT_PORTS:
            return host, port or _DEFAULT_PORTS[scheme]
    return None


async def _client_steps(configuration: ClientConfiguration) -> list[Step]:
    calls: list[CallEnded] = []

    def record(event: Event) -> None:
        if isinstance(event, CallEnded):
            calls.append(event)

    observed = replace(
        configuration,
        observers=(*configuration.observers, record),
        retries=Retries(max_retries=0),
    )
    try:
        async with DirectClient(observed) as client:
            return await _service_steps(client, calls)
    except ConfigurationError as error:
        return [_connection_failure(configuration, error)]


async def _service_steps(client: DirectClient, calls: Sequence[CallEnded]) -> list[Step]:
    configuration = client.configuration
    own = client.certificate.organization_number or ""
    sender = configuration.sender
    try:
        description = await client.check_access(sender=sender or Sender(organization_number=own))
    except TransportError as error:
        return [_connection_failure(configuration, error)]
    except BrokerNotAuthorizedError as error:
        access = [passed(ACCESS, f"organisation {own}"), failed(SENDER, str(error))]
    except SigningError as error:
        unavailable = isinstance(error, ApiError) and error.status >= 500
        access = [failed(ACCESS, f"{error}{_LATER if unavailable else ''}")]
    else:
        access = [passed(ACCESS, printable(description)), _sender_step(own, sender)]
    tls = passed(
        TLS,
        f"connected to {configuration.environment.service_root}",
        "the service's certificate is trusted and belongs to organisation "
        f"{configuration.environment.server_organization_number}",
        "the service accepts the enterprise certificate",
    )
    return [tls, clock_step(calls[-1].clock_difference), *access]


def _connection_failure(configuration: ClientConfiguration, error: SigningError) -> Step:
    if configuration.proxy is not None and "proxy" in str(error).lower():
        return failed(PROXY, str(error))
    unreachable = isinstance(error, TransportError) and not isinstance(error, TlsError)
    return failed(TLS, f"{error}{_REACHABLE if unreachable else ''}")


def _sender_step(own: str, sender: Sender | None) -> Step:
    if sender is None:
        return passed(SENDER, "none is set, so each job and each poll must name one")
    if sender.organization_number == own:
        return passed(SENDER, f"{own}, the organisation of the certificate")
    return passed(
        SENDER,
        f"{sender.organization_number}, for which the organisation {own} may act as a broker",
    )


def clock_step(difference: timedelta | None) -> Step:
    """Whether the local clock is right enough to sign, by the service's clock.

    Args:
        difference: As `CallEnded.clock_difference`.
    """
    if difference is None:
        return passed(CLOCK, "the service did not send its time, so the clock was not compared")
    seconds = difference.total_seconds()
    direction = "ahead of" if seconds > 0 else "behind"
    amount = f"{abs(seconds):.0f} second{'' if round(abs(seconds)) == 1 else 's'}"
    found = f"this machine's clock is {amount} {direction} the service's"
    if abs(seconds) < _UNCERTAINTY.total_seconds():
        found = "this machine's clock agrees with the service's"
    if -_TOLERANCE <= difference <= _TOLERANCE + _UNCERTAINTY:
        return passed(CLOCK, found)
    return failed(
        CLOCK,
        f"{found[0].upper()}{found[1:]}, and the service accepts a signature only within "
        f"{_TOLERANCE.seconds} seconds. Set the clock, for example with NTP.",
    )


def printable(description: str) -> str:
    """A text of the service on one line, without control characters."""
    line = " ".join(description.split())
    kept = "".join(character for character in line if character.isprintable())
    return kept[:_LONGEST_DESCRIPTION]
