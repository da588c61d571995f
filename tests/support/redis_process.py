"""Starts a Redis server for one test, on loopback and without persistence, and can record its commands."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Linux and macOS give these ports to nobody who doesn't ask for one by its number.
FIXED_PORTS = range(15_000, 30_000)


def free_port() -> int:
    """A loopback port that no server listens on, and that stays free until a server takes it by number.

    A port that the system chose is not like that: after it is closed, any connection or server of
    another test may get it before the server of this test starts.
    """
    while True:
        port = random.choice(FIXED_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


@dataclass
class Redis:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str) -> bytes:
        """Sends one command in Redis's protocol, and returns the first bytes of the reply."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(command.encode())
            return connection.recv(65536)

    def number(self, *words: str) -> int:
        """Like `ask`, for a command whose reply is an integer."""
        answer = self.ask(*words)
        assert answer.startswith(b":"), answer
        return int(answer[1:])

    def stop(self) -> None:
        """Stops the server, and waits until it has ended."""
        self.process.terminate()
        self.process.wait(timeout=10)


@contextmanager
def running(
    program: str, directory: Path, port: int | None = None, **options: object
) -> Iterator[Redis]:
    """Starts a server, waits until it accepts connections, and stops it at the end.

    An option such as `tls_port=port` is passed to the server as `--tls-port`.
    """
    port = port or free_port()
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": directory,
        "save": "",
        "appendonly": "no",
        **options,
    }
    command = [
        program,
        *(
            str(word)
            for name, value in options.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ),
    ]
    with _started(command, ready=b"Ready to accept connections") as process:
        yield Redis(process, port)


@contextmanager
def sentinel(program: str, directory: Path) -> Iterator[str]:
    """Starts a Redis Sentinel, yields its URL, and stops it at the end."""
    port, file = free_port(), directory / "sentinel.conf"
    file.write_text(f"port {port}\nbind 127.0.0.1\n")
    with _started([program, str(file), "--sentinel"], ready=b"Sentinel ID"):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def _started(command: list[str], ready: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a process, waits until its output says that it is ready, and stops it at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            output = b""
            while ready not in output:
                line = process.stdout.readline()
                assert line, output.decode()
                output += line
            yield process
        finally:
            process.terminate()
            process.wait(timeout=10)
