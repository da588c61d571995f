"""The commands that get the status of a job: `status` and `poll`."""

from dataclasses import replace

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    Event,
    PollResult,
    QueuePolled,
    status_query_token_in,
)
from posten_signering._cli.options import DEFAULT_SERVICE, AsJson, ServiceOptions, secret
from posten_signering._cli.output import Output
from posten_signering._cli.responses import (
    poll_text,
    poll_value,
    status_text,
    status_value,
)
from posten_signering._cli.status import ExitStatus


async def status(
    status_url: str | None = None,
    /,
    *,
    token: str | None = None,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Gets the status of a job that is not polled.

    Without --token, the command reads the exit URL or its token from standard input, where no other user of the machine can see it.

    Example: posten-signering status "$STATUS_URL" < exit-url.txt

    Args:
        status_url: The status URL of the job. Without it, the command reads it from standard input, before the token.
        token: The URL to which the service redirected a signer, or its status_query_token. Other users of this machine can see it.
    """
    url = status_url or secret("status URL")
    text = secret("exit URL or token") if token is None else token
    token = status_query_token_in(text) if "=" in text or "://" in text else text
    async with DirectClient(service.configuration()) as client:
        response = await client.get_status(url, token)
    Output(as_json=as_json).result(status_value(response), status_text(response))


async def poll(
    *,
    follow: bool = False,
    confirm: bool = False,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> int:
    """Polls the queue of the sender for a status change.

    The exit status is 3 if the queue is empty. The service delivers a change again after 10 minutes, unless it is confirmed.

    Example: posten-signering poll --follow --json >> changes.jsonl

    Args:
        follow: Poll until Ctrl-C or SIGTERM, and print each change.
        confirm: Confirm each change after it was printed. The service may then remove the documents of a job that has ended: download them first if you need them.
    """
    output = Output(as_json=as_json)
    configuration = service.configuration()
    if follow:
        await _follow(configuration, output, confirm=confirm)  # until a signal or an error ends it
    async with DirectClient(configuration) as client:
        result = await client.get_status_change()
        output.result(poll_value(result), poll_text(result))
        if result.change is None:
            return ExitStatus.NOT_AVAILABLE
        if confirm:
            await client.confirm(result.change)
            output.note("Confirmed.")
    return ExitStatus.SUCCESS


async def _follow(configuration: ClientConfiguration, output: Output, *, confirm: bool) -> None:
    def show(event: Event) -> None:
        if isinstance(event, QueuePolled) and event.result is not PollResult.CHANGE:
            at = (configuration.clock() + event.next_poll_in).astimezone()
            output.note(f"{_RESULTS[event.result]} The next poll is at {at:%H:%M:%S}.")

    configuration = replace(configuration, observers=[*configuration.observers, show])
    async with DirectClient(configuration) as client:
        async for change in client.status_changes():
            output.result({"change": status_value(change)}, status_text(change))
            if confirm:
                await client.confirm(change)
                output.note("Confirmed.")


_RESULTS = {
    PollResult.EMPTY: "The queue is empty.",
    PollResult.TOO_EARLY: "Another process polled the queue.",
    PollResult.FAILURE: "The poll failed.",
}
