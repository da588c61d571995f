"""The commands that start a program of the sandbox: `sandbox` and `demo`. The program reads the arguments."""

from typing import Annotated

from cyclopts import Parameter

Arguments = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


def sandbox(*arguments: Arguments) -> int:
    """Starts the sandbox, a local service for development and tests."""
    from posten_signering.sandbox.__main__ import main  # noqa: PLC0415 - only this command uses it

    return main(arguments, program="posten-signering sandbox")


def demo(*arguments: Arguments) -> int:
    """Runs a demo against a sandbox: creates, signs, downloads and confirms two jobs."""
    from posten_signering.sandbox.demo import main  # noqa: PLC0415 - only this command uses it

    return main(arguments, program="posten-signering demo")


PROGRAMS = {"sandbox": sandbox, "demo": demo}
