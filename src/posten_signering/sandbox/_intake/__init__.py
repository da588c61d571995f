"""Checks what clients send: multipart body, container, signature, messages. Shares no code with the SDK."""
