"""Jobs, queues, brokers and their storage. Knows no HTTP."""
