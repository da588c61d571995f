"""A fixture: a headless browser for the pages of the sandbox."""

import pytest
from visitors import visitor


@pytest.fixture
async def browser(sandbox):
    async with visitor(sandbox) as opened:
        yield opened
