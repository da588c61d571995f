"""The service's endpoints over mutual TLS: requests, answers, faults. What a job does is in `_state`."""
