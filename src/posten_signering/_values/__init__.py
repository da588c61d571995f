"""What you send and what comes back: frozen values. Performs no I/O, knows neither XML nor HTTP."""
