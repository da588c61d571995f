"""Worker threads for heavy work: closing the pool waits until the work is done."""

import asyncio
import threading

import pytest

from posten_signering.sandbox._values.workers import Workers

pytestmark = pytest.mark.anyio


async def test_closing_waits_for_work_whose_caller_was_cancelled():
    workers = Workers()
    started, release, done = threading.Event(), threading.Event(), []

    def work():
        started.set()
        release.wait(timeout=30)
        done.append(True)

    task = asyncio.create_task(workers.run(work))
    await asyncio.to_thread(started.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closing = asyncio.create_task(workers.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await closing
    assert done == [True]
