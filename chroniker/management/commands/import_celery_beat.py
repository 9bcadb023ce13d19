"""Take over the periodic tasks of django-celery-beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.timezone import now as utc_now

from chroniker.imports.celery_beat import read_celery_beat
from chroniker.imports.definitions import Import
from chroniker.management.task_import_command import TaskImportCommand


class Command(TaskImportCommand):
    help = (
        "Take over the periodic tasks of django-celery-beat from its tables. A management command "
        "has to replace each task: see --map. Exits with 3 if something could not be taken over."
    )

    def read(self, options: Mapping[str, Any]) -> Import:
        return read_celery_beat(options["database"], self.task_map(options["map"]), utc_now())
