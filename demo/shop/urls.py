from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("publisher/feed.xml", views.publisher_feed, name="publisher-feed"),
]
