"""Calls the control API as a test in another language would."""

import json


class Hand:
    """Calls the control API as a test in another language would."""

    def __init__(self, session, root):
        self.session = session
        self.root = root

    async def __call__(self, method, path, body=None, **options):
        async with self.session.request(
            method, f"{self.root}{path}", json=body, **options
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None
