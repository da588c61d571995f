"""Pacing and retries: when an operation may be sent, and sent again. Opens no socket itself."""
