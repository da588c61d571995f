"""The processes that open documents, shared by the sandboxes of all tests: starting one takes longer than most tests."""

from collections import deque

from posten_signering.sandbox._documents.processes import DocumentProcesses


class SharedProcesses(DocumentProcesses):
    idle = deque()

    def __init__(self, time_limit):
        super().__init__(time_limit)
        self._idle = self.idle

    def _end_idle_processes(self):
        """Keeps them for the next sandbox. The fixture `_shared_processes` ends them."""
