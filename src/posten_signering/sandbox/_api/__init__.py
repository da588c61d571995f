"""The service's endpoints over mutual TLS: requests, responses, faults. The rules of jobs are in `_state`."""
