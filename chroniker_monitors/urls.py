"""URLs of metrics, pings and badges: ``path("", include("chroniker_monitors.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import views
from .checking.pings import PingEvent

app_name = "chroniker_monitors"
urlpatterns = [
    path("badge/<uuid:address>.svg", views.badge, {"form": "svg"}, name="badge_svg"),
    path("badge/<uuid:address>.json", views.badge, {"form": "json"}, name="badge_json"),
    path("metrics", views.metrics, name="metrics"),
    path("ping/<uuid:address>/", views.ping, name="ping"),
    path("ping/<uuid:address>/start", views.ping, {"event": PingEvent.START}, name="ping_start"),
    path("ping/<uuid:address>/fail", views.ping, {"event": PingEvent.FAIL}, name="ping_fail"),
    path("ping/<uuid:address>/<int:exit_code>", views.ping, name="ping_exit_code"),
]
