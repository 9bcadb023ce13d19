"""URLs of a project with a second admin site, which has only jobs, runs and hosts."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from chroniker.admin import HostAdmin, JobAdmin, RunAdmin
from chroniker.models import Host, Job, Run

operations = admin.AdminSite(name="ops")
operations.register(Job, JobAdmin)
operations.register(Run, RunAdmin)
operations.register(Host, HostAdmin)

urlpatterns = [path("admin/", admin.site.urls), path("ops/", operations.urls)]
