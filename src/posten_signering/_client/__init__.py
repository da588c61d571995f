"""The client: its operations, its lifecycle, the creation of jobs, polling and downloads."""
