"""Starts the fleet on this machine, with a sandbox, PostgreSQL and Redis. Ctrl-C stops everything.

python -m fleet.start [--port 8000] [--workers 3]
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
from psycopg import AsyncConnection
from run import EMPTY_QUEUE_WAIT, STOP_SIGNALS, redis, write_files

from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox

FOLDER = Path(__file__).parent
# The service hides a delivered change for 10 minutes. Here, you can watch a redelivery.
LEASE = timedelta(seconds=30)


async def run_fleet(port: int, workers: int) -> None:
    """Runs everything until it is cancelled."""
    with tempfile.TemporaryDirectory() as name:
        async with (
            postgres() as database,
            Sandbox(empty_queue_wait=EMPTY_QUEUE_WAIT, lease=LEASE) as sandbox,
            redis(Path(name)) as redis_url,
            asyncio.TaskGroup() as programs,
        ):
            shop_url = f"http://127.0.0.1:{port}"
            environment = os.environ | write_files(sandbox, Path(name)) | database
            environment |= {"SHOP_URL": shop_url, "REDIS_URL": redis_url}
            programs.create_task(keep_running("fleet.web", environment | {"PORT": str(port)}))
            for _ in range(workers):  # port 0: any free port
                programs.create_task(keep_running("fleet.worker", environment | {"PORT": "0"}))
            await place_orders(sandbox, shop_url)
            print(
                f"\nOpen {shop_url}/ in a browser to place and sign more orders. The log shows what the "
                f"{workers} workers do.\nEnd a worker with kill -9 and its process id, which the log shows: "
                f"it is started again, and a change\nthat it was handling is redelivered after "
                f"{LEASE.seconds} seconds. Ctrl-C stops everything.\n",
                flush=True,
            )


async def keep_running(program: str, environment: Mapping[str, str]) -> None:
    """Runs a program, and starts it again when a signal has ended it, as Kubernetes would."""
    while True:
        # In its own process group, so that Ctrl-C signals only this process, which sends one SIGTERM.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", program), cwd=FOLDER.parent, env=environment, process_group=0
        )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if status >= 0:
            raise RuntimeError(f"{program} ended with status {status}. Its log says why.")
        print(f"Signal {-status} ended {program} {process.pid}. It starts again.", flush=True)


async def place_orders(sandbox: Sandbox, shop_url: str) -> None:
    """Does what customers would do in their browsers. The workers handle the status changes."""
    # The retries wait until the web process accepts connections.
    transport = httpx.AsyncHTTPTransport(retries=8)
    async with httpx.AsyncClient(base_url=shop_url, transport=transport) as customer:
        for act in (sandbox.sign, sandbox.reject):
            response = await customer.post("/orders")
            await act(response.headers["location"])
        print("Two customers have placed orders. One has signed, one has rejected.", flush=True)
        # The service creates the third job, but its response is lost.
        lost = Fault(kind=FaultKind.RESET, operation=Operation.CREATE, after=True, times=1)
        sandbox.faults.add(lost)
        await customer.post("/orders")
        print("The response to a third order was lost, so its outcome is unknown.", flush=True)
    await sandbox.expire(sandbox.received[-1].job_id)
    print("30 days later, its job expires. This status change settles the order.", flush=True)


@asynccontextmanager
async def postgres() -> AsyncGenerator[dict[str, str]]:
    """Runs PostgreSQL with a new database. Returns libpq's variables, which name the database."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        # No other user can enter the folder with the socket, so the database needs no password.
        await pg_ctl(
            folder, "initdb", "--options=--username=shop --auth=trust --encoding=UTF8 --no-sync"
        )
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{folder}'\n")
        await pg_ctl(folder, "start", f"--log={folder / 'log'}")
        try:
            schema = (FOLDER / "schema.sql").read_bytes()
            async with await AsyncConnection.connect(
                host=name, user="shop", dbname="postgres"
            ) as connection:
                await connection.execute(schema)
            yield {"PGHOST": name, "PGUSER": "shop", "PGDATABASE": "postgres"}
        finally:
            await pg_ctl(folder, "stop", "--mode=fast")


async def pg_ctl(folder: Path, action: str, *options: str) -> None:
    """Creates, starts or stops a PostgreSQL server that has its data in `folder`."""
    # PostgreSQL refuses to run as root.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    process = await asyncio.create_subprocess_exec(
        *(as_user if os.geteuid() == 0 else ()),
        *(pg_ctl_program() or "pg_ctl", action, f"--pgdata={folder / 'data'}", *options),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        process_group=0,
    )
    try:
        output, _ = await process.communicate()
    finally:
        # Even if cancelled: a server that is still starting could not be stopped.
        await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"pg_ctl {action} failed:\n{output.decode()}")


def pg_ctl_program() -> str | None:
    """The path of `pg_ctl`, or None. Debian's packages do not put it on PATH."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))
    return shutil.which("pg_ctl") or (debian[-1] if debian else None)


def missing_packages() -> list[str]:
    """The Debian packages of the programs that are not installed."""
    programs = {"postgresql": pg_ctl_program(), "redis-server": shutil.which("redis-server")}
    return [package for package, program in programs.items() if program is None]


async def main(port: int, workers: int) -> None:
    """Runs the fleet until a signal stops it."""
    fleet = asyncio.create_task(run_fleet(port, workers))
    stop = asyncio.Event()
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    signalled = asyncio.create_task(stop.wait())
    await asyncio.wait([fleet, signalled], return_when=asyncio.FIRST_COMPLETED)
    # Only once: a second Ctrl-C must not interrupt the stopping of the programs.
    fleet.cancel()
    with suppress(asyncio.CancelledError):
        await fleet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Starts the fleet with a sandbox and its servers.")
    parser.add_argument("--port", type=int, default=8000, help="port of the shop (%(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="number of workers (%(default)s)")
    options = parser.parse_args()
    if packages := " ".join(missing_packages()):
        sys.exit(f"A program is not installed. On Debian and Ubuntu: apt-get install {packages}")
    try:
        socket.create_server(("127.0.0.1", options.port)).close()
    except OSError:
        sys.exit(f"Port {options.port} is in use. Choose another: --port {options.port + 1}")
    asyncio.run(main(options.port, options.workers))
