from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("shop.urls")),
    path("", include("chroniker_monitors.urls")),
    path("admin/", admin.site.urls),
]
