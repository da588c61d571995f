"""The command `check`: finds out step by step what is right and what is wrong with a set-up."""

import platform
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from posten_signering import __version__
from posten_signering._cli.options import DEFAULT_SERVICE, AsJson, ServiceOptions
from posten_signering._cli.output import Output
from posten_signering._cli.setup.marks import mark
from posten_signering._cli.setup.network import network_steps
from posten_signering._cli.setup.steps import TITLES, Result, Step, local_steps
from posten_signering._cli.status import ExitStatus

_STYLES = {Result.PASSED: "green", Result.FAILED: "red", Result.NOT_RUN: "dim"}


def check(*, service: ServiceOptions = DEFAULT_SERVICE, as_json: AsJson = False) -> int:
    """Checks the set-up: certificate, trust anchors, proxy, TLS, clock, and access to the service.

    Each step prints what it found, or what failed and how to fix it. Steps that can't run because of an earlier failure are listed as not run. Nothing is sent if the certificate belongs to a different environment. The exit status is 1 if a step failed.

    The output has no password, no proxy user and no token. You can give it to support.

    Example: posten-signering check --certificate company.p12 --environment staging
    """
    steps, configuration = local_steps(service, now=datetime.now(UTC))
    if configuration is not None:
        steps = [*steps, *network_steps(configuration)]
    by_name = {step.name: step for step in steps}
    ordered = [by_name.get(name, Step(name=name, result=Result.NOT_RUN)) for name in TITLES]
    failed = any(step.result is Result.FAILED for step in ordered)
    _print(ordered, as_json=as_json, failed=failed)
    return ExitStatus.FAILURE if failed else ExitStatus.SUCCESS


def _print(steps: Sequence[Step], *, as_json: bool, failed: bool) -> None:
    output = Output(as_json=as_json)
    versions = {
        "posten-signering": __version__,
        "Python": platform.python_version(),
        "OpenSSL": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "system": platform.platform(),
    }
    text = Text(", ".join(f"{name} {version}" for name, version in versions.items()))
    for step in steps:
        text.append("\n").append(_line(step, sys.stdout.encoding))
        for detail in (*step.details, *filter(None, [step.problem])):
            text.append(f"\n    {detail}")
    output.result(
        {
            "passed": not failed,
            "versions": versions,
            "steps": [
                {
                    "name": step.name,
                    "result": step.result,
                    "details": step.details,
                    "problem": step.problem,
                }
                for step in steps
            ],
        },
        text,
    )


def _line(step: Step, encoding: str | None) -> Text:
    if step.result is Result.NOT_RUN:
        return Text(f"- {TITLES[step.name]}: not run", style=_STYLES[step.result])
    sign = mark(encoding, good=step.result is Result.PASSED)
    return Text.assemble((sign, _STYLES[step.result]), f" {TITLES[step.name]}")
