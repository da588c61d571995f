"""When a warning that a certificate expires is given: the days, the repetitions, and clocks that jump."""

import functools
from datetime import timedelta

import loopback
import pki
import pytest
from doubles import Clock
from transport_client import OK, Client, context_for

from posten_signering import CertificateKind
from posten_signering._trust.expiry import ExpiryWarnings, watched_certificates, without_expired
from posten_signering.errors import TlsError

DAY = timedelta(days=1)
ENTERPRISE, TRUST_ANCHOR = CertificateKind


@functools.cache
def own(days_left: float) -> pki.Issued:
    name = pki.subject(f"Sender {days_left}", organization_identifier=f"NTRNO-{pki.SENDER}")
    return pki.issue(name, pki.root(), not_after=pki.NOW + days_left * DAY)


@functools.cache
def anchor(days_left: float, name: str = "Business CA") -> pki.Issued:
    return pki.issue(
        pki.subject(name),
        pki.root(),
        ca=True,
        not_before=pki.NOW - 300 * DAY,
        not_after=pki.NOW + days_left * DAY,
    )


class Warned:
    """`ExpiryWarnings` with a clock that the test moves. Returns the warnings of each check."""

    def __init__(self, certificate: pki.Issued, *anchors: pki.Issued) -> None:
        self.clock, self.events = Clock(), []
        self.warnings = ExpiryWarnings(
            clock=self.clock, monotonic=self.clock.monotonic, notify=self.events.append
        )
        self.watch(certificate, *anchors)

    def watch(self, certificate: pki.Issued, *anchors: pki.Issued) -> None:
        ders = [issuer.der for issuer in anchors]
        self.warnings.watch(watched_certificates(certificate.enterprise(), ders))

    def taken(self) -> list[tuple[CertificateKind, float]]:
        """The kind, and the days left, of each warning since the last call."""
        events, self.events[:] = [*self.events], []
        return [(event.kind, event.time_left / DAY) for event in events]

    def after(self, **time: float) -> list[tuple[CertificateKind, float]]:
        """The warnings of a check at this time after the one before."""
        self.clock.wait(**time)
        self.warnings.check()
        return self.taken()


def test_a_warning_is_given_daily_from_thirty_days_before_expiry():
    warned = Warned(own(31))
    assert warned.taken() == []
    assert warned.after(hours=23) == []
    assert warned.after(hours=1) == [(ENTERPRISE, 30)]
    assert warned.after(hours=0) == []
    assert warned.after(hours=23) == []
    assert warned.after(hours=1) == [(ENTERPRISE, 29)]
    assert warned.after(days=9) == [(ENTERPRISE, 20)]  # a client without calls gives none


def test_the_first_warning_is_given_at_once_and_names_the_certificate():
    certificate = own(3)
    warned = Warned(certificate)
    [event] = warned.events
    assert event.subject == certificate.enterprise().subject
    assert event.sha256 == certificate.enterprise().sha256
    assert event.not_after == certificate.enterprise().not_after
    assert event.time_left == 3 * DAY


def test_a_certificate_that_expires_is_reported_at_once_and_then_daily():
    warned = Warned(own(0.5))
    assert warned.taken() == [(ENTERPRISE, 0.5)]
    assert warned.after(hours=13) == [(ENTERPRISE, pytest.approx(-1 / 24))]
    assert warned.after(hours=23) == []
    assert warned.after(hours=1) == [(ENTERPRISE, pytest.approx(-25 / 24))]


def test_a_trust_anchor_is_reported_daily_before_it_expires_and_once_afterwards():
    warned = Warned(own(300), anchor(1.5), anchor(200, "Other CA"))
    assert warned.taken() == [(TRUST_ANCHOR, 1.5)]
    assert warned.after(days=1) == [(TRUST_ANCHOR, 0.5)]
    assert warned.after(days=1) == [(TRUST_ANCHOR, -0.5)]
    assert warned.after(days=1) == []
    assert Warned(own(300), anchor(-9)).taken() == [(TRUST_ANCHOR, -9)]


def test_a_certificate_that_is_no_longer_watched_is_not_reported():
    old, new = own(20), own(25)
    warned = Warned(old)
    assert warned.taken() == [(ENTERPRISE, 20)]
    warned.watch(new)
    assert warned.taken() == [(ENTERPRISE, 25)]
    assert warned.after(days=1) == [(ENTERPRISE, 24)]
    warned.watch(own(300))
    assert warned.after(days=1) == []


def test_watching_the_same_certificate_again_repeats_no_warning():
    warned = Warned(own(20), anchor(10))
    assert len(warned.taken()) == 2
    warned.watch(own(25), anchor(10))
    warned.watch(own(20), anchor(10))
    assert warned.taken() == [(ENTERPRISE, 25)]


class TestAClockThatJumps:
    def test_forwards_and_back_gives_one_warning_of_each_kind(self):
        warned = Warned(own(20))
        for _ in range(100):
            warned.clock.now += 100 * DAY
            warned.warnings.check()
            warned.clock.now -= 100 * DAY
            warned.warnings.check()
        assert warned.taken() == [(ENTERPRISE, 20), (ENTERPRISE, -80)]

    def test_back_suppresses_no_warning_once_it_is_right(self):
        warned = Warned(own(20))
        warned.taken()
        warned.clock.now -= 1000 * DAY
        assert warned.after(days=1) == []
        warned.clock.now += 1000 * DAY
        assert warned.after(days=0) == [(ENTERPRISE, 19)]

    def test_by_a_suspended_machine_gives_the_warning_at_the_next_check(self):
        """The monotonic clock of Linux does not advance while the machine is suspended."""
        warned = Warned(own(40))
        warned.clock.now += 41 * DAY
        assert warned.after(days=0) == [(ENTERPRISE, -1)]


# --- Expired trust anchors


@pytest.mark.anyio
async def test_an_expired_intermediate_is_left_out_because_openssl_prefers_it_to_its_root():
    """The service sends the intermediate's successor, with the same name and key."""
    given = (anchor(-1).der, pki.root().der)
    assert without_expired(given, pki.NOW) == (pki.root().der,)
    assert without_expired(given[:1], pki.NOW) == given[:1]
    context = pki.server_context(pki.service(), clients=pki.root())
    async with loopback.http_server(OK, context) as server:
        async with Client(server, context=context_for(pki.root())) as client:
            await client.fetch()
        async with Client(server, context=context_for(anchor(-1), pki.root())) as client:
            with pytest.raises(TlsError, match="certificate has expired"):
                await client.fetch()
