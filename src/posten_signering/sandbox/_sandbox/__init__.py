"""A running sandbox: how it starts and stops, and the classes that tests and programs use."""
