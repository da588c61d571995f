"""How senders, signers and time change jobs: transitions without I/O, with the time as an argument."""

import pickle
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from urllib.parse import parse_qs, urlencode, urlsplit

import bundles
import pytest
from bundles import NOW, PERSON, SENDER, later
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox._intake.messages import read_job_request, read_manifest
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, JobStatus, SignerStatus
from posten_signering.sandbox._state.queues import Outcome
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Tables
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings, SettingsArguments

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
OTHER = "111222333"


def tokens():
    numbers = count(1)
    return lambda: f"token-{next(numbers)}"


def manifest(signers: int):
    xml = "".join(
        f"<signer><signer-identifier>signer-{number}</signer-identifier></signer>"
        for number in range(signers)
    )
    return read_manifest(Octets(bundles.manifest_xml(bundles.two_files(), signers=xml)))


class World:
    """A state, and a clock that only `wait` advances."""

    def __init__(self, **settings):
        self.settings = Settings(new_token=tokens(), **settings)
        self.state = State(self.settings, Tables())
        self.now = NOW

    def create(self, signers=1, extra=""):
        request = read_job_request(Octets(bundles.request_xml(extra=extra)))
        return self.state.create(SENDER, request, manifest(signers), now=self.now)

    def act(self, job, position=0, action=Act.SIGN):
        token = self.job(job).signers[position].redirect_token
        return self.state.act(token, action, now=self.now)

    def job(self, job):
        return self.state.job(SENDER, job.id, now=self.now)

    def poll(self, queue=None):
        return self.state.poll(SENDER, queue, now=self.now)

    def token(self, job, position=0):
        return job.signers[position].status_query_token

    def status(self, job, position=0):
        return self.state.status(SENDER, job.id, self.token(job, position), now=self.now)

    def signer_statuses(self, job):
        return [signer.state.status for signer in self.job(job).signers]

    def wait(self, **time):
        self.now += timedelta(**time)


def refused(call, *args, **kwargs) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    return caught.value.status, caught.value.code


# --- Actions of signers


def test_all_signers_of_a_new_job_are_waiting():
    world = World()
    job = world.create(signers=2)
    assert job.status is JobStatus.IN_PROGRESS
    assert world.signer_statuses(job) == [SignerStatus.WAITING] * 2
    assert world.create().id == job.id + 1


def test_a_job_is_completed_when_every_signer_has_signed():
    world = World()
    job = world.create(signers=2)
    world.act(job, 1)
    assert world.job(job).status is JobStatus.IN_PROGRESS
    world.wait(minutes=1)
    world.act(job, 0)
    assert world.job(job).status is JobStatus.COMPLETED_SUCCESSFULLY
    assert [signer.state.since for signer in world.job(job).signers] == [world.now, NOW]


@pytest.mark.parametrize(
    ("action", "status"), [(Act.REJECT, SignerStatus.REJECTED), (Act.FAIL, SignerStatus.FAILED)]
)
def test_a_rejection_or_failure_ends_the_job_for_signers_who_have_not_acted(action, status):
    world = World()
    job = world.create(signers=3)
    world.act(job, 0)
    world.act(job, 1, action)
    assert world.job(job).status is JobStatus.FAILED
    assert world.signer_statuses(job) == [
        SignerStatus.SIGNED,
        status,
        SignerStatus.NOT_APPLICABLE,
    ]
    assert refused(world.act, job, 2) == (410, "REDIRECT_URL_USED")


@pytest.mark.parametrize(
    ("action", "address"),
    [
        (Act.SIGN, "https://example.com/done?a=1&b=2&status_query_token=token-2"),
        (Act.REJECT, "https://example.com/rejected?status_query_token=token-2"),
        (Act.FAIL, "https://example.com/error?status_query_token=token-2"),
    ],
)
def test_each_action_leads_to_its_exit_url_with_a_token(action, address):
    world = World()
    assert world.act(world.create(), action=action) == address


