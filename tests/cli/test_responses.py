"""Responses that lack values which the sandbox always sends."""

from posten_signering import DirectJobStatusResponse, Signature, StatusPoll
from posten_signering._cli.responses import poll_text, poll_value, status_text, status_value

BARE = DirectJobStatusResponse(job_id=7, status="NEW", signatures=[Signature(status="NEW")])


def test_a_status_without_optional_values():
    assert status_text(BARE) == "Job 7: NEW\nSigner 1: (no identifier): NEW"
    assert status_value(BARE) == {
        "job_id": 7,
        "reference": None,
        "status": "NEW",
        "signatures": [{"signer": None, "status": "NEW", "since": None, "xades_url": None}],
        "confirmation_url": None,
        "delete_documents_url": None,
        "pades_url": None,
    }


def test_a_poll_without_a_next_permitted_time():
    assert poll_text(StatusPoll()) == "The queue is empty."
    assert poll_text(StatusPoll(change=BARE)) == status_text(BARE)
    assert poll_value(StatusPoll()) == {
        "change": None,
        "next_permitted_poll_time": None,
        "wait_seconds": None,
    }
