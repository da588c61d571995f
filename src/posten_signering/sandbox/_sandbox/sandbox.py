"""`Sandbox`, the class that tests and programs use: URLs, signers' actions and received jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Any, Self, Unpack

from posten_signering import (
    ClientConfiguration,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    InMemoryFleet,
    Sender,
    TrustAnchors,
)
from posten_signering.sandbox._api.activity import OrganizationCounters
from posten_signering.sandbox._api.faults import Faults
from posten_signering.sandbox._control.control import require_organization_number
from posten_signering.sandbox._control.openapi import PREFIX
from posten_signering.sandbox._control.overview import Overview
from posten_signering.sandbox._intake.judge import Bundle
from posten_signering.sandbox._pages import exits
from posten_signering.sandbox._pages.application import OVERVIEW
from posten_signering.sandbox._sandbox.running import Running, start
from posten_signering.sandbox._state.job import Act, Job
from posten_signering.sandbox._values.clock import AdvancedClock
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import SandboxError
from posten_signering.sandbox._values.settings import Settings, SettingsArguments


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What the sandbox received for one job that it accepted.

    Attributes:
        job_id: The id of the created job.
        request: The request's XML.
        manifest: The XML of `manifest.xml` in the container.
        documents: The documents' bytes, by their file names in the container, in the manifest's order.
        container: The whole container (ASiC-E).
    """

    job_id: int
    request: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    documents: Mapping[str, bytes] = field(repr=False)
    container: bytes = field(repr=False)


