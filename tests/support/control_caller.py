"""A client of the sandbox's control API that uses only HTTP, like a test in another language."""

import json


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
