"""Several threads use the schema at the same time."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

from lxml import etree

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


def test_each_thread_gets_the_faults_of_its_own_message():
    """A schema has one log of errors, which each validation clears."""
    signers = "<signer/>" * 40
    faulty = etree.fromstring(
        f'<direct-signature-job-manifest xmlns="{xml.NAMESPACE}">{signers}<x/></direct-signature-job-manifest>'
    )
    valid = etree.fromstring(
        f'<direct-signer-update-request xmlns="{xml.NAMESPACE}"><redirect-url/></direct-signer-update-request>'
    )
    expected = [xml.faults(root) for root in (faulty, valid)]
    assert [bool(faults) for faults in expected] == [True, False]
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(xml.faults, [deepcopy(root) for root in [faulty, valid] * 50]))
    finally:
        sys.setswitchinterval(switch_interval)
    assert found == expected * 50
