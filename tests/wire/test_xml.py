"""Several threads use the schema and the parser at the same time."""

import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from doubles import status_xml

from posten_signering._values.secret import Secret
from posten_signering._wire import xml
from posten_signering._wire.messages import job_status_response


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


def test_reading_in_several_threads_leaves_the_warning_filters_unchanged():
    """The filters belong to the process. Here one thread restores them while the others change them."""
    document, before = Secret(status_xml("NEW_STATUS")), list(warnings.filters)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(job_status_response, [document] * 100))
    finally:
        sys.setswitchinterval(switch_interval)
    assert {status.status for status in statuses} == {"NEW_STATUS"}
    assert warnings.filters == before
