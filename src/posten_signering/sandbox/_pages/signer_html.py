"""What the signer's browser shows, as HTML: from values and a language to text. Performs no I/O."""

from collections.abc import Sequence

from posten_signering.sandbox._pages.html import Markup, fill, joined
from posten_signering.sandbox._pages.language import Language
from posten_signering.sandbox._pages.layout import notice_page, page
from posten_signering.sandbox._pages.texts import TEXTS
from posten_signering.sandbox._signed.xades import SignedDocument
from posten_signering.sandbox._state import job as job_rules
from posten_signering.sandbox._state.job import Act, Job, SignerStatus

_ACTS = {
    SignerStatus.SIGNED: Act.SIGN,
    SignerStatus.REJECTED: Act.REJECT,
    SignerStatus.FAILED: Act.FAIL,
}
_NOTHING = Markup("")
_PDF = "application/pdf"


def front_page(language: Language) -> Markup:
    """Where every redirect URL leads: its script takes the token out of the fragment."""
    texts = TEXTS[language]
    return page(
        language,
        title=texts["front_title"],
        body=fill("front", texts),
        head=Markup('<script src="/web/entry.js" defer></script>\n'),
    )


def signing_page(
    language: Language, job: Job, position: int, documents: Sequence[SignedDocument], address: str
) -> Markup:
    """Who asks, for what, the documents, and what the signer can do.

    Args:
        language: Of everything but the sender's own texts.
        job: The job, in progress.
        position: Which signer is looking.
        documents: Those to sign.
        address: The path of this page.
    """
    texts, manifest = TEXTS[language], job.manifest
    message = _NOTHING
    if manifest.description:
        message = fill("signing-message", texts, text=manifest.description)
    body = fill(
        "signing",
        texts,
        sender=grouped(job.sender),
        title=manifest.title,
        message=message,
        items=joined(
            _document_item(language, document, f"{address}/documents/{number}")
            for number, document in enumerate(documents, start=1)
        ),
        facts=_facts(language, job, position),
    )
    return page(language, title=manifest.title, body=body)


def text_page(language: Language, document: SignedDocument, address: str) -> Markup:
    """A document of plain text, set to be read on any width.

    Args:
        language: Of everything but the document.
        document: Text in UTF-8.
        address: The path of the page that the reader came from.
    """
    body = fill(
        "document",
        TEXTS[language],
        title=document.title,
        content=document.content.decode("utf-8-sig"),
        back=address,
    )
    return page(language, title=document.title, body=body)


def finished_page(language: Language, job: Job, position: int, *, leaving: bool) -> Markup:
    """What has come of a signer who can do nothing more, and the way back to the sender.

    Args:
        language: Of the page.
        job: The job.
        position: Which signer is looking.
        leaving: The browser goes to the exit URL by itself, if there is one for this outcome.
    """
    status, texts = job.signers[position].state.status, TEXTS[language]
    more = head = _NOTHING
    if (address := exit_url(job, position)) is not None:
        more = fill(
            "way-out",
            texts,
            leading=texts["leaving"] if leaving else "",
            address=address,
            shown=address.partition("?")[0],
        )
        if leaving:
            # Not a redirect in answer to the form: browsers hold such a one against the page's policy.
            head = fill("refresh", texts, address=address)
    return notice_page(language, status.value, head=head, more=more)


def exit_url(job: Job, position: int) -> str | None:
    """Where a signer who has acted is sent.

    None for one whose job ended before, and for an exit URL that no browser should follow.
    """
    act = _ACTS.get(job.signers[position].state.status)
    if act is None:
        return None
    address = job_rules.exit_url(job, position, act)
    return address if address.startswith(("https://", "http://")) else None


def grouped(organization_number: str) -> str:
    """An organisation number as people write it: 123 456 789, on one line."""
    return "\N{NO-BREAK SPACE}".join(
        organization_number[start : start + 3] for start in range(0, len(organization_number), 3)
    )


def shown_size(size: int, language: Language) -> str:
    """A number of bytes as people write it, to two figures or so."""
    if size < 1000:
        return f"{size}\N{NO-BREAK SPACE}B"
    if size < 1_000_000:
        return f"{round(size / 1000)}\N{NO-BREAK SPACE}kB"
    shown = f"{size / 1_000_000:.1f}\N{NO-BREAK SPACE}MB"
    return shown.replace(".", ",") if language is Language.BOKMAL else shown


def _document_item(language: Language, document: SignedDocument, href: str) -> Markup:
    texts, pdf = TEXTS[language], document.mime == _PDF
    return fill(
        "signing-document",
        texts,
        href=href,
        title=document.title,
        short="PDF" if pdf else "TXT",
        type=texts["kind_pdf" if pdf else "kind_text"],
        size=shown_size(len(document.content), language),
    )


def _facts(language: Language, job: Job, position: int) -> Markup:
    texts, signer = TEXTS[language], job.manifest.signers[position]
    known_by = "number" if signer.personal_identification_number else "sender"
    behalf = "other" if signer.on_behalf_of == "OTHER" else "self"
    facts = {
        "job": str(job.id),
        "signer": f"{position + 1} {texts['signer_of']} {len(job.signers)}",
        "identified_by": texts[f"identified_by_{known_by}"],
        "on_behalf_of": texts[f"on_behalf_of_{behalf}"],
    }
    if signer.signature_type is not None:
        facts["signature_type"] = texts[signer.signature_type]
    if job.manifest.required_authentication is not None:
        facts["authentication"] = job.manifest.required_authentication
    return joined(fill("fact", {}, name=texts[name], value=value) for name, value in facts.items())
