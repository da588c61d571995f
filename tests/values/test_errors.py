"""The errors: the tree that the module draws is the one that is, and each tells what to do."""

import copy
import inspect
import pickle
import re
from datetime import UTC, datetime, timedelta

import pytest

from posten_signering import errors
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    ClientStateError,
    ConfigurationError,
    CreateOutcomeUnknownError,
    DocumentChangedError,
    DocumentsNotDeletableError,
    InvalidJobError,
    InvalidStatusQueryTokenError,
    NotAuthorizedError,
    RateLimitedError,
    SenderNotSpecifiedError,
    SignedDocumentMissingError,
    SignerNotFoundError,
    SigningCeremonyNotCompletedError,
    SigningError,
    StatusQueryTokenMissingError,
    StatusUrlMissingError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    UntrustedUrlError,
    Violation,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SAID_NO = {"operation": "confirm the status change", "status": 403, "code": "CODE"}
VIOLATIONS = [Violation(path="title", rule="at most 80 characters"), Violation(path="a", rule="b")]

# One of each that the package raises.
SAMPLES = [
    ConfigurationError("x"),
    ClientStateError("x"),
    SenderNotSpecifiedError(),
    InvalidJobError(VIOLATIONS),
    DocumentChangedError(VIOLATIONS[:1]),
    UntrustedUrlError("x"),
    SignerNotFoundError("x"),
    StatusQueryTokenMissingError("x"),
    StatusUrlMissingError("x"),
    SignedDocumentMissingError("x"),
    DocumentsNotDeletableError("x"),
    TransportError("x", request_may_have_left=True),
    TransportTimeoutError("x", request_may_have_left=False),
    TlsError("x", request_may_have_left=False),
    CreateOutcomeUnknownError(reference="order-77", reason="the service was silent"),
    ApiError(**SAID_NO, message="Because.", type="CLIENT", detail=None, answer="x"),
    BrokerNotAuthorizedError(**SAID_NO),
    NotAuthorizedError(**SAID_NO),
    InvalidStatusQueryTokenError(**SAID_NO),
    SigningCeremonyNotCompletedError(**SAID_NO),
    TooEagerPollingError(
        operation="get a status change",
        status=429,
        next_permitted_poll_time=NOW,
        wait=timedelta(seconds=30),
    ),
    RateLimitedError(
        operation="create the job", status=429, received=NOW, wait=timedelta(seconds=30)
    ),
    UnexpectedResponseError("x"),
]


def classes() -> dict[str, type]:
    """What the module defines and does not hide."""
    return {
        name: each
        for name, each in vars(errors).items()
        if inspect.isclass(each) and each.__module__ == errors.__name__ and not name.startswith("_")
    }


def drawn(text: str) -> dict[str, tuple[str | None, list[str]]]:
    """The tree in a docstring: each error's parent, and the attributes told beside it.

    A line is an error where its first word ends in Error; else it heads a group, which is no class.
    """
    found: dict[str, tuple[str | None, list[str]]] = {}
    above: list[tuple[int, str | None]] = []
    for line in text.splitlines():
        if not (match := re.match(r"    ([│ ]*(?:[├└]── )?)(\w.*)$", line)):
            continue
        depth, (name, _, rest) = len(match[1]), match[2].partition(" ")
        while above and above[-1][0] >= depth:
            above.pop()
        if name.endswith("Error"):
            parent = next((each for _, each in reversed(above) if each), None)
            found[name] = (parent, re.findall(r"\.(\w+)", rest))
        above.append((depth, name if name.endswith("Error") else None))
    return found


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    tree = drawn(errors.__doc__)
    assert {name: parent for name, (parent, _) in tree.items()} == {
        name: None if each is SigningError else each.__base__.__name__
        for name, each in classes().items()
        if each is not Violation
    }
    assert all(len(each.__bases__) == 1 for each in classes().values())


def test_another_tree_would_be_seen():
    moved = errors.__doc__.replace("│       └── CreateOutcome", "├── CreateOutcome")
    assert drawn(moved)["CreateOutcomeUnknownError"][0] == "SigningError"
    assert drawn(errors.__doc__)["CreateOutcomeUnknownError"][0] == "TransportError"
    assert drawn(errors.__doc__)["CreateOutcomeUnknownError"][1] == ["reference", "reason"]


def test_every_name_ends_in_error_and_is_below_signing_error():
    assert errors.__all__ == sorted(classes())
    for name, each in classes().items():
        if each is not Violation:
            assert name.endswith("Error")
            assert issubclass(each, SigningError)
    assert SigningError.__base__ is Exception


def test_every_class_says_what_it_means():
    for each in classes().values():
        assert inspect.getdoc(each).partition("\n")[0].endswith(".")
        assert "__doc__" in vars(each)


