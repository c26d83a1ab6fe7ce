"""Django's hello, for the rows of WSGI in `bench/serving.py`: one file, no database, the usual middleware left out."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="a bench has no secrets", MIDDLEWARE=[])


def hello(request):
    return HttpResponse("Hello, world!")  # pyright: ignore[reportArgumentType]


def pid(request):
    return HttpResponse(str(os.getpid()))  # pyright: ignore[reportArgumentType]


urlpatterns = [path("", hello), path("pid", pid)]
app = get_wsgi_application()
