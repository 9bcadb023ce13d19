import os

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if "chroniker_monitors" in os.environ["PEERS_APPS"]:
    urlpatterns.append(path("", include("chroniker_monitors.urls")))