@given(
    query=st.dictionaries(
        st.text("abcæ&=%# +", min_size=1).map(lambda name: f"q{name}"),
        st.text("abcæ&=%# +", min_size=1),
        max_size=3,
    ),
    token=st.text("aZ09-_&=%# +æ", min_size=1),
    fragment=st.sampled_from(["", "#part"]),
)
def test_adding_the_token_changes_nothing_else_in_an_exit_url(query, token, fragment):
    world = World()
    job = world.create()
    before = f"https://example.com/a%20b/?{urlencode(query)}{fragment}"
    job = replace(
        job,
        request=replace(job.request, completion_url=before),
        signers=(replace(job.signers[0], status_query_token=token),),
    )
    after = urlsplit(job_rules.exit_url(job, 0, Act.SIGN))
    assert parse_qs(after.query) == {
        **{name: [value] for name, value in query.items()},
        "status_query_token": [token],
    }
    assert (after.path, after.fragment) == ("/a%20b/", fragment.removeprefix("#"))


@pytest.mark.parametrize("action", list(Act))
def test_a_redirect_token_works_once(action):
    world = World()
    job = world.create(signers=2)
    world.act(job, 0)
    assert refused(world.act, job, 0, action) == (410, "REDIRECT_URL_USED")
    assert world.signer_statuses(job) == [SignerStatus.SIGNED, SignerStatus.WAITING]


def test_an_unknown_redirect_token_is_refused():
    world = World()
    world.create()
    assert refused(world.state.act, "guess", Act.SIGN, now=NOW) == (404, "REDIRECT_URL_UNKNOWN")


def test_a_new_redirect_url_replaces_the_old_one():
    world = World()
    job = world.create(signers=2)
    old = job.signers[0].redirect_token
    renewed = world.state.renew_redirect(SENDER, job.id, 0, now=NOW)
    assert refused(world.state.act, old, Act.SIGN, now=NOW) == (410, "REDIRECT_URL_REPLACED")
    world.state.act(renewed.signers[0].redirect_token, Act.SIGN, now=NOW)
    assert world.signer_statuses(job) == [SignerStatus.SIGNED, SignerStatus.WAITING]
    assert renewed.signers[1] == job.signers[1]


def test_a_signer_who_has_finished_gets_no_new_redirect_url():
    world = World()
    job = world.create(signers=2)
    world.act(job, 0, Act.REJECT)
    for position in (0, 1):
        renew = (world.state.renew_redirect, SENDER, job.id, position)
        assert refused(*renew, now=NOW) == (409, "SIGNER_HAS_FINISHED")
    assert refused(world.state.renew_redirect, SENDER, job.id, 2, now=NOW) == (404, "NOT_FOUND")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Act)), max_size=6))
def test_the_status_of_a_signer_changes_at_most_once(acts):
    world = World()
    job = world.create(signers=3, extra=POLLED)
    changes = 0
    for position, action in acts:
        before = world.job(job).signers
        world.wait(seconds=1)
        try:
            world.act(job, position, action)
        except Refusal:
            assert world.job(job).signers == before
            continue
        changes += 1
        for old, new in zip(before, world.job(job).signers, strict=True):
            assert old == new or old.state.status is SignerStatus.WAITING
    statuses = world.signer_statuses(job)
    ended = JobStatus.COMPLETED_SUCCESSFULLY if set(statuses) == {"SIGNED"} else JobStatus.FAILED
    expected = JobStatus.IN_PROGRESS if "WAITING" in statuses else ended
    assert world.job(job).status is expected
    polled = [world.poll()[0] for _ in range(changes + 1)]
    assert [poll.outcome for poll in polled] == [Outcome.CHANGE] * changes + [Outcome.EMPTY]


# --- The effect of time


def test_a_job_expires_thirty_days_after_it_was_created():
    world = World()
    job = world.create(signers=2, extra=POLLED)
    world.act(job, 0)
    world.wait(days=30, milliseconds=-1)
    assert world.job(job).status is JobStatus.IN_PROGRESS
    world.wait(milliseconds=1)
    assert world.signer_statuses(job) == [SignerStatus.SIGNED, SignerStatus.EXPIRED]
    assert world.job(job).status is JobStatus.FAILED
    assert [world.poll()[1].job_status for _ in range(2)] == [
        JobStatus.IN_PROGRESS,
        JobStatus.FAILED,
    ]
    assert refused(world.act, job, 1) == (410, "REDIRECT_URL_USED")


