"""Stepflow around Django, in one file; in a project, the last lines stand in asgi.py.

uvicorn --app-dir examples/hosts django_app:application
"""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        ROOT_URLCONF=__name__,
        SECRET_KEY="from your settings",
    )
    django.setup()

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from stepflow import Context, Stepflow, any_of
from stepflow.integrations.django import session_auth

flow = Stepflow()


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


def home(request: HttpRequest) -> HttpResponse:
    # A synchronous view, in a thread of Django's: it blocks until the run has ended.
    return HttpResponse(flow.blocking().trigger(greet, "you").result())


urlpatterns = [path("", home)]

# Members of the staff by their session, with Django's CSRF token for what changes something;
# session_auth(lambda user: …) says otherwise. Programs by API key or JWT.
application = flow.wrap(
    get_asgi_application(), "/api/stepflow", auth=any_of(session_auth(), flow.authenticate)
)
