"""The error of the sandbox's own interface."""


class SandboxError(Exception):
    """The sandbox can't do what it was asked to do; the message says why."""
