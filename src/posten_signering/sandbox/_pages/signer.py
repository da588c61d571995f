"""The signer's pages: a redirect token is exchanged for them, and they lead to the exit URL.

Over plain HTTP on loopback. What is shown is made in `_signer_page_html`, who may look is decided in
`_signer_sessions`, and what an act does by the state.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

from aiohttp import web

from posten_signering.sandbox._pages import signer_html as html
from posten_signering.sandbox._pages.answers import (
    REASONS,
    inline,
    language_of_request,
    led_to,
    notice,
    shown,
)
from posten_signering.sandbox._pages.sessions import SignerSessions
from posten_signering.sandbox._signed.xades import SignedDocument
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
        return shown(html.front_page(language_of_request(request)))

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
        language = language_of_request(request)
        if job.signers[who.position].state.status is not SignerStatus.WAITING:
            return shown(html.finished_page(language, job, who.position, leaving=False))
        # A newer redirect URL takes the pages away from whoever has not acted.
        self.state.signer_of(
            self.sessions.require(who, self._key(request)).redirect_token, now=self.settings.now()
        )
        documents = await self.documents(job)
        return shown(html.signing_page(language, job, who.position, documents, _address(who)))

    async def _choose(self, request: web.Request) -> web.Response:
        act = _act((await request.post()).get("act"))
        who, _ = self._admitted(request)
        # Refused is what came too late, or twice: the next page shows how things stand.
        with suppress(Refusal):
            self.act(self.sessions.require(who, self._key(request)).redirect_token, act)
        return led_to(f"{_address(who)}/exit")

    async def _leave(self, request: web.Request) -> web.Response:
        who, job = self._admitted(request)
        if html.exit_url(job, who.position) is None:
            return led_to(_address(who))
        return shown(
            html.finished_page(language_of_request(request), job, who.position, leaving=True)
        )

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
            return shown(html.text_page(language_of_request(request), document, _address(who)))
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


def _address(who: SignerOf) -> str:
    return f"{_ENTRY}/{who.job_id}/{who.position + 1}"


def _act(chosen: object) -> Act:
    try:
        return Act(str(chosen))
    except ValueError:
        raise web.HTTPBadRequest from None
