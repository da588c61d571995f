"""Pacing and retries: when a request may be sent, and whether it is retried. Opens no socket itself."""
