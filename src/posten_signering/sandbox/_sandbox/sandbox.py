"""The sandbox as tests and programs use it: its addresses, what its signers do, what arrived."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self, Unpack

from posten_signering import (
    ClientConfiguration,
    EnterpriseCertificate,
    Environment,
    Sender,
    TrustAnchors,
)
from posten_signering.sandbox._api.activity import OrganizationCounters
from posten_signering.sandbox._api.faults import Faults
from posten_signering.sandbox._control.control import require_organization_number
from posten_signering.sandbox._control.openapi import PREFIX
from posten_signering.sandbox._control.overview import Overview
from posten_signering.sandbox._intake.judge import Bundle
from posten_signering.sandbox._pages.application import OVERVIEW
from posten_signering.sandbox._sandbox.running import Running, start
from posten_signering.sandbox._state.job import Act, Job
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import SandboxError
from posten_signering.sandbox._values.settings import Settings, SettingsArguments


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What arrived with one job that the sandbox accepted.

    Attributes:
        job_id: The job that was made of it.
        request: The request's XML.
        manifest: The XML of `manifest.xml` in the container.
        documents: The documents' bytes by the names of their entries, in the manifest's order.
        container: The whole container (ASiC-E).
    """

    job_id: int
    request: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    documents: Mapping[str, bytes] = field(repr=False)
    container: bytes = field(repr=False)


