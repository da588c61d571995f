"""Every Python block of README and docs runs, unless it quotes a file or has a test of its own (`ELSEWHERE`).

The blocks of a page run in their order and in one namespace, against a sandbox, with its environment variables, and in
a folder with the files that the pages name. Each of their functions is called, with a value for each parameter. A
function that runs until it is cancelled is cancelled when it has confirmed a change.
"""

import ast
import dataclasses
import hashlib
import inspect
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
import doubles
import loopback
import pytest
from anyio import to_thread
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)
from docs_pages import ELSEWHERE, PAGES, ROOT, blocks_of, path_of

from posten_signering import (
    CertificateAuthority,
    DirectClient,
    DirectSigner,
    Environment,
    Sender,
    StatusRetrievalMethod,
    status_query_token_in,
)

# Imported here, so that it knows the service's own environments, and not the one of the fixture below.
from posten_signering._configuration.variables import PREFIX
from posten_signering._values import events
from posten_signering.errors import ArgumentTypeError
from posten_signering.sandbox import Sandbox

# The queues that blocks poll. The last two belong to an organisation for which the first acts as a broker.
QUEUES = [
    Sender(organization_number="123456789"),
    Sender(organization_number="123456789", polling_queue="shop"),
    Sender(organization_number="987654321"),
    Sender(organization_number="987654321", polling_queue="broker"),
]
SIGNER = DirectSigner(custom_identifier="customer-42")
TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
POLLING = StatusRetrievalMethod.POLLING


@dataclass
class Bench:
    """What functions of blocks are called with: a method for each name that a parameter may have."""

    folder: Path
    sandbox: Sandbox
    client_in_use: DirectClient
    returned: tuple[str, str] | None = None

    async def client(self):
        return self.client_in_use

    async def configuration(self):
        return self.sandbox.client_configuration()

    async def job(self):
        return doubles.job(signers=[SIGNER], sender=QUEUES[0])

    async def created(self):
        """A polled job that its signer has signed."""
        return await self._signed(QUEUES[0])

    async def _signed(self, sender):
        job = dataclasses.replace(await self.job(), sender=sender, status_retrieval_method=POLLING)
        created = await self.client_in_use.create(job)
        await self.sandbox.sign(created.single_signer.redirect_url)
        return created

    async def change(self):
        await self.created()
        poll = await self.client_in_use.get_status_change()
        return poll.change

    async def _returned(self):
        """The status URL of a job, and the exit URL that its signer has returned to."""
        if self.returned is None:
            response = await self.response()
            exit_url = await self.sandbox.sign(response.single_signer.redirect_url)
            self.returned = response.status_url, exit_url
        return self.returned

    async def status_url(self):
        return (await self._returned())[0]

    async def exit_url(self):
        return (await self._returned())[1]

    async def status(self):
        status_url, exit_url = await self._returned()
        return await self.client_in_use.get_status(status_url, status_query_token_in(exit_url))

    async def response(self):
        """A job that waits for its signer."""
        return await self.client_in_use.create(await self.job())

    async def signer_url(self):
        return (await self.response()).single_signer.signer_url

    async def contract(self):
        return self.folder / "contract.pdf"

    async def signed(self):
        return self.folder / "signed.pdf"

    async def event(self):
        return events.OrganizationBlocked(
            organization_number="123456789", duration=timedelta(seconds=30)
        )

    def confirmations(self):
        return sum(counters.calls.get("confirm", 0) for counters in self.sandbox.counters.values())

    async def call(self, function):
        """Call a function until it returns, or until it has confirmed a change."""
        methods = [getattr(self, name) for name in inspect.signature(function).parameters]
        arguments = [await method() for method in methods]
        if not inspect.iscoroutinefunction(function):
            await to_thread.run_sync(function, *arguments)
            return
        for sender in QUEUES:
            await self._signed(sender)
        before = self.confirmations()
        returned = False

        async def run():
            nonlocal returned
            await function(*arguments)
            returned = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await loopback.until(lambda: returned or self.confirmations() > before)
            if not returned:
                tasks.cancel_scope.cancel()