class Sandbox:
    """A local service to develop and test against; `async with` starts and stops it.

    The API uses mutual TLS and the signer's pages use HTTP, both on loopback only. The sandbox runs in
    the caller's event loop, and keeps everything in memory unless the setting `directory` is given.

        async with Sandbox() as sandbox:
            configuration = sandbox.client_configuration()

    The defaults of the settings follow the documentation of the real service:

    - `port` and `pages_port`: the ports of the API and of the signer's pages. 0 (the default): a free port.
    - `directory`: where the sandbox keeps its state for the next start. None (the default): in memory.
    - `empty_queue_wait`: a `timedelta`, the wait after an empty queue (30 seconds).
    - `early_poll_penalty`: a `timedelta` that each early poll adds to the next permitted poll time (zero).
    - `lease`: a `timedelta`, how long a delivered change is hidden from other polls (10 minutes).
    - `lifetime`: a `timedelta`, how long signers may act on a job (30 days).
    - `deletable_after`: a `timedelta` from completion until documents may be deleted (24 hours).
    - `available_for`: a `timedelta` from a job's end until its documents are gone (40 days).
    - `rate_limit`: a `RateLimit`. None: no limit.
    - `organizations`: a frozenset of the organisation numbers that have access. None (the default): all.
    - `largest_body`: the size of the largest request, in bytes.
    - `document_time_limit`: a `timedelta`, how long the documents of a job may take to become one PDF (6
      seconds).
    - `clock`: a function that returns the current time as an aware `datetime`.
    - `new_token`: a function that returns a new token.
    - `random` and `sleep`: functions for faults with a probability or a delay.

    Args:
        settings: Any of these settings, by name.

    Raises:
        OSError: On entering, when a port is in use or the directory can't be written to.
        SandboxError: On entering, when another sandbox uses the directory, the file in it can't be
            read, or a port is out of range. Later, when the file can't be written to, or when the
            sandbox is used while it is not running.
    """

    def __init__(self, **settings: Unpack[SettingsArguments]) -> None:
        self._settings = Settings(**settings)
        self._clock = AdvancedClock(self._settings.clock)
        self._received: list[Received] = []
        self._running: Running | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise SandboxError(
                "This sandbox is already running: create another `Sandbox` to run a second one."
            )
        self._received.clear()
        self._running = await start(
            self._settings,
            clock=self._clock,
            receive=self._receive,
            forget_received=self._received.clear,
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
        """The root of the API: an https URL up to and including `/api`."""
        return self._now_running.links.service_root

    @property
    def signing_pages_url(self) -> str:
        """The root of the signer's pages: an http URL that every redirect URL begins with."""
        return self._now_running.links.pages_url

    @property
    def overview_url(self) -> str:
        """The URL of the overview page, which shows the sandbox's state and can change it."""
        return self.signing_pages_url.rstrip("/") + OVERVIEW

    @property
    def exit_urls(self) -> ExitUrls:
        """Exit URLs that lead to pages of the sandbox, for jobs of a sender without a web site."""
        root = self.signing_pages_url.rstrip("/")
        return ExitUrls(
            completion=root + exits.COMPLETED,
            rejection=root + exits.REJECTED,
            error=root + exits.ERROR,
        )

    @property
    def control_url(self) -> str:
        """The URL of the control API, for tests in any language. A GET returns its OpenAPI document."""
        return self.signing_pages_url.rstrip("/") + PREFIX

    @property
    def ca_pem(self) -> bytes:
        """The sandbox's root certificate in PEM form: the trust anchor for its clients."""
        return self._now_running.control.authority.root_pem

    @property
    def ca_certificates(self) -> Mapping[str, bytes]:
        """The CA certificates in PEM form: the root as `root`, the one below it as `issuing`.

        A client that must know every CA certificate of a chain needs both.
        """
        return self._now_running.control.authority.certificates_pem

    @property
    def received(self) -> Sequence[Received]:
        """The jobs that the sandbox accepted since its start or latest reset, oldest first."""
        return tuple(self._received)

    @property
    def faults(self) -> Faults:
        """The faults between clients and this sandbox; `faults.add(Fault(...))` adds one."""
        return self._now_running.control.faults

    @property
    def counters(self) -> Mapping[str, OrganizationCounters]:
        """A snapshot of the calls, refusals and early polls, by organisation number."""
        return self._now_running.control.activity.counters

    def overview(self) -> Overview:
        """A snapshot of the sandbox's state: jobs, queues, the latest requests, and more."""
        return self._now_running.control.overview()

    def enterprise_pkcs12(self, organization_number: str) -> tuple[bytes, str]:
        """An enterprise certificate of an organisation, as a PKCS#12 file and its password.

        The first call for an organisation creates its key, which may take a moment.

        Args:
            organization_number: Any nine digits.

        Raises:
            SandboxError: `organization_number` is not nine digits.
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
        **overrides: Any,  # noqa: ANN401 - the fields of ClientConfiguration have different types
    ) -> ClientConfiguration:
        """A complete configuration for a client of this sandbox.

        `advance` also moves the client's clocks, and ends waits of the client that are then over: an
        iterator polls, and a lease or a block by the rate limit ends. Pass `clock`, `monotonic` or
        `sleep` to replace them.

        Args:
            organization_number: The organisation number in the client's enterprise certificate.
            polling_queue: The polling queue of the default sender; not used with `sender`.
            sender: The default sender, when it is a different organisation than the certificate's
                holder (see `authorize_broker`).
            overrides: Further fields of `ClientConfiguration`.

        Raises:
            SandboxError: `organization_number` is not nine digits.
            ConfigurationError: The value of an override is not permitted.
            ArgumentTypeError: The value of an override has a wrong type.
        """
        running = self._now_running
        content, password = self.enterprise_pkcs12(organization_number)
        fields: dict[str, Any] = {
            "environment": Environment(
                name="Sandbox",
                service_root=running.links.service_root,
                # A client needs a wait, even if it is too short to notice.
                default_poll_wait=max(self._settings.empty_queue_wait, timedelta.resolution),
            ),
            "certificate": EnterpriseCertificate.from_pkcs12(content, password=password),
            "trust_anchors": TrustAnchors().trusting(running.control.authority.root_pem),
            "sender": sender
            or Sender(organization_number=organization_number, polling_queue=polling_queue),
            "clock": self._clock,
            "monotonic": self._clock.monotonic,
            "sleep": self._clock.sleep,
        }
        if self._settings.rate_limit is None:
            fields["fleet"] = InMemoryFleet(share=None)
        return ClientConfiguration(**{**fields, **overrides})

    def authorize_broker(self, certificate_org: str, sender_org: str) -> None:
        """Permits the holder of a certificate to act on behalf of a sender.

        Args:
            certificate_org: The organisation number of the certificate's holder.
            sender_org: The organisation number of the sender.

        Raises:
            SandboxError: An organisation number is not nine digits.
        """
        control = self._now_running.control
        control.authorize_broker(certificate_org, sender_org)
        control.commit_now()

    async def sign(self, redirect_url: str) -> str:
        """Signs, as the signer with this redirect URL would in a browser.

        Returns:
            The exit URL that the browser is sent to, with the `status_query_token`.

        Raises:
            SandboxError: The redirect URL is used, replaced by a newer one, or not a redirect URL of
                this sandbox; or the job has ended.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.SIGN)

    async def reject(self, redirect_url: str) -> str:
        """Rejects, as the signer would. This also ends the job for the other signers.

        Returns:
            The exit URL that the browser is sent to, with the `status_query_token`.

        Raises:
            SandboxError: As for `sign`.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.REJECT)

    async def fail(self, redirect_url: str) -> str:
        """Fails the signing, as after a technical error. This also ends the job for the other signers.

        Returns:
            The exit URL that the browser is sent to, with the `status_query_token`.

        Raises:
            SandboxError: As for `sign`.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        return await self._act(redirect_url, Act.FAIL)

    async def expire(self, job_id: int) -> None:
        """Ends a job as if its lifetime were over: signers who have not acted become EXPIRED.

        Raises:
            SandboxError: There is no such job, or it has ended already.
        """
        control = self._now_running.control
        control.expire(job_id)
        await control.commit()

    async def end_lease(self, job_id: int, change: int) -> None:
        """Ends the lease of a status change, so that the next poll can get it.

        Args:
            job_id: The job.
            change: The change's number, as `overview` shows it.

        Raises:
            SandboxError: There is no such job, or it has no leased change with this number.
        """
        control = self._now_running.control
        control.end_lease(job_id, change)
        await control.commit()

    async def delete_documents(self, job_id: int) -> None:
        """Deletes the documents of a job that has ended, as the service does after `available_for`.

        Raises:
            SandboxError: There is no such job, it has not ended, or its documents are deleted already.
        """
        control = self._now_running.control
        control.delete_documents(job_id)
        await control.commit()

    async def advance(self, seconds: float) -> None:
        """Advances the sandbox's time: leases end, polls are permitted, jobs expire.

        The clients of `client_configuration` follow. Other clients can't: the sandbox also accepts
        signing times by the setting `clock`, so their jobs are accepted as before.

        Raises:
            SandboxError: `seconds` is zero, negative or more than a year, or the sandbox's time would be
                more than 50 years ahead. `reset` undoes every `advance`.
        """
        control = self._now_running.control
        control.advance(seconds)
        await control.commit()

    async def reset(self) -> None:
        """Deletes jobs, queues, brokers, faults and counters, and undoes `advance`.

        Certificates are kept, so that clients keep working.
        """
        control = self._now_running.control
        control.reset()
        await control.commit()

    def status_query_token(self, redirect_url: str) -> str:
        """The token that the exit URL will carry when the signer has finished.

        Until then the sandbox refuses it with SIGNING_CEREMONY_NOT_COMPLETED.

        Raises:
            SandboxError: As for `sign`.
        """
        redirect_url = Hidden(redirect_url)  # Its token must not show in a traceback with locals.
        control = self._now_running.control
        signer = control.state.signer_of(self._token_in(redirect_url), now=control.settings.now())
        return control.state.tables.jobs[signer.job_id].signers[signer.position].status_query_token

    @property
    def _now_running(self) -> Running:
        if self._running is None:
            raise SandboxError("This sandbox is not running: use it inside `async with`.")
        return self._running

    async def _act(self, redirect_url: str, action: Act) -> str:
        control = self._now_running.control
        exit_url = control.act(self._token_in(redirect_url), action)
        await control.commit()
        return str(exit_url)

    def _token_in(self, redirect_url: str) -> Hidden:
        prefix = self._now_running.links.redirect("")
        if not redirect_url.startswith(prefix):
            raise SandboxError(
                "redirect_url is not a redirect URL of this sandbox: pass the `redirect_url` of a signer,"
                " not its signer URL."
            )
        return Hidden(redirect_url.removeprefix(prefix))

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
