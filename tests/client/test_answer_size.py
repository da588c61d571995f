"""Responses that are too large or cut off: what is read of them, and what they then mean."""

import tracemalloc
from datetime import timedelta

import client_calls
import loopback
import pki
import pytest
from client_calls import URL, URL_OPERATIONS
from doubles import (
    PADES,
    Answer,
    Clock,
    ScriptedTransport,
    Sleep,
    UnlimitedFleet,
    client_of,
    configuration,
    error_xml,
    job,
    poll_headers,
)
from transport_client import server_context

from posten_signering import DirectClient, Environment, Retries, TrustAnchors
from posten_signering.errors import (
    ApiError,
    ConfigurationError,
    CreateOutcomeUnknownError,
    NotAuthorizedError,
    RateLimitedError,
    TooEagerPollingError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
)

pytestmark = pytest.mark.anyio

KIB = 1024
MIB = 1024 * KIB
LIMIT = 128 * KIB
CHUNK = b"x" * 64 * KIB
TOO_LARGE = f"larger than {LIMIT} bytes"

NEED_NO_BODY = {"confirm", "delete_documents"}
DOWNLOADS = {name for name in URL_OPERATIONS if name.endswith("ades")}
# `status_changes` is left out: it polls again after these responses.
OTHERS = set(client_calls.OPERATIONS) - {"create", "status_changes"}
IN_MEMORY = ["get_pades", "get_xades"]
TO_FILE_OR_STREAM = sorted(DOWNLOADS - set(IN_MEMORY))


def huge(status: int, **headers: str) -> Answer:
    """A response of 256 MiB. Its chunks are one object, so they need no memory here."""
    return Answer(status, [CHUNK] * 4096, headers)


def announced(status: int) -> Answer:
    return Answer(status, [b"a"], {"content-length": str(LIMIT + 1)})


def document(size: int) -> bytes:
    """A document of that many bytes that the client accepts as a PAdES and as a XAdES."""
    start, end = b"<x a='%PDF-1.7'>", b"</x><!-- %%EOF -->"
    return start + b"x" * (size - len(start) - len(end)) + end


class TestTooLarge:
    async def test_the_largest_answer_is_read_and_a_larger_one_is_refused(self):
        answers = Answer(200, [b"x" * LIMIT]), Answer(200, [b"x" * LIMIT, b"x"])
        async with client_of(*answers) as (client, _):
            assert await client.check_access() == "x" * LIMIT
            with pytest.raises(UnexpectedResponseError, match=TOO_LARGE):
                await client.check_access()

    @pytest.mark.parametrize("answer", [huge, announced])
    @pytest.mark.parametrize("name", sorted(OTHERS - NEED_NO_BODY - DOWNLOADS))
    async def test_a_success_that_is_needed_is_refused(self, name, answer, tmp_path):
        async with client_of(answer(200), retries=Retries()) as (client, transport):
            with pytest.raises(UnexpectedResponseError, match=TOO_LARGE):
                await client_calls.all_calls(tmp_path)[name](client)
        assert len(transport.sent) == 1
        assert (transport.open, sum(transport.chunk_sizes) <= LIMIT + len(CHUNK)) == (0, True)

    @pytest.mark.parametrize("name", sorted(NEED_NO_BODY))
    async def test_a_success_that_is_not_needed_is_a_success(self, name, tmp_path):
        async with client_of(huge(200)) as (client, _):
            assert await client_calls.all_calls(tmp_path)[name](client) is None

    @pytest.mark.parametrize("status", [302, 403, 500])
    @pytest.mark.parametrize("name", sorted(OTHERS))
    async def test_a_refusal_keeps_its_status(self, name, status, tmp_path):
        async with client_of(huge(status)) as (client, transport):
            with pytest.raises(
                ApiError, match="redirect" if status == 302 else TOO_LARGE
            ) as caught:
                await client_calls.all_calls(tmp_path / "signed")[name](client)
        assert (caught.value.status, caught.value.answer) == (status, None)
        assert sum(transport.chunk_sizes) <= LIMIT + len(CHUNK)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, ApiError),
            (413, ApiError),
            (201, CreateOutcomeUnknownError),
            (500, CreateOutcomeUnknownError),
        ],
    )
    @pytest.mark.parametrize("answer", [huge, announced])
    async def test_a_create_is_refused_only_by_a_4xx(self, status, kind, answer):
        async with client_of(answer(status), retries=Retries()) as (client, transport):
            with pytest.raises(kind) as caught:
                await client.create(job())
        assert type(caught.value) is kind
        assert len(transport.sent) == 1
        assert TOO_LARGE in f"{caught.value}{caught.value.__cause__}"

    async def test_an_announced_size_is_refused_without_reading(self):
        async with client_of(announced(200)) as (client, transport):
            with pytest.raises(UnexpectedResponseError, match=TOO_LARGE):
                await client.check_access()
        assert transport.chunk_sizes == []

    @pytest.mark.parametrize("length", ["", "many", "-1", "1" * 5000])
    async def test_a_length_that_is_no_size_is_ignored(self, length):
        headers = {"content-length": length}
        async with client_of(Answer(200, b"a", headers), Answer(200, PADES, headers)) as (
            client,
            _,
        ):
            assert await client.check_access() == "a"
            async with client.open_pades(URL) as stream:
                assert stream.content_length is None

    async def test_the_memory_is_bounded(self):
        async with client_of(huge(200), huge(403)) as (client, _):
            tracemalloc.start()
            try:
                for kind in UnexpectedResponseError, ApiError:
                    with pytest.raises(kind):
                        await client.check_access()
                assert tracemalloc.get_traced_memory()[1] < 16 * MIB
            finally:
                tracemalloc.stop()

    async def test_the_connection_is_dropped_and_the_next_call_gets_a_new_one(self):
        answers = [loopback.answer(200, b"x" * 8 * MIB), loopback.answer(200, b"access")]

        async def handler(_):
            return answers.pop(0)

        async with (
            loopback.http_server(handler, server_context()) as server,
            over(server) as client,
        ):
            with pytest.raises(UnexpectedResponseError, match=TOO_LARGE):
                await client.check_access()
            assert await client.check_access() == "access"
        assert server.connections == 2


