"""Checks what clients send: multipart body, container, signature, messages, PDFs. Shares no code with the SDK."""