class Sandbox:
    """A local service to develop and test against; `async with` starts and stops it.

    The API speaks mutual TLS and the signer's pages HTTP, both on loopback only. It runs in the
    caller's event loop, and keeps everything in memory unless it is given a directory.

        async with Sandbox() as sandbox:
            configuration = sandbox.client_configuration()

    Args:
        settings: Any of the settings: ports, times, limits, clock. Each defaults to what the real
            service is documented to do. `empty_queue_wait` (30 seconds), `lease` (10 minutes),
            `lifetime` of a job (30 days), `deletable_after` its completion (24 hours), `available_for`
            (40 days): `timedelta`. `rate_limit`: a `RateLimit`, or None. `clock`: gives the present
            time with an offset; everything the sandbox says of time follows it. `organizations`: the
            organisation numbers with an agreement; None, every one. `port`, `pages_port`: 0, a free
            one. `early_poll_penalty`: what each poll that comes too early adds to the next permitted
            time. `largest_body`: in bytes. `new_token`: makes tokens. `directory`: where everything
            is kept, so that a sandbox started there again continues where this one ended; None, in
            memory. `random` and `sleep`: for faults with a probability or a delay.

    Raises:
        OSError: On entering, when a port is taken or the directory can't be written to.
        SandboxError: On entering, when another sandbox uses the directory, what is in it can't be
            read, or a port is no port.
    """

    def __init__(self, **settings: Unpack[SettingsArguments]) -> None:
        self._settings = Settings(**settings)
        self._received: list[Received] = []
        self._running: Running | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise SandboxError("This sandbox runs already; start another for a second one.")
        self._received.clear()
        self._running = await start(
            self._settings, receive=self._receive, forget_received=self._received.clear
        )
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running, self._running = self._now_running, None
        await running.aclose()

    @property
    def service_root(self) -> str:
        """Where the API is: an https URL up to and including `/api`."""
        return self._now_running.links.service_root

    @property
    def signing_pages_url(self) -> str:
        """Where the signer's pages are; every redirect URL begins with it."""
        return self._now_running.links.pages_url

    @property
    def overview_url(self) -> str:
        """The page for a person to watch the sandbox, and to act on it."""
        return self.signing_pages_url.rstrip("/") + OVERVIEW

    @property
    def control_url(self) -> str:
        """The control API, for tests in any language; its OpenAPI document is at `/openapi.json`."""
        return self.signing_pages_url.rstrip("/") + PREFIX

    @property
    def ca_pem(self) -> bytes:
        """The root certificate of everything in this sandbox, in PEM form: the one to trust."""
        return self._now_running.control.authority.root_pem

    @property
    def ca_certificates(self) -> Mapping[str, bytes]:
        """The root certificate and the one below it, each in PEM form, by the names `root`, `issuing`.

        A client that wants to know every certificate of a chain needs both.
        """
        return self._now_running.control.authority.certificates_pem

    @property
    def received(self) -> Sequence[Received]:
        """What arrived since the start, job by job, oldest first. What was refused is not in it."""
        return tuple(self._received)

    @property
    def faults(self) -> Faults:
        """What goes wrong between clients and this sandbox: `faults.add(Fault(...))`."""
        return self._now_running.control.faults

    @property
    def counters(self) -> Mapping[str, OrganizationCounters]:
        """What the calls have come to, by organisation number: a snapshot."""
        return self._now_running.control.activity.counters

    def overview(self) -> Overview:
        """Everything the sandbox shows of itself: jobs, queues, the last requests; a snapshot."""
        return self._now_running.control.overview()

    def enterprise_pkcs12(self, organization_number: str) -> tuple[bytes, str]:
        """An enterprise certificate of an organisation, as a PKCS#12 file and its password.

        It may take a moment: every organisation has a key of its own.

        Args:
            organization_number: Nine digits; any will do.

        Raises:
            SandboxError: It has not nine digits.
        """
        running = self._now_running
        require_organization_number(organization_number)
        issued = running.control.authority.enterprise_pkcs12(organization_number)
        running.control.commit_now()
        return bytes(issued.content), str(issued.password)

    def client_configuration(
        self,
        organization_number: str = "123456789",
        *,
        polling_queue: str | None = None,
        sender: Sender | None = None,
        **overrides: Any,  # noqa: ANN401 - the fields of ClientConfiguration, each of its own type
    ) -> ClientConfiguration:
        """A configuration for a client of this sandbox, ready for use.

        Args:
            organization_number: Whose enterprise certificate the client has.
            polling_queue: The polling queue of the default sender.
            sender: The default sender, if it is another organisation than the certificate's (see
                `authorize_broker`).
            overrides: Further fields of `ClientConfiguration`.
        """
        running = self._now_running
        content, password = self.enterprise_pkcs12(organization_number)
        fields: dict[str, Any] = {
            "environment": Environment(
                name="Sandbox",
                service_root=running.links.service_root,
                default_poll_wait=self._settings.empty_queue_wait,
            ),
            "certificate": EnterpriseCertificate.from_pkcs12(content, password=password),
            "trust_anchors": TrustAnchors().trusting(running.control.authority.root_pem),
            "sender": sender
            or Sender(organization_number=organization_number, polling_queue=polling_queue),
            "clock": self._settings.clock,
        }
        if self._settings.rate_limit is None:
            fields["rate_limiter"] = _Unpaced()
        return ClientConfiguration(**{**fields, **overrides})

    def authorize_broker(self, certificate_org: str, sender_org: str) -> None:
        """Permits the holder of a certificate to act on behalf of a sender.

        Args:
            certificate_org: The organisation number of the certificate's holder.
            sender_org: The organisation number of the sender.
        """
        control = self._now_running.control
        control.authorize_broker(certificate_org, sender_org)
        control.commit_now()

    async def sign(self, redirect_url: str) -> str:
        """Signs, as the signer would whose browser was sent to this redirect URL.

        Returns:
            The exit URL that the browser goes to, with its `status_query_token`.

        Raises:
            SandboxError: The redirect URL was used, replaced by a newer one, or is not of this
                sandbox; or the job has ended.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.SIGN)

    async def reject(self, redirect_url: str) -> str:
        """Rejects, as the signer would; this ends the job for the other signers. See `sign`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.REJECT)

    async def fail(self, redirect_url: str) -> str:
        """Meets a technical failure as signer; this ends the job for the others. See `sign`."""
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.FAIL)

    async def expire(self, job_id: int) -> None:
        """Moves a job to the end of its lifetime: a signer who has not acted is EXPIRED.

        Raises:
            SandboxError: There is no such job, or it has ended.
        """
        control = self._now_running.control
        control.expire(job_id)
        await control.commit()

    async def end_lease(self, job_id: int, change: int) -> None:
        """Lets a status change that a poller has fetched come back at once.

        Args:
            job_id: The job.
            change: The change's number, as `overview` shows it.

        Raises:
            SandboxError: No poller has this change.
        """
        control = self._now_running.control
        control.end_lease(job_id, change)
        await control.commit()

    async def delete_documents(self, job_id: int) -> None:
        """Deletes the documents of a job that has ended, as when the service's time for them is over.

        Raises:
            SandboxError: There is no such job, it has not ended, or they are deleted already.
        """
        control = self._now_running.control
        control.delete_documents(job_id)
        await control.commit()

    async def advance(self, seconds: float) -> None:
        """Moves the sandbox's clock on: leases and poll times run out, jobs expire.

        Signing times of containers are still compared with the clock as it was given, so that a client
        whose clock is right is not refused.

        Raises:
            SandboxError: That is no time, or more than a year.
        """
        control = self._now_running.control
        control.advance(seconds)
        await control.commit()

    async def reset(self) -> None:
        """Forgets jobs, queues, brokers, faults and counters, and sets the clock right.

        Certificates stay, so that clients keep working.
        """
        control = self._now_running.control
        control.reset()
        await control.commit()

    def status_query_token(self, redirect_url: str) -> str:
        """The token that the exit URL will carry when the signer has finished.

        A status asked for with it before that is refused (SIGNING_CEREMONY_NOT_COMPLETED).

        Raises:
            SandboxError: The redirect URL opens nothing. See `sign`.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        control = self._now_running.control
        who = control.state.signer_of(self._token_in(redirect_url), now=control.settings.now())
        return control.state.tables.jobs[who.job_id].signers[who.position].status_query_token

    @property
    def _now_running(self) -> Running:
        if self._running is None:
            raise SandboxError("This sandbox does not run: use it inside `async with`.")
        return self._running

    async def _act(self, redirect_url: str, what: Act) -> str:
        control = self._now_running.control
        exit_url = control.act(self._token_in(redirect_url), what)
        await control.commit()
        return str(exit_url)

    def _token_in(self, redirect_url: str) -> Hidden:
        start = self._now_running.links.redirect("")
        if not redirect_url.startswith(start):
            raise SandboxError(
                "This is not a redirect URL of this sandbox: take the redirect_url of a signer,"
                " not the signer URL."
            )
        return Hidden(redirect_url.removeprefix(start))

    def _receive(self, job: Job, bundle: Bundle) -> None:
        self._received.append(
            Received(
                job_id=job.id,
                request=bundle.request_xml,
                manifest=bundle.manifest_xml,
                documents=MappingProxyType(dict(bundle.documents)),
                container=bundle.container,
            )
        )


class _Unpaced:
    """A rate limiter that lets everything through at once, for a sandbox without a rate limit."""

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        """Returns at once; it counts no calls in flight."""
        del organization_number
        return lambda: None

    async def block(self, organization_number: str, seconds: float) -> None:
        """Takes no note of it."""