def own_functions(code, names):
    """The functions that a block defines at its top level and that nothing in the block uses."""
    tree = compile(code, "block", "exec", TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [
        names[node.name]
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.decorator_list
        and node.name not in used
    ]


def pinned(environment, sandbox):
    """An environment of the service whose pinned authority and service root are those of a sandbox."""
    own = sandbox.client_configuration().environment
    root = x509.load_pem_x509_certificate(sandbox.ca_pem).public_bytes(Encoding.DER)
    authority = CertificateAuthority(name="Sandbox", sha256=hashlib.sha256(root).hexdigest())
    return dataclasses.replace(
        own, name=environment.name, service_root=sandbox.service_root, authorities=[authority]
    )


def with_password(content, password, new_password):
    """A .p12 file with a different password."""
    key, certificate, others = pkcs12.load_key_and_certificates(content, password.encode())
    encryption = BestAvailableEncryption(new_password.encode())
    return pkcs12.serialize_key_and_certificates(b"", key, certificate, others, encryption)


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A block may configure the log.
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])
    monkeypatch.setattr(logging.getLogger("posten_signering"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("posten_signering"), "level", logging.NOTSET)
    (tmp_path / "contract.pdf").write_bytes((ROOT / "examples" / "lease.pdf").read_bytes())
    async with Sandbox(rate_limit=None, empty_queue_wait=timedelta(milliseconds=1)) as sandbox:
        sandbox.authorize_broker("123456789", "987654321")
        content, password = sandbox.enterprise_pkcs12("123456789")
        (tmp_path / "enterprise.p12").write_bytes(with_password(content, password, "..."))
        (tmp_path / "anchors").mkdir()
        (tmp_path / "anchors" / "root.pem").write_bytes(sandbox.ca_pem)
        for variable, value in {
            "ENVIRONMENT": "Sandbox",
            "SERVICE_ROOT": sandbox.service_root,
            "CERTIFICATE": tmp_path / "enterprise.p12",
            "CERTIFICATE_PASSWORD": "...",
            "TRUST_ANCHORS": tmp_path / "anchors",
            "ORGANIZATION_NUMBER": "123456789",
        }.items():
            monkeypatch.setenv(f"{PREFIX}{variable}", str(value))
        monkeypatch.setattr(Environment, "STAGING", pinned(Environment.STAGING, sandbox))
        async with DirectClient(sandbox.client_configuration()) as client:
            yield Bench(tmp_path, sandbox, client)


HERE = {
    page: [block for block in blocks_of(page) if not block.heading and block.tested_by is None]
    for page in PAGES
}


@pytest.mark.anyio
@pytest.mark.parametrize("page", [page for page in PAGES if HERE[page]], ids=path_of)
async def test_the_blocks_of_a_page_run(page, bench):
    names = {"__name__": "page"}
    for block in HERE[page]:
        code = compile(block.code, f"{block.page}, block {block.number}", "exec", TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result
        for function in own_functions(block.code, names):
            await bench.call(function)


@pytest.mark.anyio
async def test_a_function_of_a_block_that_fails_is_reported(bench):
    async def confirm_a_job_without_a_change(client, response):
        await client.confirm(response)

    with pytest.raises(ExceptionGroup) as raised:
        await bench.call(confirm_a_job_without_a_change)
    assert raised.group_contains(ArgumentTypeError)


def test_every_block_with_a_test_of_its_own_exists_once_and_so_does_its_test():
    all_blocks = [block for page in PAGES for block in blocks_of(page)]
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    for (page, text), test in ELSEWHERE.items():
        assert len([b for b in all_blocks if b.page == page and text in b.code]) == 1, (page, text)
        assert f"def {test}(" in tests
