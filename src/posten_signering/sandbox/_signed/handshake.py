"""A TLS context for the server, which sends the alert when it refuses a client. asyncio alone does not."""

import ssl
from typing import cast


class _Connection(ssl.SSLObject):
    """A TLS connection.

    After a failure that has an alert, the handshake asks for more data, so that the event loop sends the
    alert. Data that comes then is discarded: closing a socket with unread data resets the connection, and
    the client might meet the reset before the alert. The connection ends when the client closes it, or
    with the event loop's timeout for handshakes (one minute).
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    _failed = False

    def do_handshake(self) -> None:
        """Continues the handshake with the data that has arrived.

        Raises:
            ssl.SSLWantReadError: The handshake needs more data, or has failed and its alert must leave.
            ssl.SSLError: The handshake has failed, and there is no alert to send.
        """
        if not self._failed:
            try:
                super().do_handshake()
            except ssl.SSLWantReadError:
                raise
            except ssl.SSLError:
                if not self.outgoing.pending:
                    raise
            else:
                return
            self._failed = True
        self.incoming.read()
        raise ssl.SSLWantReadError


class ServerContext(ssl.SSLContext):
    """A TLS context whose failed handshakes send the alert that says why.

    When a handshake fails, asyncio closes the connection without sending the alert that OpenSSL has
    written. A client whose certificate is refused then sees only a lost connection.
    """

    sslobject_class = _Connection

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the method has the parameters of its base class
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """A connection that reads what the client sent from `incoming`, and writes to `outgoing`."""
        connection = cast(
            "_Connection",
            super().wrap_bio(incoming, outgoing, server_side, server_hostname, session),
        )
        connection.incoming, connection.outgoing = incoming, outgoing
        return connection
