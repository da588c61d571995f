"""The errors: the docstring draws the real class tree, and each message says what to do."""

import copy
import inspect
import pickle
import re
from datetime import UTC, datetime, timedelta

import pytest

from posten_signering import errors
from posten_signering.errors import (
    ApiError,
    ArgumentTypeError,
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
REFUSED = {"operation": "confirm the status change", "status": 403, "code": "CODE"}
VIOLATIONS = [Violation(path="title", rule="at most 80 characters"), Violation(path="a", rule="b")]

# One instance of each error class that the package raises.
SAMPLES = [
    ConfigurationError("x"),
    ArgumentTypeError("path", expected="text", found=int),
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
    ApiError(**REFUSED, message="Because.", type="CLIENT", detail=None, answer="x"),
    BrokerNotAuthorizedError(**REFUSED),
    NotAuthorizedError(**REFUSED),
    InvalidStatusQueryTokenError(**REFUSED),
    SigningCeremonyNotCompletedError(**REFUSED),
    TooEagerPollingError(
        operation="get a status change",
        status=429,
        next_permitted_poll_time=NOW,
        wait=timedelta(seconds=30),
    ),
    RateLimitedError(
        operation="create the job", status=429, received=NOW, wait=timedelta(seconds=30)
    ),
    UnexpectedResponseError("x", job_id=7),
]


def classes() -> dict[str, type]:
    """The public classes of the module, by name."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and value.__module__ == errors.__name__
        and not name.startswith("_")
    }


def drawn(text: str) -> dict[str, tuple[str | None, list[str]]]:
    """The tree in a docstring: for each error, its parent and the attributes that its line names.

    A line describes an error class if its first word ends in Error. Other lines are headings of groups.
    """
    tree: dict[str, tuple[str | None, list[str]]] = {}
    ancestors: list[tuple[int, str | None]] = []
    for line in text.splitlines():
        if not (match := re.match(r"    ([│ ]*(?:[├└]── )?)(\w.*)$", line)):
            continue
        depth, (name, _, rest) = len(match[1]), match[2].partition(" ")
        while ancestors and ancestors[-1][0] >= depth:
            ancestors.pop()
        if name.endswith("Error"):
            parent = next((ancestor for _, ancestor in reversed(ancestors) if ancestor), None)
            tree[name] = (parent, re.findall(r"\.(\w+)", rest))
        ancestors.append((depth, name if name.endswith("Error") else None))
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    tree = drawn(errors.__doc__)
    assert {name: parent for name, (parent, _) in tree.items()} == {
        name: None if error_class is SigningError else error_class.__base__.__name__
        for name, error_class in classes().items()
        if error_class is not Violation
    }
    assert {error_class.__bases__[1:] for error_class in classes().values()} == {(), (TypeError,)}


def test_a_wrong_tree_in_the_docstring_is_detected():
    moved = errors.__doc__.replace("│       └── CreateOutcome", "├── CreateOutcome")
    assert drawn(moved)["CreateOutcomeUnknownError"][0] == "SigningError"
    assert drawn(errors.__doc__)["CreateOutcomeUnknownError"][0] == "TransportError"
    assert drawn(errors.__doc__)["CreateOutcomeUnknownError"][1] == [
        "reference",
        "reason",
        "job_id",
    ]


def test_every_name_ends_in_error_and_every_class_derives_from_signing_error():
    assert errors.__all__ == sorted(classes())
    for name, error_class in classes().items():
        if error_class is not Violation:
            assert name.endswith("Error")
            assert issubclass(error_class, SigningError)
    assert SigningError.__base__ is Exception


def test_every_class_has_its_own_docstring():
    for error_class in classes().values():
        assert inspect.getdoc(error_class).partition("\n")[0].endswith(".")
        assert "__doc__" in vars(error_class)


def test_the_attributes_in_the_tree_exist():
    attributes_of = {name: attributes for name, (_, attributes) in drawn(errors.__doc__).items()}
    assert attributes_of["ApiError"] == ["status", "code", "message", "type"]
    assert {type(error).__name__ for error in SAMPLES} >= {
        name for name, attributes in attributes_of.items() if attributes
    }
    for error in SAMPLES:
        for attribute in attributes_of[type(error).__name__]:
            assert hasattr(error, attribute), f"{type(error).__name__}.{attribute}"


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_is_in_sentences(error):
    """Skips messages that the caller passes in. An invalid job lists its violations."""
    message = str(error)
    if message != "x":
        assert re.match("[A-Z].*([.]|:\n(- .*\n?)+)$", message, re.DOTALL)
        assert "None" not in message


def test_an_invalid_job_lists_each_violation_on_its_own_line():
    error = InvalidJobError(VIOLATIONS)
    assert error.violations == tuple(VIOLATIONS)
    assert str(error).splitlines() == [
        "The job breaks 2 rules, and was not created:",
        "- title: at most 80 characters",
        "- a: b",
    ]
    assert str(InvalidJobError(VIOLATIONS[:1])).startswith("The job breaks a rule, and")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"reference": "order-77"}, "with reference 'order-77' was created: it broke. The job may"),
        ({"reference": None}, "the job without a reference was created: it broke. The job may"),
        (
            {"reference": "", "job_id": 0},
            "with reference '' was created: it broke. The response names job id 0",
        ),
        ({"reference": None, "job_id": 7}, "The response names job id 7. The job may exist"),
    ],
)
def test_an_unknown_outcome_names_the_reference_and_the_job_id(arguments, expected):
    error = CreateOutcomeUnknownError(reason="it broke", **arguments)
    assert expected in str(error)
    assert error.request_may_have_left is True
    assert (error.reference, error.reason, error.job_id) == (
        arguments["reference"],
        "it broke",
        arguments.get("job_id"),
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "HTTP 400."),
        ({"code": "A"}, "HTTP 400, A."),
        ({"code": "A", "message": "Because."}, "HTTP 400, A: Because."),
        ({"code": "A", "message": "Why?", "detail": "b"}, "HTTP 400, A: Why? (b)."),
        ({"detail": "the response was empty"}, "HTTP 400 (the response was empty)."),
        ({"answer": "<html>"}, "HTTP 400."),
    ],
)
def test_a_refusal_quotes_the_service(more, expected):
    error = ApiError(operation="delete the documents", status=400, **more)
    assert str(error) == f"The service refused the request to delete the documents: {expected}"
    assert (error.status, error.code, error.message, error.type, error.answer) == (
        400,
        more.get("code"),
        more.get("message"),
        None,
        more.get("answer"),
    )


@pytest.mark.parametrize(
    ("error_class", "advice"),
    [
        (BrokerNotAuthorizedError, "authorise it as broker"),
        (NotAuthorizedError, "has an agreement with Posten signering for this environment"),
        (InvalidStatusQueryTokenError, "from the exit URL"),
        (SigningCeremonyNotCompletedError, "has redirected the signer to an exit URL"),
    ],
)
def test_a_refusal_with_a_known_code_says_what_to_do(error_class, advice):
    assert re.search(rf"403, CODE\. .*{advice}\.?", str(error_class(**REFUSED)))


def test_a_poll_that_came_too_early_says_when_to_poll_next():
    error = next(error for error in SAMPLES if isinstance(error, TooEagerPollingError))
    assert "permitted at 2026-01-02T03:04:05+00:00" in str(error)
    assert (error.next_permitted_poll_time, error.wait) == (NOW, timedelta(seconds=30))
    silent = TooEagerPollingError(
        operation="x", status=429, next_permitted_poll_time=None, wait=None
    )
    assert "did not say when to poll next" in str(silent)
    assert "polled too early" in str(silent)
    assert (silent.polled, silent.status) == (True, 429)


def test_the_error_for_a_poll_that_was_not_sent_says_that_it_was_not_sent():
    error = TooEagerPollingError(
        operation="x", next_permitted_poll_time=NOW, wait=timedelta(seconds=3), polled=False
    )
    assert (error.polled, error.status) == (False, 0)
    assert str(error) == (
        "The client did not send this poll, because it is too early. Poll again in 3 seconds. "
        "The service permits the next poll at 2026-01-02T03:04:05+00:00."
    )
    copied = pickle.loads(pickle.dumps(error))
    for text in (str(error), repr(error), str(error.args), repr(copied), str(vars(error))):
        assert "refused" not in text
        assert "429" not in text


@pytest.mark.parametrize(
    ("wait", "end"),
    [(timedelta(seconds=2.1), "is too early. Poll again in 3 seconds."), (None, "is too early.")],
)
def test_the_error_for_a_poll_that_was_not_sent_rounds_the_wait_up(wait, end):
    """A caller that waits that long is not too early again. After a lost response, no poll time is known."""
    error = TooEagerPollingError(
        operation="x", next_permitted_poll_time=None, wait=wait, polled=False
    )
    assert str(error).endswith(end)


def test_a_block_ends_by_the_clients_clock():
    error = next(error for error in SAMPLES if isinstance(error, RateLimitedError))
    assert error.blocked_until == NOW + timedelta(seconds=30)
    assert "wait 30 seconds before the next call" in str(error)
    unknown = RateLimitedError(operation="x", status=429, received=NOW, wait=None)
    assert (unknown.blocked_until, unknown.wait) == (None, None)
    assert "wait" not in str(unknown)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "copy_error",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_copied_error_keeps_its_message_and_attributes(error, copy_error):
    """Process pools and task queues pickle the exceptions of their tasks."""
    copied = copy_error(error)
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)
