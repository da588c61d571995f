"""What the package costs, beside what the same work costs without it: `make bench`, `make bench-short`.

Each bar is measured against its baseline in the same run, turn by turn, so that a busy or slow machine
slows both. Nothing here is a test: figures are told, and only `make bench` fails on a bar that is
clearly missed.
"""