def test_each_job_expires_at_its_own_time_even_after_a_restart():
    world = World()
    first = world.create()
    world.wait(days=10)
    done, second = world.create(), world.create()
    world.act(done)
    world.state = State(world.settings, world.state.tables)
    world.wait(days=20)
    assert world.job(first).status is JobStatus.FAILED
    assert world.job(first).latest_change == NOW + timedelta(days=30)
    assert world.job(second).status is JobStatus.IN_PROGRESS
    world.wait(days=10)
    assert world.job(second).status is JobStatus.FAILED
    assert world.job(done).status is JobStatus.COMPLETED_SUCCESSFULLY
    assert world.create().id == second.id + 1


def test_a_job_that_has_ended_can_not_be_expired():
    world = World()
    job = world.create(signers=2)
    world.state.expire(job.id, now=NOW)
    assert world.signer_statuses(job) == [SignerStatus.EXPIRED] * 2
    assert refused(world.state.expire, job.id, now=NOW) == (409, "JOB_HAS_ENDED")
    assert refused(world.state.expire, 77, now=NOW) == (404, "NOT_FOUND")


# --- Status by token


def test_the_token_of_a_signer_who_has_finished_gives_the_status_any_number_of_times():
    world = World()
    job = world.create(signers=2)
    world.act(job, 0)
    for _ in range(2):
        status = world.status(job, 0)
        assert status.job_status is JobStatus.IN_PROGRESS
        assert not status.confirmable
    assert refused(world.status, job, 1) == (404, "SIGNING_CEREMONY_NOT_COMPLETED")
    world.act(job, 1, Act.REJECT)
    assert world.status(job, 1).job_status is JobStatus.FAILED


def test_a_token_of_a_different_job_and_an_unknown_token_are_invalid():
    world = World()
    job, other = world.create(), world.create()
    world.act(job)
    world.act(other)
    for token in (world.token(other), "", "guess"):
        answer = refused(world.state.status, SENDER, job.id, token, now=NOW)
        assert answer == (403, "INVALID_STATUS_QUERY_TOKEN")


def test_a_polled_job_has_no_status_by_token():
    world = World()
    job = world.create(extra=POLLED)
    world.act(job)
    assert refused(world.status, job) == (404, "NOT_FOUND")


def test_the_outcome_of_a_job_that_is_not_polled_is_confirmed_once():
    world = World()
    job = world.create()
    assert refused(world.state.confirm, SENDER, job.id, None, now=NOW) == (404, "NOT_FOUND")
    world.act(job)
    assert world.status(job).confirmable
    world.state.confirm(SENDER, job.id, None, now=NOW)
    assert not world.status(job).confirmable
    assert refused(world.state.confirm, SENDER, job.id, None, now=NOW) == (404, "NOT_FOUND")


# --- Status by polling


def test_each_action_on_a_polled_job_adds_a_change_to_its_queue():
    world = World()
    job = world.create(signers=3, extra=f"{POLLED}<polling-queue>shop</polling-queue>")
    for position in range(3):
        world.act(job, position)
    assert world.poll()[0].outcome is Outcome.EMPTY
    seen = [world.poll("shop") for _ in range(3)]
    assert [status.job_status for _, status in seen] == [
        JobStatus.IN_PROGRESS,
        JobStatus.IN_PROGRESS,
        JobStatus.COMPLETED_SUCCESSFULLY,
    ]
    assert len({status.change for _, status in seen}) == 3
    for _, status in seen:
        world.state.confirm(SENDER, job.id, status.change, now=NOW)
    world.wait(hours=1)
    assert world.poll("shop")[0].outcome is Outcome.EMPTY
    answer = refused(world.state.confirm, SENDER, job.id, seen[0][1].change, now=world.now)
    assert answer == (404, "NOT_FOUND")


def test_a_job_that_is_not_polled_adds_no_change_to_a_queue():
    world = World()
    job = world.create()
    world.act(job)
    assert world.poll()[0].outcome is Outcome.EMPTY
    assert refused(world.state.confirm, SENDER, job.id, 1, now=NOW) == (404, "NOT_FOUND")


def test_each_sender_has_its_own_queue():
    world = World()
    world.act(world.create(extra=POLLED))
    assert world.state.poll(OTHER, None, now=NOW)[0].outcome is Outcome.EMPTY
    assert world.poll()[0].outcome is Outcome.CHANGE


# --- Documents


