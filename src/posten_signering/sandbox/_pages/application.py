"""What the sandbox shows to a person, over plain HTTP on loopback: the signer's pages, the overview."""

from urllib.parse import urlsplit

from aiohttp import web

from posten_signering.sandbox._api.service import Service
from posten_signering.sandbox._pages.answers import add_headers, told
from posten_signering.sandbox._pages.assets import add_assets_to
from posten_signering.sandbox._pages.overview import add_overview_to
from posten_signering.sandbox._pages.sessions import SignerSessions
from posten_signering.sandbox._pages.signer import SignerPages


def pages_application(service: Service) -> web.Application:
    """What aiohttp serves to browsers.

    Args:
        service: Whose jobs they are, and who does what a signer chooses.
    """
    application = web.Application(middlewares=[told])
    application.on_response_prepare.append(add_headers)
    add_assets_to(application.router)
    SignerPages(
        settings=service.settings,
        state=service.state,
        sessions=SignerSessions(service.settings, service.state),
        act=service.act,
        documents=service.documents.originals,
        cookie=f"posten-signering-{urlsplit(service.links.pages_url).port}",
    ).add_to(application.router)
    add_overview_to(application.router)
    return application