class TestDocumentsInMemory:
    @pytest.mark.parametrize("known", [True, False], ids=["with length", "without length"])
    @pytest.mark.parametrize("name", IN_MEMORY)
    async def test_a_document_is_in_memory_once(self, name, known):
        """The second copy of a download to memory would be as large as the document."""
        content = document(4 * MIB)
        headers = {"content-length" if known else "transfer-encoding": str(len(content))}
        chunks = [content[start : start + 16 * KIB] for start in range(0, len(content), 16 * KIB)]
        async with client_of(Answer(200, chunks, headers)) as (client, _):
            tracemalloc.start()
            try:
                assert await getattr(client, name)(URL) == content
                assert 4 * MIB < tracemalloc.get_traced_memory()[1] < 5 * MIB
            finally:
                tracemalloc.stop()

    @pytest.mark.parametrize("difference", [-1000, 1000])
    async def test_a_wrong_length_does_not_change_the_document(self, difference):
        content = document(100_000)
        headers = {"content-length": str(len(content) + difference)}
        async with client_of(Answer(200, [content], headers)) as (client, _):
            assert await client.get_pades(URL) == content

    @pytest.mark.parametrize("name", IN_MEMORY)
    async def test_the_largest_document_is_read(self, name):
        async with client_of(Answer(200, document(100)), max_bytes_in_memory=100) as (client, _):
            assert await getattr(client, name)(URL) == document(100)

    @pytest.mark.parametrize("headers", [{}, {"content-length": "101"}])
    @pytest.mark.parametrize("name", IN_MEMORY)
    async def test_a_larger_one_is_refused_with_advice(self, name, headers):
        answer = Answer(200, document(101), headers)
        async with client_of(answer, max_bytes_in_memory=100, retries=Retries()) as (
            client,
            transport,
        ):
            with pytest.raises(UnexpectedResponseError, match="larger than 100 bytes") as caught:
                await getattr(client, name)(URL)
        for advice in "download_pades", "open_xades", "ClientConfiguration.max_bytes_in_memory":
            assert advice in str(caught.value)
        assert (len(transport.sent), transport.open) == (1, 0)

    @pytest.mark.parametrize("name", TO_FILE_OR_STREAM)
    async def test_files_and_streams_have_no_limit(self, name, tmp_path):
        content = document(LIMIT * 2)
        answer = Answer(200, content, {"content-length": str(len(content))})
        async with client_of(answer, max_bytes_in_memory=1) as (client, _):
            result = await client_calls.all_calls(tmp_path / "signed")[name](client)
        assert result in (content, len(content))

    @pytest.mark.parametrize("name", IN_MEMORY)
    async def test_the_limit_does_not_apply_to_refusals(self, name):
        answer = Answer(403, error_xml("NOT_AUTHORIZED"))
        async with client_of(answer, max_bytes_in_memory=1) as (client, _):
            with pytest.raises(NotAuthorizedError):
                await getattr(client, name)(URL)

    @pytest.mark.parametrize("size", [0, -1])
    def test_the_limit_is_at_least_one_byte(self, size):
        with pytest.raises(ConfigurationError, match=f"max_bytes_in_memory .* not {size}"):
            configuration(ScriptedTransport(), max_bytes_in_memory=size)

    def test_the_default_is_64_mib(self):
        assert configuration(ScriptedTransport()).max_bytes_in_memory == 64 * MIB


