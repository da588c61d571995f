"""The packaged schema is loaded once, however many threads need it first."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from posten_signering._wire import xml


def test_threads_that_need_the_schema_at_the_same_time_all_get_it(monkeypatch):
    """libxml2 has global state while it loads a schema, and a thread that reads a file lets others run."""
    read_bytes = Path.read_bytes

    def let_others_run_and_read(path: Path) -> bytes:
        for _ in range(100):
            time.sleep(0)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", let_others_run_and_read)
    xml._loaded_schema.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        loading = [threads.submit(xml.schema) for _ in range(8)]
    assert len({id(loaded.result()) for loaded in loading}) == 1
