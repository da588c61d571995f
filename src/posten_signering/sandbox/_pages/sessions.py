"""Browsers that have opened a redirect URL: each may go on with what it opened, no other may.

Performs no I/O. A redirect token opens the pages once; from then on the browser shows that it is the
same one by a cookie, so that a refresh survives and a second browser is refused ("Direct flow" of
the service's documentation). A fresh redirect URL of the same signer moves the signing over to the
browser that opens it.
"""

import hmac
from datetime import datetime

from posten_signering.sandbox._state.job import SignerOf
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Session
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings

OPENED_ELSEWHERE = "REDIRECT_URL_OPENED"
"""Code of the refusal of a browser that is not the one which opened the redirect URL."""


class SignerSessions:
    """The sessions there are.

    Args:
        settings: The source of keys.
        state: Knows whom a redirect token belongs to, and the sessions there are.
    """

    def __init__(self, settings: Settings, state: State) -> None:
        self._settings = settings
        self._state = state
        self._sessions = state.tables.sessions

    def open(self, redirect_token: Hidden, *, now: datetime) -> tuple[SignerOf, str | None]:
        """Opens the pages of a signer.

        Returns:
            Whose pages they are, and the key for the browser's cookie: None when this token has
            opened them before, for whoever has its cookie already.

        Raises:
            Refusal: The token opens nothing, or nothing any more.
        """
        who = self._state.signer_of(redirect_token, now=now)
        before = self._sessions.get(who)
        if before is not None and before.redirect_token == redirect_token:
            return who, None
        session = Session(redirect_token=redirect_token, key=Hidden(self._settings.new_token()))
        self._sessions[who] = session
        return who, session.key

    def require(self, who: SignerOf, key: Hidden) -> Session:
        """The session of a signer, for the browser that has it.

        Raises:
            Refusal: Another browser has it, or none.
        """
        session = self._sessions.get(who)
        if session is None or not hmac.compare_digest(session.key.encode(), key.encode()):
            raise Refusal(
                403,
                OPENED_ELSEWHERE,
                f"The pages of this signer of job {who.job_id} were opened in another browser.",
            )
        return session
