"""A plain script: creates one job, waits until it is signed, and stores the signed PDF.

    make example-script                        starts it with a sandbox
    python script.py contract.pdf signed.pdf   uses the POSTEN_SIGNERING_* variables

`asyncio.run` is called once, around the whole task. A second `asyncio.run` would be a second event loop,
in which the client of the first can't be used.
"""

import asyncio
import os
import sys
from pathlib import Path

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectJobStatus,
    DirectSigner,
    Document,
    ExitUrls,
    StatusRetrievalMethod,
)

# Pages of the sandbox, where the signer's browser ends. With the service: pages of your web site.
EXIT_URL = os.environ.get("EXIT_URL", "http://127.0.0.1:9080/exit")


async def main(contract: Path, signed: Path) -> None:
    """Creates a job and waits for its outcome."""
    job = DirectJob(
        title="Contract",
        documents=[Document(title="Contract", content=contract)],
        signers=[DirectSigner(custom_identifier="customer")],
        exit_urls=ExitUrls(
            completion=f"{EXIT_URL}/completed",
            rejection=f"{EXIT_URL}/rejected",
            error=f"{EXIT_URL}/error",
        ),
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    async with DirectClient(ClientConfiguration.from_env()) as client:
        created = await client.create(job)
        print("Open this page to sign:", created.single_signer.redirect_url, flush=True)
        async for change in client.status_changes():
            if change.job_id != created.job_id:
                continue  # the service delivers the change again, to the program that created its job
            if change.status == DirectJobStatus.COMPLETED_SUCCESSFULLY:
                await client.download_pades(change, signed)
            await client.confirm(change)
            if change.status != DirectJobStatus.IN_PROGRESS:
                print("The job has ended:", change.status)
                return


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
