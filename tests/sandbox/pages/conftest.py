"""A browser without a screen, at the pages of the sandbox."""

import pytest
from visitors import visitor


@pytest.fixture
async def browser(sandbox):
    async with visitor(sandbox) as come:
        yield come
