"""Django's ASGI application, wrapped; its users, sessions and CSRF tokens."""

from __future__ import annotations

import json
import os
import sys

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATA"] + ".sqlite"}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
django.setup()
sys.modules.setdefault("django_wrap", sys.modules[__name__])

from django.contrib.auth import login as log_in  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.middleware.csrf import get_token  # noqa: E402
from django.urls import path  # noqa: E402
from hosted import ENDPOINTS, PREFIX, flow  # noqa: E402

from stepflow import any_of  # noqa: E402
from stepflow.integrations.django import session_auth  # noqa: E402

call_command("migrate", verbosity=0)


def own(request):
    return HttpResponse("own")


def login(request):
    name = json.loads(request.body)["user"]
    user, _ = User.objects.get_or_create(username=name, is_staff=name != "guest")
    log_in(request, user)
    answer = HttpResponse(get_token(request))
    # Without CsrfViewMiddleware in MIDDLEWARE its cookie is set here.
    answer.set_cookie(settings.CSRF_COOKIE_NAME, request.META["CSRF_COOKIE"])
    return answer


urlpatterns = [path("own", own), path("login", login)]
app = flow.wrap(
    get_asgi_application(),
    PREFIX,
    auth=any_of(session_auth(), flow.authenticate),
    endpoints=ENDPOINTS,
)
