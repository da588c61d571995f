"""A fleet: a web process, workers, PostgreSQL and Redis. README.md describes it."""
