"""The signer's pages: a redirect token is exchanged for them, and they lead to the exit URL.

Over plain HTTP on loopback. Who may look is decided in `sessions`, and what an act does by the state.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

from aiohttp import web

from posten_signering.sandbox._pages.answers import (
    REASONS,
    inline,
    led_to,
    notice,
    page,
)
from posten_signering.sandbox._pages.sessions import SignerSessions
from posten_signering.sandbox._signed.signed_documents import SignedDocument
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, Job, SignerStatus
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.tables import SignerOf
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings

ActOnToken = Callable[[str, Act], str]

PDF = "application/pdf"
_ENTRY = "/signing"
_SIGNER = _ENTRY + "/{job:[0-9]{1,18}}/{signer:[0-9]{1,2}}"
_ACTS = {
    SignerStatus.SIGNED: Act.SIGN,
    SignerStatus.REJECTED: Act.REJECT,
    SignerStatus.FAILED: Act.FAIL,
}
_REFUSED = {
    "unknown": HTTPStatus.NOT_FOUND,
    "replaced": HTTPStatus.GONE,
    "used": HTTPStatus.GONE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerPages:
    """The pages of every signer.

    Attributes:
        settings: The time.
        state: The jobs.
        sessions: Which browser has opened which signer's pages.
        act: Does what a signer chose; gives the exit URL, or raises a `Refusal`.
        documents: Those to sign; none once deleted.
        cookie: The name of the cookie. Browsers share cookies among the ports of a host, so that each
            sandbox needs one of its own.
    """

    settings: Settings
    state: State
    sessions: SignerSessions
    act: ActOnToken
    documents: Callable[[Job], Awaitable[Sequence[SignedDocument]]]
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
            who, key = self.sessions.open(token, now=self.settings.now())
        except Refusal as refusal:
            # An address of its own, which can be refreshed and read in the other language.
            return led_to(f"{_ENTRY}/refused/{REASONS[refusal.code]}")
        answer = led_to(_address(who))
        if key is not None:
            answer.set_cookie(self.cookie, key, path=_address(who), httponly=True, samesite="Lax")
        return answer

    async def _refused(self, request: web.Request) -> web.Response:
        reason = request.match_info["reason"]
        return notice(request, reason, status=_REFUSED[reason])

    async def _show(self, request: web.Request) -> web.Response:
        who, job = self._admitted(request)
        if job.signers[who.position].state.status is not SignerStatus.WAITING:
            return _finished(request, job, who.position, leaving=False)
        # A newer redirect URL takes the pages away from whoever has not acted.
        self.state.signer_of(
            self.sessions.require(who, self._key(request)).redirect_token, now=self.settings.now()
        )
        return page(
            request,
            "signing.html",
            job=job,
            position=who.position,
            signer=job.manifest.signers[who.position],
            documents=await self.documents(job),
            address=_address(who),
        )

    async def _choose(self, request: web.Request) -> web.Response:
        act = _act((await request.post()).get("act"))
        who, _ = self._admitted(request)
        # Refused is what came too late, or twice: the next page shows how things stand.
        with suppress(Refusal):
            self.act(self.sessions.require(who, self._key(request)).redirect_token, act)
        return led_to(f"{_address(who)}/exit")

    async def _leave(self, request: web.Request) -> web.Response:
        who, job = self._admitted(request)
        if exit_url(job, who.position) is None:
            return led_to(_address(who))
        return _finished(request, job, who.position, leaving=True)

    async def _read(self, request: web.Request) -> web.Response:
        who, job = self._admitted(request)
        if not self.state.documents_kept(job, now=self.settings.now()):
            raise Refusal(410, "DOCUMENTS_DELETED", f"The documents of job {job.id} are deleted.")
        documents = await self.documents(job)
        number = int(request.match_info["document"])
        if not 1 <= number <= len(documents):
            raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no such document.")
        document = documents[number - 1]
        if document.mime != PDF:
            return page(request, "document.html", document=document, back=_address(who))
        return web.Response(
            body=BytesIO(document.content), headers=inline(PDF, f"{document.title}.pdf")
        )

    def _admitted(self, request: web.Request) -> tuple[SignerOf, Job]:
        """Whose pages are asked for, by the browser that has opened them."""
        who = SignerOf(
            job_id=int(request.match_info["job"]), position=int(request.match_info["signer"]) - 1
        )
        self.sessions.require(who, self._key(request))
        # By way of the sender, so that a job whose time is over is shown as it then is.
        sender = self.state.tables.jobs[who.job_id].sender
        return who, self.state.job(sender, who.job_id, now=self.settings.now())

    def _key(self, request: web.Request) -> Hidden:
        return Hidden(request.cookies.get(self.cookie, ""))


def exit_url(job: Job, position: int) -> str | None:
    """Where a signer who has acted is sent.

    None for one whose job ended before, and for an exit URL that no browser should follow.
    """
    act = _ACTS.get(job.signers[position].state.status)
    if act is None:
        return None
    address = job_rules.exit_url(job, position, act)
    return address if address.startswith(("https://", "http://")) else None


def _finished(request: web.Request, job: Job, position: int, *, leaving: bool) -> web.Response:
    """What has come of a signer who can do nothing more, and the way back to the sender.

    `leaving` lets the browser go to the exit URL by itself.
    """
    return page(
        request,
        "finished.html",
        what=job.signers[position].state.status.value,
        exit_url=exit_url(job, position),
        leaving=leaving,
    )


def _address(who: SignerOf) -> str:
    return f"{_ENTRY}/{who.job_id}/{who.position + 1}"


def _act(chosen: object) -> Act:
    try:
        return Act(str(chosen))
    except ValueError:
        raise web.HTTPBadRequest from None
