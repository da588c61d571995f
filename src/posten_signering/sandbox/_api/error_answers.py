"""Answers that say no: those of the service, and those that a fault puts in place of an answer."""

from http import HTTPStatus

from aiohttp import web

from posten_signering.sandbox._api.answers import error_document
from posten_signering.sandbox._api.faults import Fault, FaultKind

_PAGE = """<!DOCTYPE html>
<html><head><title>{status} {phrase}</title></head>
<body><h1>{status} {phrase}</h1><hr><p>posten-signering-sandbox: a fault</p></body></html>
"""


def xml_answer(content: bytes, status: int = 200) -> web.Response:
    """An answer with a message."""
    return web.Response(status=status, body=content, content_type="application/xml")


def error_answer(
    status: int, code: str, message: str, *, error_type: str = "CLIENT"
) -> web.Response:
    """An answer with an error document."""
    return xml_answer(error_document(code, message, error_type), status)


def replacement(fault: Fault) -> web.Response:
    """The answer that a fault puts in place of the service's."""
    if fault.kind is FaultKind.ERROR_DOCUMENT:
        error_type = "SERVER" if fault.http_status >= 500 else "CLIENT"
        return error_answer(
            fault.http_status, fault.code or "", "A fault of the sandbox.", error_type=error_type
        )
    status = 503 if fault.kind is FaultKind.UNAVAILABLE else fault.http_status
    page = _PAGE.format(status=status, phrase=_phrase(status))
    answer = web.Response(status=status, text=page, content_type="text/html")
    if fault.kind is FaultKind.UNAVAILABLE:
        seconds = 1 if fault.seconds is None else fault.seconds
        # The header takes whole seconds (RFC 9110, section 10.2.3).
        answer.headers["Retry-After"] = str(round(seconds))
    return answer


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
