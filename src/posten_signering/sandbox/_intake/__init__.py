"""The independent judge of what clients send: multipart, container, signature, messages, PDF. Shares no code with the SDK."""
