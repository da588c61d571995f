"""The client, apart from what it is built on: its operations, its life, its iterator and its downloads."""
