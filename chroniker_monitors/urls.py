"""``path("", include("chroniker_monitors.urls"))`` serves the metrics at ``/metrics``."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "chroniker_monitors"
urlpatterns = [path("metrics", views.metrics, name="metrics")]
