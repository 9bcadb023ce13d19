"""The plan: how the database differs from what is desired, and the changes that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction

from chroniker.db.alias import atomic, database_alias
from chroniker.models import Declaration, Job, JobDependency

from .desired import EDGE_FLAGS, GROUPS, UPSTREAM, Desired, DesiredState
from .documents import Document, Fields, InvalidDocument
from .kinds import error_lines, kinds, values_of
from .windows import Window, current_windows, job_names, save_window


class Action(StrEnum):
    """What happens to a definition."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "keep"
    """A person has edited it, and the edit is kept."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs."""

    name: str
    old: object
    new: object
    edited: bool = False
    """Whether a person has changed it since it was last applied."""
    kept: bool = False
    """Whether it stays as it is."""


@dataclass(frozen=True, slots=True)
class Change:
    """A definition that differs."""

    action: Action
    section: str
    name: str
    source: str = ""
    fields: tuple[FieldChange, ...] = ()


@dataclass(slots=True)
class Plan:
    """All changes. It is empty if the database is as desired."""

    changes: list[Change] = field(default_factory=list)
    unmanaged: list[str] = field(default_factory=list)
    """Jobs and monitors of the database that neither the file nor a declaration has."""

    @property
    def pending(self) -> list[Change]:
        """The changes that are not kept edits."""
        return [change for change in self.changes if change.action is not Action.KEEP]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user has asked for."""

    prune: bool = False
    """Delete what the file does not have."""
    overwrite: bool = False
    """Overwrite what a person has edited."""
    dry_run: bool = False


def apply(state: DesiredState, options: Options, now: datetime) -> Plan:
    """Make the database as desired; return what has changed.

    Everything is validated before anything is kept: the changes are made in one transaction,
    which a mistake or ``dry_run`` rolls back. Raises InvalidDocument with all mistakes.
    """
    state.raise_errors()
    with atomic():
        run = _Application(state, options, now)
        plan = run.apply()
        if run.errors:
            raise InvalidDocument(run.errors)
        if options.dry_run:
            transaction.set_rollback(True, using=database_alias())
    return plan


class _Application:
    """One application of a desired state, within a transaction."""

    def __init__(self, state: DesiredState, options: Options, now: datetime) -> None:
        self._state, self._options, self._now = state, options, now
        self._rows: dict[str, tuple[str, Job, Document]] = {
            name: (kind.key, row, values)
            for kind in kinds()
            for name, (row, values) in kind.rows().items()
        }
        self._applied = {
            row.job_id: row.values for row in Declaration.objects.filter(job__isnull=False)
        }
        self._saved: dict[str, Job] = {}
        self.errors: list[str] = []

    def apply(self) -> Plan:
        plan = Plan()
        changes = [self._apply_entry(entry) for entry in self._state.entries.values()]
        self._prune(plan)
        if not self.errors:
            changed = [e for e in self._state.entries.values() if self._changes_edges(e)]
            for entry in changed:  # all of them first: a turned dependency is no cycle
                edges = self._saved[entry.name].dependencies
                edges.exclude(upstream__name__in=entry.upstream).delete()
            for entry in changed:
                self._save_edges(entry)
        plan.changes = [change for change in changes if change is not None] + plan.changes
        if self._state.windows is not None:
            plan.changes += self._apply_windows(self._state.windows)
        return plan

    def _apply_entry(self, entry: Desired) -> Change | None:
        known = self._rows.get(entry.name)
        if known is None:
            if self._save(entry, entry.values, None):
                self._declare(entry)
            new = tuple(
                FieldChange(name, None, value)
                for name, value in _all_values(entry).items()
                if value != _defaults(entry).get(name)
            )
            return Change(Action.CREATE, entry.kind.key, entry.name, entry.source, new)
        section, row, current = known
        if section != entry.kind.key:
            self.errors.append(f"{entry.path}: exists, but under {section}. Delete it there first.")
            return None
        fields = self._compare(entry, row, current)
        wanted = {change.name: change.new for change in fields if not change.kept}
        values = {name: value for name, value in wanted.items() if name in entry.values}
        if values and not self._save(entry, values, row):
            return None
        self._saved[entry.name] = row
        if GROUPS in wanted:
            self._save_groups(entry, row)
        self._declare(entry)
        if not fields:
            return None
        action = Action.UPDATE if wanted else Action.KEEP
        return Change(action, entry.kind.key, entry.name, entry.source, tuple(fields))

    def _compare(self, entry: Desired, row: Job, current: Document) -> list[FieldChange]:
        before = {**current, GROUPS: _groups(row), UPSTREAM: _edges(row)}
        applied = self._applied.get(row.pk)
        found = []
        for name, new in _all_values(entry).items():
            old = before[name]
            if old == new:
                continue
            edited = applied is not None and applied.get(name) != old
            # Before the first application nobody knows whether a person has edited it.
            kept = entry.keeps_edits and not self._options.overwrite
            kept = kept and (edited or applied is None)
            found.append(FieldChange(name, old, new, edited=edited, kept=kept))
        return found

    def _save(self, entry: Desired, values: Document, row: Job | None) -> bool:
        try:
            with atomic():
                job = entry.kind.save(entry.name, values, row)
        except ValidationError as error:
            self.errors += error_lines(entry.path, error)
            return False
        self._saved[entry.name] = job
        if row is None:
            self._save_groups(entry, job)
        return True

    def _save_groups(self, entry: Desired, job: Job) -> None:
        groups = list(Group.objects.using(database_alias()).filter(name__in=entry.groups))
        for name in set(entry.groups) - {group.name for group in groups}:
            self.errors.append(f"{entry.path}.{GROUPS}: there is no group {name}. Create it first.")
        job.subscriber_groups.set(groups)

    def _changes_edges(self, entry: Desired) -> bool:
        job = self._saved[entry.name]
        current = _edges(job)
        if current == _all_values(entry)[UPSTREAM]:
            return False
        is_new = entry.name not in self._rows
        if is_new or not entry.keeps_edits or self._options.overwrite:
            return True
        return bool(current == self._applied.get(job.pk, {}).get(UPSTREAM))  # else a kept edit

    def _save_edges(self, entry: Desired) -> None:
        job = self._saved[entry.name]
        for name, flags in entry.upstream.items():
            upstream = self._saved.get(name) or Job.objects.filter(name=name).first()
            if upstream is None:
                self.errors.append(f"{entry.path}.{UPSTREAM}: there is no job {name}.")
                continue
            edge = job.dependencies.filter(upstream=upstream).first()
            edge = edge or JobDependency(downstream=job, upstream=upstream)
            for flag, value in flags.items():
                setattr(edge, flag, value)
            try:
                edge.full_clean()
            except ValidationError as error:
                self.errors += error_lines(f"{entry.path}.{UPSTREAM}", error)
            else:
                edge.save()

    def _declare(self, entry: Desired) -> None:
        job = self._saved[entry.name]
        values = _all_values(entry)
        if self._applied.get(job.pk) != values:
            Declaration.objects.update_or_create(
                job=job,
                defaults={"source": entry.source[:255], "values": values, "applied_at": self._now},
            )

    def _prune(self, plan: Plan) -> None:
        for name, (section, row, _) in self._rows.items():
            if name in self._state.entries:
                continue
            if not self._options.prune:
                plan.unmanaged.append(name)
                continue
            if row.states.filter(lease_token__isnull=False).exists():
                self.errors.append(f"{section}.{name}: is running. Stop it, then prune it.")
                continue
            plan.changes.append(Change(Action.DELETE, section, name))
            Job.objects.filter(pk=row.pk).delete()

    def _apply_windows(self, windows: list[Window]) -> list[Change]:
        current = current_windows(self._now)
        changes = []
        for window in windows:
            row = current.pop(window.key, None)
            if row is None and window.ends_at <= self._now:
                continue  # it is over
            fields: tuple[FieldChange, ...] = ()
            if row is not None:
                before = {"pause": row.pause, "jobs": job_names(row)}
                after = {"pause": window.pause, "jobs": window.jobs}
                fields = tuple(
                    FieldChange(name, before[name], new)
                    for name, new in after.items()
                    if before[name] != new
                )
                if not fields:
                    continue
            try:
                save_window(window, row)
            except ValidationError as error:
                self.errors += error_lines(f"maintenance {window.title}", error)
            action = Action.CREATE if row is None else Action.UPDATE
            changes.append(Change(action, "maintenance", window.title, fields=fields))
        for row in current.values() if self._options.prune else ():
            changes.append(Change(Action.DELETE, "maintenance", str(row)))
            row.delete()
        return changes


def edited_fields(declaration: Declaration) -> list[tuple[str, object, object]]:
    """Return the fields that differ from what was applied: name, declared value, value now."""
    job = declaration.job
    current = {**values_of(job), GROUPS: _groups(job), UPSTREAM: _edges(job)}
    return [
        (name, declared, current[name])
        for name, declared in declaration.values.items()
        if name in current and current[name] != declared
    ]


def _all_values(entry: Desired) -> Fields:
    """All values as they are stored with the declaration: plain JSON."""
    edges = {name: dict(flags) for name, flags in sorted(entry.upstream.items())}
    return {**entry.values, GROUPS: list(entry.groups), UPSTREAM: edges}


def _defaults(entry: Desired) -> Fields:
    return {**entry.kind.defaults(), GROUPS: [], UPSTREAM: {}}


def _groups(job: Job) -> list[str]:
    return sorted(job.subscriber_groups.values_list("name", flat=True))


def _edges(job: Job) -> dict[str, dict[str, bool]]:
    rows = job.dependencies.order_by("upstream__name").values("upstream__name", *EDGE_FLAGS)
    return {row.pop("upstream__name"): row for row in rows}
