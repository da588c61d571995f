"""The HTML pages of the two web apps. Independent of the web framework."""

from html import escape

from contracts import CREATING, DRAFT, OUTCOME_UNKNOWN, Contract

from posten_signering import DirectJobStatus, SignerStatus

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0; font: 1.0625rem/1.5 system-ui, sans-serif; color: #1d2126; background: #f2f3f5; }}
main {{ box-sizing: border-box; max-width: 38rem; min-height: 100vh; margin: auto; padding: 2rem 1.25rem;
  background: #fff; }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }}
ul {{ list-style: none; padding: 0; border-top: 1px solid #d5d9de; }}
li {{ display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; min-height: 3rem; padding: .5rem 0;
  justify-content: space-between; border-bottom: 1px solid #d5d9de; }}
form {{ display: flex; flex-wrap: wrap; gap: .75rem; margin: 0; }}
button {{ font: inherit; font-weight: 600; min-height: 2.75rem; padding: .5rem 1.25rem; cursor: pointer;
  border: 2px solid #0b4f9e; border-radius: .375rem; color: #fff; background: #0b4f9e; }}
button.second {{ color: #0b4f9e; background: #fff; }}
button:hover {{ border-color: #083a75; }}
a {{ color: #0b4f9e; }}
:focus-visible {{ outline: 3px solid #b3560b; outline-offset: 2px; }}
.news {{ padding: .75rem 1rem; border-left: .375rem solid #0b4f9e; background: #eaf1f9; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_CONTRACT_TEXTS = {
    DRAFT: "Nothing has been signed yet.",
    CREATING: "The lease is being sent to the signing service.",
    OUTCOME_UNKNOWN: (
        "We do not know whether the signing service received the lease. Nothing has been signed. "
        "Please try again."
    ),
    DirectJobStatus.IN_PROGRESS: "The lease is ready to be signed.",
    DirectJobStatus.COMPLETED_SUCCESSFULLY: "Everybody has signed.",
    DirectJobStatus.FAILED: "The lease was not signed.",
}
_SIGNER_TEXTS: dict[str | None, str] = {
    SignerStatus.SIGNED: "has signed",
    SignerStatus.REJECTED: "did not want to sign",
    SignerStatus.FAILED: "could not sign, for a technical reason",
    SignerStatus.EXPIRED: "did not sign in time",
    SignerStatus.NOT_APPLICABLE: "does not have to sign any more",
}


def start() -> str:
    """The start page."""
    return _page(
        "Rent a flat",
        '<p>Read <a href="/lease.pdf">the lease</a> first. Who is going to sign it?</p>'
        '<form method="post" action="/contracts"><button>The tenant</button>'
        '<button class="second" formaction="/contracts?with_landlord=true">'
        "The tenant and the landlord</button></form>",
    )


def contract(contract: Contract) -> str:
    """The page of a contract: its state, and a button for each signer who can sign."""
    rows = "".join(
        f"<li><span>The {escape(signer)} {_signer_text(contract, signer)}</span>{_button(contract, signer)}</li>"
        for signer in contract.signers
    )
    news = escape(_CONTRACT_TEXTS.get(contract.state, contract.state))
    body = (
        '<p>Here is <a href="/lease.pdf">the lease</a> (PDF).</p>'
        f'<p class="news" role="status">{news}</p><ul>{rows}</ul>'
    )
    if contract.pades_url is not None:
        body += f'<p><a href="/contracts/{contract.key}/signed.pdf">The signed lease</a> (PDF)</p>'
    return _page("Your lease", body, refresh=contract.state == CREATING)


def problem(text: str) -> str:
    """The page that tells a customer about a problem."""
    return _page(
        "That did not work", f'<p role="alert">{escape(text)}</p><p><a href="/">Start again</a></p>'
    )


def _signer_text(contract: Contract, signer: str) -> str:
    return escape(_SIGNER_TEXTS.get(contract.signer_statuses.get(signer), "has not signed"))


def _button(contract: Contract, signer: str) -> str:
    closed = contract.state in (
        CREATING,
        DirectJobStatus.COMPLETED_SUCCESSFULLY,
        DirectJobStatus.FAILED,
    )
    if closed or contract.signer_statuses.get(signer) in _SIGNER_TEXTS:
        return ""
    # A real app would use the customer who is logged in as the signer.
    return (
        f'<form method="post" action="/contracts/{contract.key}/signers/{escape(signer)}">'
        f"<button>Sign as the {escape(signer)}</button></form>"
    )


def _page(title: str, body: str, *, refresh: bool = False) -> str:
    return _LAYOUT.format(
        title=escape(title),
        body=f"<h1>{escape(title)}</h1>\n{body}",
        refresh='<meta http-equiv="refresh" content="2">\n' if refresh else "",
    )
