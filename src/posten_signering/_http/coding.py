"""Undoes the Content-Encoding of an answer (RFC 9110, 8.4), piece by piece. Performs no I/O.

The SDK asks for none (`identity`), so that a download's length is known; a gateway may add one all
the same. What a piece unpacks to is bounded, and an answer that is cut off is an error.
"""

import zlib

from posten_signering.errors import UnexpectedResponseError

__all__ = ["ContentDecoder"]

_LARGEST_PIECE = 64 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class ContentDecoder:
    """Takes the bytes of a body as they come, and gives them back decoded.

    No method holds content in a local variable when it raises.

    Raises:
        UnexpectedResponseError: The coding is not one of gzip and deflate.
    """

    def __init__(self, content_encoding: str) -> None:
        codings = {each.strip().lower() for each in content_encoding.split(",")} - {"", "identity"}
        if not codings <= {"gzip", "x-gzip"} and codings != {"deflate"}:
            raise UnexpectedResponseError(
                "The answer comes in a content encoding that was not asked for."
            )
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB) if codings else None
        self._waiting = b""
        self._decoded = b""
        self._kept_back = False
        self._started = False

    def feed(self, data: bytes) -> None:
        """Takes in what came; to be called when `ready` says False."""
        self._started = self._started or bool(data)
        self._waiting = data

    def ready(self) -> bool:
        """Decodes the next piece, and says whether there is one.

        Raises:
            UnexpectedResponseError: It can't be decoded.
        """
        broken = False
        try:
            while not self._decoded and (self._waiting or self._kept_back):
                self._decode()
        except zlib.error:
            broken = True
        if broken:
            raise UnexpectedResponseError("The answer's content encoding is broken.")
        return bool(self._decoded)

    def _decode(self) -> None:
        if self._inflater is None:
            self._decoded, self._waiting = self._waiting, b""
            return
        if self._inflater.eof:  # RFC 1952, 2.2: members may follow one another
            self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        inflater = self._inflater
        self._decoded = inflater.decompress(self._waiting, _LARGEST_PIECE)
        self._waiting = inflater.unconsumed_tail or inflater.unused_data
        # zlib keeps back what it had no room for, even when it has read all.
        self._kept_back = len(self._decoded) == _LARGEST_PIECE and not inflater.eof

    def take(self) -> bytes:
        """The piece that `ready` decoded."""
        data, self._decoded = self._decoded, b""
        return data

    def finish(self) -> None:
        """Says that nothing more will come.

        Raises:
            UnexpectedResponseError: Something is missing.
        """
        if self._started and self._inflater is not None and not self._inflater.eof:
            raise UnexpectedResponseError("The answer's content was cut off.")
