"""The commands `sandbox` and `demo`, which start programs of the sandbox."""

import subprocess
import sys

import pytest

from posten_signering._cli.programs import PROGRAMS
from posten_signering.sandbox import __main__ as sandbox_program
from posten_signering.sandbox import demo


@pytest.mark.parametrize(
    ("name", "program", "option"),
    [("sandbox", sandbox_program, "--early-poll-penalty"), ("demo", demo, "--browser")],
)
def test_the_help_is_that_of_the_program(command, name, program, option):
    ran = command(name, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"usage: posten-signering {name}")
    assert option in ran.out
    assert f"Example: posten-signering {name}" in ran.out
    assert PROGRAMS[name].__doc__


@pytest.mark.parametrize("options", [[], ["--verbose"]])
@pytest.mark.parametrize(("name", "program"), [("sandbox", sandbox_program), ("demo", demo)])
def test_the_program_gets_the_arguments(command, monkeypatch, name, program, options):
    received = []

    def main(arguments, *, program):
        received.append((*arguments, program))
        return 3

    monkeypatch.setattr(program, "main", main)
    assert command(*options, name, "--port", "0", "x").status == 3
    assert received == [("--port", "0", "x", f"posten-signering {name}")]


@pytest.mark.parametrize("name", ["sandbox", "demo"])
def test_without_the_extra_the_command_names_it(name):
    # In a process of its own: here, it would leave a second copy of the sandbox's modules to other tests.
    program = (
        "import sys; sys.modules['aiohttp'] = None\n"
        f"from posten_signering._cli.app import run; sys.exit(run([{name!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert b"pip install 'posten-signering[sandbox]'" in ended.stderr
