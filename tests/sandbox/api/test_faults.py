"""Faults as values: their allowed fields, and the requests that they happen to."""

import random

import pytest

from posten_signering.sandbox import Fault, FaultKind, Operation
from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, Faults

NEEDED = {
    FaultKind.DELAY: {"seconds": 1},
    FaultKind.ERROR_DOCUMENT: {"code": "NOT_FOUND"},
    FaultKind.MISSING_HEADER: {"header": "Date"},
    FaultKind.CLOCK_SKEW: {"seconds": -60},
    FaultKind.FAR_POLL_TIME: {"seconds": 86400},
}
VALUES = {"seconds": 1.5, "status": 502, "code": "NOT_FOUND", "header": "Date", "after": True}


@pytest.mark.parametrize("kind", FaultKind)
def test_each_kind_takes_only_its_own_fields(kind):
    for name, value in VALUES.items():
        fields = NEEDED.get(kind, {}) | {name: value}
        if name in TAKES.get(kind, ()):
            assert getattr(Fault(kind=kind, **fields), name) == value
        else:
            with pytest.raises(ValueError, match=f"has no field {name}"):
                Fault(kind=kind, **fields)


@pytest.mark.parametrize("kind", NEEDED)
def test_a_missing_required_field_is_refused(kind):
    with pytest.raises(ValueError, match="needs"):
        Fault(kind=kind)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"times": 0}, "times"),
        ({"probability": 0}, "probability"),
        ({"probability": 1.1}, "probability"),
        ({"kind": FaultKind.DELAY, "seconds": -1}, "negative"),
        ({"kind": FaultKind.DELAY, "seconds": float("nan")}, "one year"),
        ({"kind": FaultKind.CLOCK_SKEW, "seconds": -4e7}, "one year"),
        ({"kind": FaultKind.FAR_POLL_TIME, "seconds": -1}, "negative"),
        ({"kind": FaultKind.ERROR_DOCUMENT, "code": "A\x00"}, "code"),
        ({"kind": FaultKind.ERROR_DOCUMENT, "code": ""}, "code"),
        ({"kind": FaultKind.MISSING_HEADER, "header": "A: b"}, "header"),
        ({"kind": FaultKind.SERVER_ERROR, "status": 204}, "status"),
        ({"kind": FaultKind.SERVER_ERROR, "status": 600}, "status"),
        ({"kind": FaultKind.FOREIGN_CERTIFICATE, "operation": Operation.POLL}, "connection"),
        ({"kind": FaultKind.FOREIGN_CERTIFICATE, "path": "*"}, "connection"),
    ],
)
def test_a_value_out_of_range_is_refused(fields, expected):
    with pytest.raises(ValueError, match=expected):
        Fault(**{"kind": FaultKind.RESET} | fields)


def test_an_error_document_has_the_services_status_for_its_code():
    statuses = {
        code: Fault(kind=FaultKind.ERROR_DOCUMENT, code=code).http_status for code in ERROR_CODES
    }
    assert statuses["INVALID_STATUS_QUERY_TOKEN"] == 403
    assert statuses["SIGNING_CEREMONY_NOT_COMPLETED"] == 404
    assert statuses["BROKER_NOT_AUTHORIZED"] == 403
    assert Fault(kind=FaultKind.ERROR_DOCUMENT, code="NEW_CODE").http_status == 400
    assert Fault(kind=FaultKind.ERROR_DOCUMENT, code="NEW_CODE", status=409).http_status == 409
    assert Fault(kind=FaultKind.SERVER_ERROR).http_status == 500


def kinds(faults):
    return [pending.fault.kind for pending in faults.pending]


def test_a_fault_happens_the_given_number_of_times():
    changes = []
    faults = Faults(changed=lambda: changes.append(1))
    fault = Fault(kind=FaultKind.RESET, times=2)
    faults.add(fault)
    assert [pending.left for pending in faults.pending] == [2]
    assert [len(faults.take({FaultKind.RESET})) for _ in range(3)] == [1, 1, 0]
    assert faults.pending == ()
    assert len(changes) == 3  # added, happened, happened for the last time


def test_a_fault_without_a_number_happens_until_it_is_removed():
    faults = Faults()
    number = faults.add(Fault(kind=FaultKind.RESET))
    assert all(faults.take({FaultKind.RESET}) for _ in range(50))
    assert faults.remove(number)
    assert not faults.remove(number)
    assert faults.take({FaultKind.RESET}) == ()


def test_a_fault_happens_only_to_its_operation_and_path():
    faults = Faults()
    faults.add(Fault(kind=FaultKind.RESET, operation=Operation.POLL))
    faults.add(Fault(kind=FaultKind.DELAY, seconds=1, path="/api/*/signature-jobs/7/*"))
    both = {FaultKind.RESET, FaultKind.DELAY}

    def happening(operation, path):
        return [fault.kind for fault in faults.take(both, operation=operation, path=path)]

    assert happening(Operation.POLL, "/api/1/direct/signature-jobs") == [FaultKind.RESET]
    assert happening(Operation.STATUS, "/api/1/direct/signature-jobs/7/status") == [FaultKind.DELAY]
    assert happening(Operation.STATUS, "/api/1/direct/signature-jobs/8/status") == []
    assert happening(None, "/api/nowhere") == []


def test_a_fault_that_does_not_fit_a_request_stays_pending():
    faults = Faults()
    faults.add(Fault(kind=FaultKind.RESET, times=1))
    assert faults.take({FaultKind.DELAY}) == ()
    assert faults.take({FaultKind.RESET}, fits=lambda _: False) == ()
    assert faults.take({FaultKind.RESET}, most=0) == ()
    assert len(faults.take({FaultKind.RESET}, most=1)) == 1


def test_at_most_the_given_number_of_faults_happen_oldest_first():
    faults = Faults()
    for times in (1, 2, 3):
        faults.add(Fault(kind=FaultKind.RESET, times=times))
    assert [fault.times for fault in faults.take({FaultKind.RESET}, most=2)] == [1, 2]
    faults.clear()
    assert faults.pending == ()


def test_a_probability_is_compared_with_the_given_random_numbers():
    numbers = iter([0.0, 0.3, 0.29, 0.99])
    faults = Faults(random=lambda: next(numbers))
    faults.add(Fault(kind=FaultKind.RESET, probability=0.3))
    assert [len(faults.take({FaultKind.RESET})) for _ in range(4)] == [1, 0, 1, 0]


def test_the_same_seed_gives_the_same_faults():
    def run(seed):
        faults = Faults(random=random.Random(seed).random)
        faults.add(Fault(kind=FaultKind.RESET, probability=0.5))
        return [len(faults.take({FaultKind.RESET})) for _ in range(40)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert 5 < sum(run(7)) < 35


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": FaultKind.RESET, "path": "/api/*/01817099921"},
        {"kind": FaultKind.RESET, "path": "/api/*/018170%2099921"},
        {"kind": FaultKind.ERROR_DOCUMENT, "code": "CODE_01817099921"},
        {"kind": FaultKind.MISSING_HEADER, "header": "X-01817099921"},
    ],
)
def test_a_fault_with_an_identity_number_is_refused_without_quoting_it(fields):
    with pytest.raises(ValueError, match="must not contain a national identity number") as caught:
        Fault(**fields)
    assert "99921" not in str(caught.value)
