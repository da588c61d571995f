"""The error that the sandbox raises, and the refusals of the service that it imitates."""

import re

from posten_signering.sandbox._values.masking import masked

_LONGEST_MESSAGE = 2000
# Every character that an XML document can't have (XML 1.0, 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SCHEMA_VALIDATION_ERROR = "SCHEMA_VALIDATION_ERROR"
"""The error code when the request, or the manifest in the container, breaks the schema."""

ASICE_VALIDATION_FAILED = "ASICE_VALIDATION_FAILED"
"""The error code when the container, a document or the signature breaks the profile."""


class SandboxError(Exception):
    """The sandbox can't do what the caller requested. The message says why."""


class Refusal(SandboxError):  # noqa: N818 - a response of the service, not an error of this program
    """The service refuses a request.

    The API answers with an error document. The methods of `Sandbox`, such as `sign`, raise the error.

    Attributes:
        status: The HTTP status.
        code: The `error-code` of the error document.
        message: The `error-message`: what is wrong and what to do, for the sender's developer.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        # The sender chose the names of files, elements and certificates. They may contain an identity
        # number, or a character that the error document can't have.
        message = _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", masked(message))
        message = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def broken_schema(message: str) -> Refusal:
    """The refusal of a message that breaks the schema."""
    return Refusal(400, SCHEMA_VALIDATION_ERROR, message)


def broken_bundle(message: str) -> Refusal:
    """The refusal of a container that breaks the profile of document packages."""
    return Refusal(400, ASICE_VALIDATION_FAILED, message)
