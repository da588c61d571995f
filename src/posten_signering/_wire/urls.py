"""The few URLs of the API that the client builds. Pure.

Functions take and give secrets: a URL of the service may carry a token.
"""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from posten_signering._values.secret import Secret

STATUS_QUERY_TOKEN = "status_query_token"  # noqa: S105 - the parameter's name, not a token


def organization(root: str, organization_number: str) -> Secret[str]:
    """Where an organisation's access is told."""
    return Secret(f"{root}/{quote(organization_number, safe='')}")


def organization_in(url: Secret[str], root: str) -> str | None:
    """The organisation whose API a URL belongs to; None where the URL does not tell."""
    found = re.match(re.escape(root) + "/([0-9]{9})(?![^/?])", url.reveal())
    return found[1] if found else None


def signature_jobs(root: str, organization_number: str) -> Secret[str]:
    """Where jobs are created and the default queue is polled."""
    return Secret(f"{organization(root, organization_number).reveal()}/direct/signature-jobs")


def polling_queue(root: str, organization_number: str, queue: str | None) -> Secret[str]:
    """Where a queue is polled; the default queue has no parameter."""
    jobs = signature_jobs(root, organization_number)
    if queue is None:
        return jobs
    return Secret(f"{jobs.reveal()}?polling_queue={quote(queue, safe='')}")


def with_token(url: Secret[str], token: Secret[str]) -> Secret[str]:
    """A status URL with the token of an exit URL added to whatever query it has."""
    parts = urlsplit(url.reveal())
    parameter = f"{STATUS_QUERY_TOKEN}={quote(token.reveal(), safe='')}"
    query = f"{parts.query}&{parameter}" if parts.query else parameter
    return Secret(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))
