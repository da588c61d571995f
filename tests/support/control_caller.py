"""A client of the sandbox's control API that uses only HTTP, like a test in another language."""

import json
from io import BytesIO


class ControlCaller:
    """Calls the control API, and returns the status and the JSON of the answer."""

    def __init__(self, session, root):
        self.session = session
        self.root = root

    async def __call__(self, method, path, body=None, **options):
        async with self.session.request(
            method, f"{self.root}{path}", json=body, **options
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def send(self, method, path, content, headers=None):
        """Calls with these bytes as the body."""
        headers = {"Content-Type": "application/json"} | (headers or {})
        return await self(method, path, data=BytesIO(content), headers=headers)
