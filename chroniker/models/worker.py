"""Workers: processes on any machine that execute the runs of a remote executor."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import models
from django.utils.translation import gettext_lazy as _

from chroniker.conf import conf
from chroniker.db.clock import DatabaseNow, statement_now_plus
from chroniker.db.querysets import PrimaryQuerySet

_KEEP_SECONDS = 86400
"""How long the row of a worker is kept that has not been seen."""


class WorkerQuerySet(PrimaryQuerySet["Worker"]):
    """Workers."""

    def live(self) -> WorkerQuerySet:
        """Seen within the length of a lease, by the database's clock."""
        return self.filter(seen_at__gte=statement_now_plus(-conf.LEASE_SECONDS))

    def record(
        self, name: str, executor: str, queues: Sequence[str], processes: int, version: str
    ) -> None:
        """Record that a worker is alive, which queues it consumes, and how many runs it executes.

        Rows of workers that have not been seen for a day are deleted.
        """
        facts = {
            "executor": executor, "queues": list(queues), "processes": processes,
            "version": version, "seen_at": DatabaseNow(),
        }  # fmt: skip
        if self.filter(name=name).update(**facts):
            return
        self.filter(seen_at__lt=statement_now_plus(-_KEEP_SECONDS)).delete()
        self.bulk_create([Worker(**{**facts, "name": name})], ignore_conflicts=True)


class Worker(models.Model):
    """A worker that has reported, by its unique name. It writes its own row."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    executor = models.CharField(_("executor"), max_length=30)
    queues = models.JSONField(_("queues"), default=list)
    """The names of the queues that it consumes."""
    processes = models.PositiveIntegerField(_("processes"))
    """How many runs it executes at the same time."""
    version = models.CharField(_("version"), max_length=50, blank=True)
    seen_at = models.DateTimeField(_("last seen"))

    objects = WorkerQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("name",)
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.name
