"""Who may run, stop, mute and edit jobs."""

from __future__ import annotations

from django.http import HttpRequest

from chroniker.models import Job

from .base import BaseAdmin
from .job_kinds import kind_of


class JobPermissionAdmin(BaseAdmin[Job]):
    """The permissions of jobs. Django looks up the ones that actions name as methods."""

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether the user may request runs."""
        return request.user.has_perm("chroniker.run_job")

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Whether the user may stop runs."""
        return request.user.has_perm("chroniker.stop_job")

    def has_raw_permission(self, request: HttpRequest) -> bool:
        """Whether the user may define jobs that run any program."""
        return request.user.has_perm("chroniker.raw_job")

    def has_mute_permission(self, request: HttpRequest) -> bool:
        """Whether the user may create maintenance windows."""
        return request.user.has_perm("chroniker.add_maintenance")

    def has_unmute_permission(self, request: HttpRequest) -> bool:
        """Whether the user may change maintenance windows."""
        return request.user.has_perm("chroniker.change_maintenance")

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """A job with a raw command needs the permission to define raw commands as well."""
        return super().has_change_permission(request, obj) and self.may_edit(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """A job with a raw command needs the permission to define raw commands as well."""
        return super().has_delete_permission(request, obj) and self.may_edit(request, obj)

    def may_edit(self, request: HttpRequest, obj: Job | None) -> bool:
        """Whether the user could have defined ``obj`` here, and so may change and delete it.

        A job with a form of its own, for example a monitor, is edited and deleted only there.
        """
        if obj is None:
            return True
        if kind_of(obj) not in (None, self.model):
            return False
        return not obj.raw_command or self.has_raw_permission(request)
