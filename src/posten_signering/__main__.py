"""The command `posten-signering`, also as `python -m posten_signering`. The commands are in `_cli`."""

import sys

_LIBRARIES = {"cyclopts", "rich", "yaml"}


def main() -> int:
    """Runs the command with the arguments of the process, and returns its exit status."""
    try:
        from posten_signering._cli.app import run  # noqa: PLC0415 - fails without the extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        sys.stderr.write(
            "The command posten-signering needs the extra `cli`. Install it with: pip install "
            "'posten-signering[cli]'\n"
        )
        return 2
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
