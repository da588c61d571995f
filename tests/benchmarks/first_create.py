"""`python -m benchmarks.first_create cpu|stall FOLDER PORT`: a process that enters a client.

Prints the CPU time of the whole process until it has created a job, or how long entering the client stalled the
event loop, in ms. It uses only names that the package had in the commit with which it is compared.
"""

import asyncio
import sys
import time
from pathlib import Path

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    Sender,
    TrustAnchors,
)

_HEARTBEAT = 0.001


async def _main(figure: str, folder: Path, port: int) -> float:
    sender = folder / "sender.pem"
    configuration = ClientConfiguration(
        environment=Environment(name="benchmark", service_root=f"https://127.0.0.1:{port}/api"),
        certificate=EnterpriseCertificate.from_pem(sender, sender),
        trust_anchors=TrustAnchors().trusting(folder / "root.pem"),
        sender=Sender(organization_number="123456789"),
    )
    if figure == "stall":
        return await _stall(configuration)
    async with DirectClient(configuration) as client:
        await client.create(
            DirectJob(
                title="Lease",
                documents=[Document(title="Contract", content=b"%PDF-1.7\n%%EOF\n")],
                signers=[DirectSigner(personal_identification_number="12345678910")],
                exit_urls=ExitUrls(
                    completion="https://shop.example/done",
                    rejection="https://shop.example/rejected",
                    error="https://shop.example/error",
                ),
            )
        )
        return time.process_time() * 1000


async def _stall(configuration: ClientConfiguration) -> float:
    delays = list[float]()
    heartbeat = asyncio.create_task(_beat(delays))
    await asyncio.sleep(5 * _HEARTBEAT)
    async with DirectClient(configuration):
        await asyncio.sleep(2 * _HEARTBEAT)
        heartbeat.cancel()
        await asyncio.wait([heartbeat])
    return max(delays) * 1000


async def _beat(delays: list[float]) -> None:
    """Records how much later than planned each heartbeat came, in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        await asyncio.sleep(_HEARTBEAT)
        delays.append(loop.time() - start - _HEARTBEAT)


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))}\n")
