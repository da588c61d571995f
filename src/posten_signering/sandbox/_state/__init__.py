"""Jobs, polling queues, brokers and their storage. Nothing here uses HTTP."""
