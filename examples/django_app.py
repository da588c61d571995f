"""The web app on Django under gunicorn, a WSGI server: a program without an event loop of its own.

make example-django                                              starts it with a sandbox
gunicorn --config django_gunicorn.py django_app:application      uses the POSTEN_SIGNERING_* variables

The views are plain functions, which call the shop through a portal. An async view would run in a new event
loop for each request, and a client belongs to the loop that entered it. One worker process with threads
serves the app, because `Contracts.open` assumes that no other process creates a job at that time.
"""

import logging
import secrets
from collections.abc import Callable

import shop_pages
from contracts import Contract
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, re_path
from django.views.decorators.http import require_GET, require_POST
from one_per_process import OnePerProcess
from shop import LEASE, NOT_RETURNED_BY_SERVICE, open_shop

from posten_signering import status_query_token_in
from posten_signering.errors import SigningError

PDF = "application/pdf"

logger = logging.getLogger("shop")
logging.basicConfig(level=logging.INFO)

# The first request opens it: after the fork, with `gunicorn --preload` too. django_gunicorn.py closes it.
one_shop = OnePerProcess(open_shop)


@require_GET
def start(_: HttpRequest) -> HttpResponse:
    """The start page."""
    return HttpResponse(shop_pages.start())


@require_GET
def lease(_: HttpRequest) -> FileResponse:
    """The lease to sign."""
    return FileResponse(LEASE.open("rb"), content_type=PDF)


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Adds a draft of a contract and redirects to its page. No job is created yet."""
    signers = ["tenant", "landlord"] if "with_landlord" in request.GET else ["tenant"]
    portal, shop = one_shop.open()
    return see_other(f"/contracts/{portal.call(shop.contracts.add, signers)}")


@require_GET
def show(_: HttpRequest, key: str) -> HttpResponse:
    """The contract's page."""
    return HttpResponse(shop_pages.contract(contract_with(key)))


@require_POST
def sign(_: HttpRequest, key: str, signer: str) -> HttpResponse:
    """Redirects a signer to the service, or to the contract's page if they can't sign."""
    portal, shop = one_shop.open()
    redirect_url = portal.call(shop.redirect_url, contract_with(key).id, signer)
    return see_other(redirect_url or f"/contracts/{key}")


@require_GET
def signer_returns(request: HttpRequest, contract_id: str, outcome: str) -> HttpResponse:
    """The three exit URLs. Redirects to a URL without the token."""
    portal, shop = one_shop.open()
    contract = portal.call(shop.contracts.get, contract_id)
    if contract is None:
        raise Http404
    logger.info("A signer of contract %s returned: %s", contract.id, outcome)
    portal.call(shop.signer_returned, contract, status_query_token_in(request.get_full_path()))
    return see_other(f"/contracts/{contract.key}")


@require_GET
def signed_pdf(_: HttpRequest, key: str) -> HttpResponseBase:
    """The signed lease: our stored copy, or before that the service's."""
    portal, shop = one_shop.open()
    contract = contract_with(key)
    if shop.signed_path(contract).exists():
        return FileResponse(shop.signed_path(contract).open("rb"), content_type=PDF)
    if contract.pades_url is None:
        raise Http404
    return HttpResponse(portal.call(shop.client.get_pades, contract.pades_url), content_type=PDF)


def contract_with(key: str) -> Contract:
    """The contract whose key is in the URL."""
    portal, shop = one_shop.open()
    contract = portal.call(shop.contracts.with_key, key)
    if contract is None:
        raise Http404
    return contract


def see_other(url: str) -> HttpResponse:
    """A redirect that makes the browser fetch the page, whatever the method of the request was."""
    return HttpResponse(status=303, headers={"Location": url})


class OwnResponses:
    """Shows an error page when a call to the service failed, and lets no cache keep a response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Adds the header, because a URL or a redirect may contain a token."""
        response = self._get_response(request)
        response["Cache-Control"] = "no-store"
        return response

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """The error page. None for an error that is not the SDK's."""
        if isinstance(error, NOT_RETURNED_BY_SERVICE):
            text = "This link does not belong to a completed signing."
            return HttpResponse(shop_pages.problem(text), status=400)
        if isinstance(error, SigningError):
            logger.error("A call to the signing service failed", exc_info=error)
            text = "The signing service did not respond. Please reload."
            return HttpResponse(shop_pages.problem(text), status=502)
        return None


urlpatterns = [
    path("", start),
    path("lease.pdf", lease),
    path("contracts", add),
    path("contracts/<key>/signed.pdf", signed_pdf),
    path("contracts/<key>/signers/<signer>", sign),
    re_path(
        r"^contracts/(?P<contract_id>[^/]+)/(?P<outcome>signed|rejected|failed)$", signer_returns
    ),
    path("contracts/<key>", show),
]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[f"{__name__}.OwnResponses"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
)
application = get_wsgi_application()
