"""The only sockets: requests over mutual TLS, and what a failed exchange means. Knows no operation."""