CUTS = [
    TransportError("The response was cut off.", request_may_have_left=True),
    TransportTimeoutError("The response stopped.", request_may_have_left=True),
    RuntimeError("canary"),
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: type(cut).__name__)
class TestCutOff:
    """A transport of the user's own may also raise other exceptions."""

    @pytest.mark.parametrize("status", [302, 400, 403, 500])
    @pytest.mark.parametrize("name", sorted(OTHERS))
    async def test_a_refusal_keeps_its_status(self, name, status, cut, tmp_path):
        answer = Answer(status, [b"<error"], broken_by=cut)
        async with client_of(answer) as (client, _):
            with pytest.raises(ApiError) as caught:
                await client_calls.all_calls(tmp_path / "signed")[name](client)
        assert (caught.value.status, caught.value.answer) == (status, None)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "kind"), [(400, ApiError), (500, CreateOutcomeUnknownError)]
    )
    async def test_a_create_is_refused_only_by_a_4xx(self, status, kind, cut):
        async with client_of(Answer(status, [b"<error"], broken_by=cut)) as (client, _):
            with pytest.raises(kind) as caught:
                await client.create(job())
        assert type(caught.value) is kind

    async def test_the_reason_is_in_the_message(self, cut):
        async with client_of(Answer(400, broken_by=cut)) as (client, _):
            with pytest.raises(ApiError) as caught:
                await client.check_access()
        described = {
            TransportError: "(the response was cut off).",
            TransportTimeoutError: "(the response stopped).",
            RuntimeError: "(reading it failed with RuntimeError).",
        }
        assert str(caught.value).endswith(described[type(cut)])

    async def test_a_429_starts_the_block(self, cut):
        limiter = UnlimitedFleet()
        answer = Answer(429, headers={"dosfilter": "delayed"}, broken_by=cut)
        async with client_of(answer, fleet=limiter) as (client, _):
            with pytest.raises(RateLimitedError):
                await client.check_access()
        assert limiter.blocks == [(pki.SENDER, 30.0)]

    async def test_the_next_permitted_poll_time_is_read(self, cut):
        headers = poll_headers(pki.NOW, timedelta(seconds=70))
        async with client_of(Answer(429, headers=headers, broken_by=cut)) as (client, _):
            with pytest.raises(TooEagerPollingError) as caught:
                await client.get_status_change()
        assert caught.value.wait == timedelta(seconds=70)

    async def test_a_503_is_retried_after_its_retry_after(self, cut):
        clock = Clock()
        sleep = Sleep(clock)
        answers = Answer(503, headers={"retry-after": "7"}, broken_by=cut), Answer(200, b"access")
        async with client_of(*answers, clock=clock, sleep=sleep, retries=Retries()) as (client, _):
            assert await client.check_access() == "access"
        assert sleep.slept == [7.0]

    async def test_a_success_is_not_one(self, cut):
        """More than the body of a success may be missing."""
        async with client_of(Answer(200, broken_by=cut)) as (client, _):
            with pytest.raises(type(cut)) as caught:
                await client.confirm(URL)
        assert caught.value is cut


def over(server: loopback.Server) -> DirectClient:
    """A client with the package's own transport."""
    environment = Environment(name="Test", service_root=server.url("/api"))
    anchors = TrustAnchors().trusting(pki.root().pem)
    return DirectClient(configuration(None, environment=environment, trust_anchors=anchors))


@pytest.mark.parametrize(("status", "kind"), [(400, ApiError), (201, CreateOutcomeUnknownError)])
async def test_a_create_whose_response_is_cut_off_over_tls(status, kind):
    cut = loopback.answer(status, b"x" * 100, Connection="close")[:-50]
    async with (
        loopback.http_server(loopback.always(cut), server_context()) as server,
        over(server) as client,
    ):
        with pytest.raises(kind, match="cut off") as caught:
            await client.create(job())
    assert type(caught.value) is kind
