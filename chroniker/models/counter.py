"""Counters that belong to no job."""

from __future__ import annotations

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _


class CounterQuerySet(models.QuerySet["Counter"]):
    """Counters."""

    def add(self, name: str, number: int = 1) -> None:
        """Increase a counter; it is created on first use."""
        if not self.filter(name=name).update(value=F("value") + number):
            self.bulk_create([self.model(name=name)], ignore_conflicts=True)
            self.filter(name=name).update(value=F("value") + number)

    def read(self, name: str) -> int:
        """The value; 0 if nothing was counted."""
        value: int | None = self.filter(name=name).values_list("value", flat=True).first()
        return value or 0


class Counter(models.Model):
    """A counter that never decreases, even if rows are deleted."""

    name = models.CharField(max_length=50, unique=True)
    value = models.PositiveBigIntegerField(default=0)

    objects = CounterQuerySet.as_manager()

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
