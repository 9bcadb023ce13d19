from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def show_page(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(name)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("<path:name>", show_page),
    path("", include("chroniker_monitors.urls")),
]
