"""The configuration of a client, and how it is read from environment variables. All values are frozen."""
