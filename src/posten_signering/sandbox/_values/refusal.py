"""What the sandbox can't or won't do: the error of its own interface, and the refusals of the service."""

from posten_signering.sandbox._values.masking import masked

_LONGEST_MESSAGE = 2000

SCHEMA_VALIDATION_ERROR = "SCHEMA_VALIDATION_ERROR"
"""Error code: the request, or the manifest in the container, breaks the schema."""

ASICE_VALIDATION_FAILED = "ASICE_VALIDATION_FAILED"
"""Error code: the container, its documents or its signature break the profile."""


class SandboxError(Exception):
    """The sandbox can't do what it was asked to do; the message says why."""


class Refusal(SandboxError):  # noqa: N818 - an answer of the service, not an error of this program
    """An answer of the service that says no.

    The sandbox's own verbs, such as `Sandbox.sign`, raise it as it is.

    Attributes:
        status: The HTTP status.
        code: The `error-code` of the error document.
        message: Its `error-message`: what is wrong, in words for the developer of the sender.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        # Names of files and elements are the sender's, and may hold an identity number.
        message = masked(message)
        message = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def broken_schema(message: str) -> Refusal:
    """The refusal of a message that the schema does not allow."""
    return Refusal(400, SCHEMA_VALIDATION_ERROR, message)


def broken_bundle(message: str) -> Refusal:
    """The refusal of a container that the profile of document packages does not allow."""
    return Refusal(400, ASICE_VALIDATION_FAILED, message)
