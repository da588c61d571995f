"""The settings of gunicorn for the Django app, and what a worker process does before it ends."""

threads = 8


def worker_exit(_server: object, _worker: object) -> None:
    """Waits for the shop's tasks and closes its client. `atexit` is too late: asyncio's threads are gone."""
    from django_app import one_shop  # noqa: PLC0415 this folder is not importable before

    one_shop.close()
