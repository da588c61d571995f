"""The addresses of the service: the paths it listens on, and the URLs in its answers. No I/O.

They have the shape that the service's own examples show; clients must take them as they come.
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
"""Query parameter of the confirmation URL of a polled change: which one is confirmed."""

POLLING_QUEUE = "polling_queue"
STATUS_QUERY_TOKEN = "status_query_token"  # noqa: S105 - the name of a parameter

REDIRECT_FRAGMENT = "/redirect/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Makes the URLs of answers.

    Attributes:
        service_root: Where the API is.
        pages_url: Where the signer's pages are.
    """

    service_root: str
    pages_url: str

    def status(self, sender: str, job_id: int) -> str:
        """Of the status by token."""
        return f"{self._job(sender, job_id)}/status"

    def confirmation(self, sender: str, job_id: int, change: int | None) -> str:
        """To confirm a polled change, or (None) the outcome of a job that is not polled."""
        query = "" if change is None else f"?{CHANGE}={change}"
        return f"{self._job(sender, job_id)}/complete{query}"

    def documents(self, sender: str, job_id: int) -> str:
        """To delete the documents."""
        return f"{self._job(sender, job_id)}/documents"

    def pades(self, sender: str, job_id: int) -> str:
        """Of the signed PDF."""
        return f"{self._job(sender, job_id)}/pades"

    def xades(self, sender: str, job_id: int, position: int) -> str:
        """Of one signer's XAdES; signers are counted from 1 in addresses."""
        return f"{self._job(sender, job_id)}/xades/{position + 1}"

    def signer(self, sender: str, job_id: int, position: int) -> str:
        """The signer URL: of one signer in the API."""
        return f"{self._job(sender, job_id)}/signers/{position + 1}"

    def redirect(self, redirect_token: str) -> str:
        """The redirect URL: of the pages for the signer's browser, the token in the fragment."""
        return f"{self.pages_url}#{REDIRECT_FRAGMENT}{quote(redirect_token, safe='')}"

    def _job(self, sender: str, job_id: int) -> str:
        return f"{self.service_root}/{sender}/direct/signature-jobs/{job_id}"