def test_the_attributes_told_in_the_tree_are_there():
    told = {name: attributes for name, (_, attributes) in drawn(errors.__doc__).items()}
    assert told["ApiError"] == ["status", "code", "message", "type"]
    assert {type(each).__name__ for each in SAMPLES} >= {
        name for name, said in told.items() if said
    }
    for each in SAMPLES:
        for attribute in told[type(each).__name__]:
            assert hasattr(each, attribute), f"{type(each).__name__}.{attribute}"


@pytest.mark.parametrize("error", SAMPLES, ids=lambda each: type(each).__name__)
def test_a_message_is_in_sentences(error):
    """A text that was given is let be; the violations of a job stand in a list."""
    said = str(error)
    if said != "x":
        assert re.match("[A-Z].*([.]|:\n(- .*\n?)+)$", said, re.DOTALL)
        assert "None" not in said


def test_an_invalid_job_lists_every_rule_on_a_line_of_its_own():
    error = InvalidJobError(VIOLATIONS)
    assert error.violations == tuple(VIOLATIONS)
    assert str(error).splitlines() == [
        "The job breaks 2 rules, and was not created:",
        "- title: at most 80 characters",
        "- a: b",
    ]
    assert str(InvalidJobError(VIOLATIONS[:1])).startswith("The job breaks a rule, and")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"reference": "order-77"}, "with reference 'order-77' was created: it broke. Look"),
        ({"reference": None}, "the job without a reference was created: it broke. Look"),
        ({"reference": "", "job_id": 0}, "with reference '' was created: it broke. The service"),
        ({"reference": None, "job_id": 7}, "answered with job id 7. Look for it before"),
    ],
)
def test_an_unknown_outcome_tells_what_is_known(arguments, said):
    error = CreateOutcomeUnknownError(reason="it broke", **arguments)
    assert said in str(error)
    assert error.request_may_have_left is True
    assert (error.reference, error.reason, error.job_id) == (
        arguments["reference"],
        "it broke",
        arguments.get("job_id"),
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "HTTP 400."),
        ({"code": "A"}, "HTTP 400, A."),
        ({"code": "A", "message": "Because."}, "HTTP 400, A: Because."),
        ({"code": "A", "message": "Why?", "detail": "b"}, "HTTP 400, A: Why? (b)."),
        ({"detail": "the response was empty"}, "HTTP 400 (the response was empty)."),
        ({"answer": "<html>"}, "HTTP 400."),
    ],
)
def test_a_refusal_tells_what_the_service_said(more, said):
    error = ApiError(operation="delete the documents", status=400, **more)
    assert str(error) == f"The service refused the request to delete the documents: {said}"
    assert (error.status, error.code, error.message, error.type, error.answer) == (
        400,
        more.get("code"),
        more.get("message"),
        None,
        more.get("answer"),
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (BrokerNotAuthorizedError, "authorise it as broker"),
        (NotAuthorizedError, "has an agreement, in this environment"),
        (InvalidStatusQueryTokenError, "from the exit URL"),
        (SigningCeremonyNotCompletedError, "when the signer has come to an exit URL"),
    ],
)
def test_a_refusal_that_is_known_says_what_to_do(kind, said):
    assert re.search(rf"403, CODE\. .*{said}\.?", str(kind(**SAID_NO)))


def test_a_poll_that_came_too_early_says_when_to_poll_next():
    error = next(each for each in SAMPLES if isinstance(each, TooEagerPollingError))
    assert "permitted at 2026-01-02T03:04:05+00:00" in str(error)
    assert (error.next_permitted_poll_time, error.wait) == (NOW, timedelta(seconds=30))
    silent = TooEagerPollingError(
        operation="x", status=429, next_permitted_poll_time=None, wait=None
    )
    assert "did not say when to poll next" in str(silent)
    assert "polled too early" in str(silent)
    assert (silent.polled, silent.status) == (True, 429)


def test_a_poll_that_was_not_sent_says_so():
    error = TooEagerPollingError(
        operation="x", next_permitted_poll_time=NOW, wait=timedelta(seconds=3), polled=False
    )
    assert error.polled is False
    assert "would be too early, and was not asked" in str(error)


def test_a_block_ends_by_the_clients_clock():
    error = next(each for each in SAMPLES if isinstance(each, RateLimitedError))
    assert error.blocked_until == NOW + timedelta(seconds=30)
    assert "blocked for 30 seconds" in str(error)
    unknown = RateLimitedError(operation="x", status=429, received=NOW, wait=None)
    assert (unknown.blocked_until, unknown.wait) == (None, None)
    assert "blocked for" not in str(unknown)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    "copied", [lambda each: pickle.loads(pickle.dumps(each)), copy.copy, copy.deepcopy]
)
def test_an_error_arrives_whole_in_another_process(error, copied):
    """Process pools and task queues pickle what a task raised."""
    other = copied(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
