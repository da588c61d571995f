"""A running sandbox: started, used from tests and programs, stopped. What it does is in the folders below."""
