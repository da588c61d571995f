"""Sends HTTP requests over mutual TLS, and explains failures. Only this folder opens sockets to the service."""
