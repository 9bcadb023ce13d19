"""Take over the schedules of django-q2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.timezone import now as utc_now

from chroniker.imports.definitions import Import
from chroniker.imports.django_q import read_django_q
from chroniker.management.task_import_command import TaskImportCommand
from chroniker.models.job import site_timezone


class Command(TaskImportCommand):
    help = (
        "Take over the schedules of django-q2 from its table. A management command has to replace "
        "each function: see --map. Exits with 3 if something could not be taken over."
    )

    def read(self, options: Mapping[str, Any]) -> Import:
        return read_django_q(
            options["database"], self.task_map(options["map"]), utc_now(), site_timezone()
        )