def test_signed_documents_can_be_downloaded_when_they_are_signed():
    world = World()
    job = world.create(signers=2)

    def download(position):
        return world.state.job_to_download(SENDER, job.id, position, now=world.now).id

    world.act(job, 1)
    assert download(1) == job.id
    for position in (0, 2, None):
        assert refused(download, position) == (404, "NOT_FOUND")
    world.act(job, 0)
    assert download(None) == job.id


def test_a_failed_job_has_the_xades_of_signers_who_signed_and_no_pades():
    world = World()
    job = world.create(signers=2)
    world.act(job, 0)
    world.act(job, 1, Act.REJECT)
    assert world.state.job_to_download(SENDER, job.id, 0, now=NOW).id == job.id
    for position in (1, None):
        answer = refused(world.state.job_to_download, SENDER, job.id, position, now=NOW)
        assert answer == (404, "NOT_FOUND")


def test_documents_can_be_deleted_a_day_after_completion_and_only_once():
    world = World()
    job = world.create()
    delete = (world.state.delete_documents, SENDER, job.id)
    assert refused(*delete, now=NOW) == (409, "DOCUMENTS_NOT_DELETABLE")
    world.act(job)
    world.wait(hours=24, milliseconds=-1)
    assert not world.status(job).deletable
    assert refused(*delete, now=world.now) == (409, "DOCUMENTS_NOT_DELETABLE")
    world.wait(milliseconds=1)
    assert world.status(job).deletable
    world.state.delete_documents(SENDER, job.id, now=world.now)
    status = world.status(job)
    assert not status.deletable
    assert not status.kept
    assert refused(*delete, now=world.now) == (404, "NOT_FOUND")
    answer = refused(world.state.job_to_download, SENDER, job.id, None, now=world.now)
    assert answer == (410, "DOCUMENTS_DELETED")


def test_documents_of_a_failed_job_are_never_deletable():
    world = World()
    job = world.create()
    world.act(job, action=Act.REJECT)
    world.wait(days=10)
    assert not world.status(job).deletable


def test_only_the_last_change_of_a_job_offers_deletion():
    world = World(deletable_after=timedelta(0))
    job = world.create(signers=2, extra=POLLED)
    world.act(job, 0)
    world.act(job, 1)
    assert [world.poll()[1].deletable for _ in range(2)] == [False, True]


def test_documents_are_kept_for_forty_days():
    world = World()
    job = world.create()
    world.act(job)
    world.wait(days=40, milliseconds=-1)
    assert world.status(job).kept
    world.wait(milliseconds=1)
    assert not world.status(job).kept


# --- The jobs of other senders


def test_the_job_of_a_different_sender_is_not_found():
    world = World()
    job = world.create()
    assert refused(world.state.job, OTHER, job.id, now=NOW) == (404, "NOT_FOUND")


# --- Storage and settings


def test_the_tables_hold_the_whole_state():
    world = World()
    job = world.create(signers=2, extra=POLLED)
    world.act(job, 0)
    world.poll()
    tables = pickle.loads(pickle.dumps(world.state.tables))
    assert tables == world.state.tables
    restored = State(world.settings, tables)
    restored.act(job.signers[1].redirect_token, Act.SIGN, now=NOW)
    assert restored.poll(SENDER, None, now=NOW)[1].job_status is JobStatus.COMPLETED_SUCCESSFULLY


def test_reprs_show_no_token_and_no_identity_number():
    world = World()
    request = read_job_request(Octets(bundles.request_xml()))
    job_manifest = read_manifest(Octets(bundles.manifest_xml(bundles.two_files())))
    job = world.state.create(SENDER, request, job_manifest, now=NOW)
    shown = repr((job, world.state.tables, repr(world.settings), job.signers[0].redirect_token))
    assert "token-" not in shown
    assert PERSON not in shown
    assert PERSON in str(job_manifest.signers[0].personal_identification_number)


def test_settings_and_settings_arguments_have_the_same_fields():
    fields = {name: field.type for name, field in Settings.__dataclass_fields__.items()}
    assert fields == SettingsArguments.__annotations__


def test_now_is_in_whole_milliseconds():
    settings = Settings(clock=lambda: NOW.replace(microsecond=999_999))
    assert settings.now() == later(0.999)
    assert isinstance(Settings().now(), datetime)
    assert Settings().now().tzinfo is not None
    assert Settings().new_token() != Settings().new_token()
