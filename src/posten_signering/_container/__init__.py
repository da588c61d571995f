"""Documents into a signed ASiC-E container: read, signed, laid out, and produced as a request body."""
