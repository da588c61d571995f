"""The package's version. The build reads it from here; reading it from the installed metadata takes milliseconds."""

__version__ = "0.1.0"
