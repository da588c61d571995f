"""A Django app with a mistake: async views under WSGI, so in a new event loop for each request, share a client."""

import doubles
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from posten_signering import ClientConfiguration, DirectClient
from posten_signering.errors import ClientStateError

client = DirectClient(ClientConfiguration.from_env())


async def enter(_):
    await client.__aenter__()
    return HttpResponse(await client.check_access())


async def create(_):
    try:
        await client.create(doubles.job())
    except ClientStateError as error:
        return HttpResponse(f"ClientStateError: {error}", status=500)
    return HttpResponse("created")


async def create_with_own_client(_):
    async with DirectClient(client.configuration) as own:
        await own.create(doubles.job())
    return HttpResponse("created")


urlpatterns = [
    path("enter", enter),
    path("create", create),
    path("create-with-own-client", create_with_own_client),
]
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], LOGGING_CONFIG=None, MIDDLEWARE=[], ROOT_URLCONF=__name__
)
application = get_wsgi_application()
