"""The paths on which the service listens, and the URLs in its responses. Performs no I/O.

The URLs look like those in the service's own examples. Clients must use them unchanged.
"""

from dataclasses import dataclass
from urllib.parse import quote

API = "/api"
ORGANIZATION = "/{organization:[0-9]{9}}"
JOBS = ORGANIZATION + "/direct/signature-jobs"
JOB = JOBS + "/{job:[0-9]{1,18}}"
STATUS = JOB + "/status"
CONFIRMATION = JOB + "/complete"
DOCUMENTS = JOB + "/documents"
PADES = JOB + "/pades"
XADES = JOB + "/xades/{signer:[0-9]{1,2}}"
SIGNER = JOB + "/signers/{signer:[0-9]{1,2}}"

CHANGE = "change"
"""The query parameter of a confirmation URL with the number of the polled status change."""

POLLING_QUEUE = "polling_queue"
STATUS_QUERY_TOKEN = "status_query_token"  # noqa: S105 - the name of a parameter

REDIRECT_FRAGMENT = "/redirect/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Builds the URLs in responses.

    Attributes:
        service_root: The URL of the API.
        pages_url: The URL of the signer's pages.
    """

    service_root: str
    pages_url: str

    def status(self, sender: str, job_id: int) -> str:
        """The URL at which the sender gets the status of a job by status query token."""
        return f"{self._job(sender, job_id)}/status"

    def confirmation(self, sender: str, job_id: int, change: int | None) -> str:
        """The URL that confirms a polled status change, or the outcome of a job that is not polled.

        Args:
            sender: The sender's organisation number.
            job_id: The job's id.
            change: The number of the status change; `None` if the job is not polled.
        """
        query = "" if change is None else f"?{CHANGE}={change}"
        return f"{self._job(sender, job_id)}/complete{query}"

    def documents(self, sender: str, job_id: int) -> str:
        """The URL that deletes the documents of a job."""
        return f"{self._job(sender, job_id)}/documents"

    def pades(self, sender: str, job_id: int) -> str:
        """The URL of the signed PDF."""
        return f"{self._job(sender, job_id)}/pades"

    def xades(self, sender: str, job_id: int, position: int) -> str:
        """The URL of one signer's XAdES. URLs count signers from 1, `position` counts from 0."""
        return f"{self._job(sender, job_id)}/xades/{position + 1}"

    def signer(self, sender: str, job_id: int, position: int) -> str:
        """The signer URL: the URL of one signer in the API."""
        return f"{self._job(sender, job_id)}/signers/{position + 1}"

    def redirect(self, redirect_token: str) -> str:
        """The redirect URL: the signer's pages in the browser, with the token in the fragment."""
        return f"{self.pages_url}#{REDIRECT_FRAGMENT}{quote(redirect_token, safe='')}"

    def _job(self, sender: str, job_id: int) -> str:
        return f"{self.service_root}/{sender}/direct/signature-jobs/{job_id}"
