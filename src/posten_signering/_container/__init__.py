"""Puts documents into a signed ASiC-E container, and streams it as a request body."""
