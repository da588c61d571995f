"""A client's life: made, entered once, closed; and what its operations share while it is open."""

import os
from enum import Enum
from types import TracebackType
from typing import Self, TypeVar

from posten_signering._client import downloads
from posten_signering._client.downloads import DownloadStream, Progress
from posten_signering._client.opening import Opened, open_session
from posten_signering._configuration import ClientConfiguration
from posten_signering._values.job import Sender
from posten_signering._wire.operations import Operation
from posten_signering.errors import ClientStateError, SenderNotSpecifiedError

T = TypeVar("T")


class _State(Enum):
    NEW = "was not entered: use it in `async with DirectClient(...) as client`"
    OPENING = "is being opened by another task: share it, or make another"
    OPEN = "is open already: share it, or make another"
    CLOSED = "is closed: make a new one"


class ClientLife:
    """What a client is apart from its operations.

    Args:
        configuration: How to reach the service, and as whom.
    """

    def __init__(self, configuration: ClientConfiguration) -> None:
        self._configuration = configuration
        self._state = _State.NEW
        self._opened: Opened | None = None

    @property
    def configuration(self) -> ClientConfiguration:
        """What the client was made with."""
        return self._configuration

    async def __aenter__(self) -> Self:
        """Checks the certificate and makes ready to connect; nothing is sent yet.

        Raises:
            ConfigurationError: The certificate has expired or is not valid yet, or something else of
                the configuration can't be used.
            ClientStateError: The client was entered before.
        """
        if self._state is not _State.NEW:
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        self._state = _State.OPENING
        try:
            opened = await open_session(self._configuration)
        except BaseException:
            if self._state is _State.OPENING:
                self._state = _State.NEW
            raise
        if self._state is not _State.OPENING:
            await opened.session.aclose()
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        self._opened = opened
        self._state = _State.OPEN
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; what `async with` does at its end. Closing twice does nothing."""
        opened, self._opened = self._opened, None
        self._state = _State.CLOSED
        if opened is not None:
            await opened.session.aclose()

    @property
    def _root(self) -> str:
        return self._configuration.environment.service_root

    def _open(self) -> Opened:
        if self._opened is None:
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        return self._opened

    def _sender(self, sender: Sender | None) -> Sender:
        resolved = sender or self._configuration.sender
        if resolved is None:
            raise SenderNotSpecifiedError
        return resolved

    async def _send(self, operation: Operation[T]) -> T:
        return await self._open().session.send(operation)

    async def _to_file(
        self, operation: Operation[bytes], path: str | os.PathLike[str], progress: Progress | None
    ) -> int:
        opened = self._open()

        async def once(*, again: bool) -> int:
            del again
            async with opened.session.once_open(operation) as stream:
                download = DownloadStream(stream)
                return await downloads.to_file(download, path, progress, opened.limiter)

        return await opened.session.persistently(operation, once)
