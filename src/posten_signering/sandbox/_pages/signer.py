"""The signer's pages, from the redirect URL to the exit URL.

The first browser that opens a redirect URL gets a cookie; other browsers are refused. When a new redirect URL
is opened, only that browser may act.
"""

import hmac
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from urllib.parse import quote

from aiohttp import web

from posten_signering.sandbox._pages.application import REASONS, form_of, notice, page
from posten_signering.sandbox._signed.documents import JobDocuments
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, Job, SignerOf, SignerStatus
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Session
from posten_signering.sandbox._values.hidden import Hidden, Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings

_PDF = "application/pdf"
_ENTRY = "/signing"
_SIGNER = _ENTRY + "/{job:[0-9]{1,18}}/{signer:[0-9]{1,2}}"
_REFUSED = {
    "unknown": HTTPStatus.NOT_FOUND,
    "replaced": HTTPStatus.GONE,
    "used": HTTPStatus.GONE,
}
_ACTS = {
    SignerStatus.SIGNED: Act.SIGN,
    SignerStatus.REJECTED: Act.REJECT,
    SignerStatus.FAILED: Act.FAIL,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerPages:
    """The pages of every signer.

    Attributes:
        settings: The clock, and the source of random keys for cookies.
        state: The jobs, and the browser session of each signer.
        documents: The documents of the jobs.
        cookie: The name of the cookie. Browsers share cookies between all ports of a host, so each
            sandbox needs a different name.
    """

    settings: Settings
    state: State
    documents: JobDocuments
    cookie: str

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes of all pages."""
        router.add_get("/", self._front)
        router.add_post(_ENTRY, self._enter)
        router.add_get(f"{_ENTRY}/refused/{{reason:{'|'.join(_REFUSED)}}}", self._refused)
        router.add_get(_SIGNER, self._show)
        router.add_post(_SIGNER, self._choose)
        router.add_get(_SIGNER + "/exit", self._leave)
        router.add_get(_SIGNER + "/documents/{document:[0-9]{1,3}}", self._read)

    async def _front(self, request: web.Request) -> web.Response:
        return page(request, "front.html")

    async def _enter(self, request: web.Request) -> web.Response:
        token = Hidden((await form_of(request)).get("token", ""))
        try:
            signer = self.state.signer_of(token, now=self.settings.now())
        except Refusal as refusal:
            # The notice has its own URL, so that the reader can reload it and switch the language.
            return _redirect(f"{_ENTRY}/refused/{REASONS[refusal.code]}")
        answer = _redirect(_address(signer))
        session = self.state.tables.sessions.get(signer)
        # Only the first browser that uses this token gets a cookie.
        if session is None or session.redirect_token != token:
            key = Hidden(self.settings.new_token())
            self.state.tables.sessions[signer] = Session(redirect_token=token, key=key)
            answer.set_cookie(
                self.cookie, key, path=_address(signer), httponly=True, samesite="Lax"
            )
        return answer

    async def _refused(self, request: web.Request) -> web.Response:
        reason = request.match_info["reason"]
        return notice(request, reason, status=_REFUSED[reason])

    async def _show(self, request: web.Request) -> web.Response:
        signer, job, redirect_token = self._admitted(request)
        if job.signers[signer.position].state.status is not SignerStatus.WAITING:
            return _finished(request, job, signer.position, leaving=False)
        # Raises when a newer redirect URL exists: then this browser may no longer act.
        self.state.signer_of(redirect_token, now=self.settings.now())
        return page(
            request,
            "signing.html",
            job=job,
            position=signer.position,
            signer=job.manifest.signers[signer.position],
            documents=await self.documents.originals(job),
            address=_address(signer),
        )

    async def _choose(self, request: web.Request) -> web.Response:
        act = _act((await form_of(request)).get("act"))
        signer, _, redirect_token = self._admitted(request)
        # A late or second act is refused. The next page shows the signer's actual status.
        with suppress(Refusal):
            self.state.act(redirect_token, act, now=self.settings.now())
        return _redirect(f"{_address(signer)}/exit")

    async def _leave(self, request: web.Request) -> web.Response:
        signer, job, _ = self._admitted(request)
        if _exit_url(job, signer.position) is None:
            return _redirect(_address(signer))
        return _finished(request, job, signer.position, leaving=True)

    async def _read(self, request: web.Request) -> web.Response:
        signer, job, _ = self._admitted(request)
        if not self.state.documents_kept(job, now=self.settings.now()):
            raise Refusal(410, "DOCUMENTS_DELETED", f"The documents of job {job.id} are deleted.")
        documents = await self.documents.originals(job)
        number = int(request.match_info["document"])
        if not 1 <= number <= len(documents):
            raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no document {number}.")
        document = documents[number - 1]
        if document.mime != _PDF:
            return page(request, "document.html", document=document, back=_address(signer))
        name = quote(f"{document.title}.pdf", safe="")
        return web.Response(
            body=BytesIO(document.content),
            headers={
                "Content-Type": _PDF,
                "Content-Disposition": f"inline; filename*=UTF-8''{name}",
            },
        )

    def _admitted(self, request: web.Request) -> tuple[SignerOf, Job, Hidden]:
        """The signer of the requested page, the job, and the redirect token that opened the pages.

        Raises:
            Refusal: This browser is not the one that opened the pages.
        """
        signer = SignerOf(
            job_id=int(request.match_info["job"]), position=int(request.match_info["signer"]) - 1
        )
        key = Octets(request.cookies.get(self.cookie, "").encode(errors="surrogateescape"))
        session = self.state.tables.sessions.get(signer)
        if session is None or not hmac.compare_digest(session.key.encode(), key):
            raise Refusal(
                403,
                "REDIRECT_URL_OPENED",
                f"This browser did not open the pages of this signer of job {signer.job_id}.",
            )
        # `State.job` also lets the job expire if its lifetime has passed.
        sender = self.state.tables.jobs[signer.job_id].sender
        job = self.state.job(sender, signer.job_id, now=self.settings.now())
        return signer, job, session.redirect_token


def _finished(request: web.Request, job: Job, position: int, *, leaving: bool) -> web.Response:
    """The page for a signer who has finished, with a link back to the sender.

    With `leaving`, the page redirects the browser to the exit URL.
    """
    return page(
        request,
        "finished.html",
        message=job.signers[position].state.status.value,
        exit_url=_exit_url(job, position),
        leaving=leaving,
    )


def _exit_url(job: Job, position: int) -> str | None:
    """The exit URL of a signer who has acted.

    None when the job ended before the signer acted, and when the exit URL is not an HTTP(S) URL.
    """
    act = _ACTS.get(job.signers[position].state.status)
    if act is None:
        return None
    address = job_rules.exit_url(job, position, act)
    return address if address.startswith(("https://", "http://")) else None


def _redirect(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _address(signer: SignerOf) -> str:
    return f"{_ENTRY}/{signer.job_id}/{signer.position + 1}"


def _act(chosen: object) -> Act:
    try:
        return Act(str(chosen))
    except ValueError:
        raise web.HTTPBadRequest from None
