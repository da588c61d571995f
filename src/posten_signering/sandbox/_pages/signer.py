"""The signer's pages: a redirect token is exchanged for them, and they lead to the exit URL.

The token opens the pages once; then the browser proves by a cookie that it is the same one. A new redirect URL
moves the signing to the browser that opens it. What an act does to a job is decided in `_state`.
"""

import hmac
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from urllib.parse import quote

from aiohttp import web

from posten_signering.sandbox._pages.application import REASONS, notice, page
from posten_signering.sandbox._signed.documents import JobDocuments
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, Job, SignerOf, SignerStatus
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Session
from posten_signering.sandbox._values.hidden import Hidden
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
        settings: The time, and the source of keys for cookies.
        state: The jobs, and which browser has opened which signer's pages.
        documents: Those to sign.
        cookie: The name of the cookie. Browsers share cookies among the ports of a host, so that each
            sandbox needs one of its own.
    """

    settings: Settings
    state: State
    documents: JobDocuments
    cookie: str

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds every address of these pages."""
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
        token = Hidden((await request.post()).get("token", ""))
        try:
            who = self.state.signer_of(token, now=self.settings.now())
        except Refusal as refusal:
            # An address of its own, which can be refreshed and read in the other language.
            return _redirect(f"{_ENTRY}/refused/{REASONS[refusal.code]}")
        answer = _redirect(_address(who))
        session = self.state.tables.sessions.get(who)
        # A second browser gets no cookie. The one that opened the pages with this token has it already.
        if session is None or session.redirect_token != token:
            key = Hidden(self.settings.new_token())
            self.state.tables.sessions[who] = Session(redirect_token=token, key=key)
            answer.set_cookie(self.cookie, key, path=_address(who), httponly=True, samesite="Lax")
        return answer

    async def _refused(self, request: web.Request) -> web.Response:
        reason = request.match_info["reason"]
        return notice(request, reason, status=_REFUSED[reason])

    async def _show(self, request: web.Request) -> web.Response:
        who, job, redirect_token = self._admitted(request)
        if job.signers[who.position].state.status is not SignerStatus.WAITING:
            return _finished(request, job, who.position, leaving=False)
        # A signer who has not acted loses the pages when there is a newer redirect URL.
        self.state.signer_of(redirect_token, now=self.settings.now())
        return page(
            request,
            "signing.html",
            job=job,
            position=who.position,
            signer=job.manifest.signers[who.position],
            documents=await self.documents.originals(job),
            address=_address(who),
        )

    async def _choose(self, request: web.Request) -> web.Response:
        act = _act((await request.post()).get("act"))
        who, _, redirect_token = self._admitted(request)
        # An act that comes too late, or twice, is refused: the next page shows how things stand.
        with suppress(Refusal):
            self.state.act(redirect_token, act, now=self.settings.now())
        return _redirect(f"{_address(who)}/exit")

    async def _leave(self, request: web.Request) -> web.Response:
        who, job, _ = self._admitted(request)
        if _exit_url(job, who.position) is None:
            return _redirect(_address(who))
        return _finished(request, job, who.position, leaving=True)

    async def _read(self, request: web.Request) -> web.Response:
        who, job, _ = self._admitted(request)
        if not self.state.documents_kept(job, now=self.settings.now()):
            raise Refusal(410, "DOCUMENTS_DELETED", f"The documents of job {job.id} are deleted.")
        documents = await self.documents.originals(job)
        number = int(request.match_info["document"])
        if not 1 <= number <= len(documents):
            raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no such document.")
        document = documents[number - 1]
        if document.mime != _PDF:
            return page(request, "document.html", document=document, back=_address(who))
        name = quote(f"{document.title}.pdf", safe="")
        return web.Response(
            body=BytesIO(document.content),
            headers={
                "Content-Type": _PDF,
                "Content-Disposition": f"inline; filename*=UTF-8''{name}",
            },
        )

    def _admitted(self, request: web.Request) -> tuple[SignerOf, Job, Hidden]:
        """Whose pages are asked for, the job, and the redirect token that opened them.

        Raises:
            Refusal: This is not the browser that opened them.
        """
        who = SignerOf(
            job_id=int(request.match_info["job"]), position=int(request.match_info["signer"]) - 1
        )
        key = Hidden(request.cookies.get(self.cookie, ""))
        session = self.state.tables.sessions.get(who)
        if session is None or not hmac.compare_digest(session.key.encode(), key.encode()):
            raise Refusal(
                403,
                "REDIRECT_URL_OPENED",
                f"The pages of this signer of job {who.job_id} were opened in another browser.",
            )
        # By way of the sender, so that a job whose time is over is shown as it then is.
        sender = self.state.tables.jobs[who.job_id].sender
        job = self.state.job(sender, who.job_id, now=self.settings.now())
        return who, job, session.redirect_token


def _finished(request: web.Request, job: Job, position: int, *, leaving: bool) -> web.Response:
    """What has come of a signer who can do nothing more, and the way back to the sender.

    `leaving` lets the browser go to the exit URL by itself.
    """
    return page(
        request,
        "finished.html",
        what=job.signers[position].state.status.value,
        exit_url=_exit_url(job, position),
        leaving=leaving,
    )


def _exit_url(job: Job, position: int) -> str | None:
    """Where a signer who has acted is sent.

    None for one whose job ended before, and for an exit URL that no browser should follow.
    """
    act = _ACTS.get(job.signers[position].state.status)
    if act is None:
        return None
    address = job_rules.exit_url(job, position, act)
    return address if address.startswith(("https://", "http://")) else None


def _redirect(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _address(who: SignerOf) -> str:
    return f"{_ENTRY}/{who.job_id}/{who.position + 1}"


def _act(chosen: object) -> Act:
    try:
        return Act(str(chosen))
    except ValueError:
        raise web.HTTPBadRequest from None
