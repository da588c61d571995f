"""The service's protocol: requests, responses, URLs and XML. No I/O, no clock, no event loop."""
