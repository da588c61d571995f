"""The commands that find out whether a set-up is right: `check` and `trust-anchors`."""
