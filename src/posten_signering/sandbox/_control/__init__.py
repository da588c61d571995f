"""The control API, which reads and changes the state of a sandbox. The real service has no control API."""
