"""The pure middle: no I/O, no clock, no event loop."""
