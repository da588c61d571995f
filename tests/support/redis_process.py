"""A Redis server of a test's own: on loopback, without persistence, and what it says that it did."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@dataclass
class Redis:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str) -> bytes:
        """Sends one command, in Redis's own protocol, and gives the beginning of its answer."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(each)}\r\n{each}\r\n" for each in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(command.encode())
            return connection.recv(65536)

    def number(self, *words: str) -> int:
        """As `ask`, for an answer that is a number."""
        answer = self.ask(*words)
        assert answer.startswith(b":"), answer
        return int(answer[1:])

    def stop(self) -> None:
        """Ends the server, and waits for its end."""
        self.process.terminate()
        self.process.wait(timeout=10)

    @contextmanager
    def monitored(self) -> Iterator[list[str]]:
        """What the server does inside the block: its own lines, each with its own time, when it ends."""
        lines: list[str] = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"MONITOR\r\n")
            assert connection.recv(5) == b"+OK\r\n"
            yield lines
            self.ask("ECHO", "the-end")
            told = b""
            while b'"the-end"' not in told:
                told += connection.recv(65536)
        lines += told.decode().splitlines()


@contextmanager
def running(program: str, directory: Path, port: int | None = None) -> Iterator[Redis]:
    """A server that answers; stopped at the end, if it still runs."""
    port = port or free_port()
    options = {
        "--port": port,
        "--bind": "127.0.0.1",
        "--dir": directory,
        "--save": "",
        "--appendonly": "no",
    }
    command = [program, *(str(each) for pair in options.items() for each in pair)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        redis = Redis(process, port)
        try:
            assert process.stdout is not None
            told = b""
            while b"Ready to accept connections" not in told:
                line = process.stdout.readline()
                assert line, told.decode()
                told += line
            yield redis
        finally:
            redis.stop()
