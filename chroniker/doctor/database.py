"""The database: kind, connection, rights, migrations, clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections, router, transaction

from chroniker.db.alias import database, database_alias
from chroniker.db.backoff import describe_error
from chroniker.db.clock import DatabaseNow
from chroniker.health.readiness import compare_migrations
from chroniker.models import JobState

from .findings import Area, Finding, Level
from .registry import Installation, Needs, examination

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

MAX_SKEW_SECONDS = 5
"""Leases follow the database's clock, so a skew does no harm; but logs and pages would lie."""

ORIGINAL_TABLE = "chroniker_log"
"""A table that django-chroniker has, and Chroniker has not."""


@examination(Area.DATABASE)
def examine_connection(installation: Installation) -> Iterator[Finding]:
    """Check that the database answers, and describe it."""
    alias, connection = database_alias(), database()
    try:
        connection.ensure_connection()
    except (DatabaseError, InterfaceError) as error:
        yield Finding(
            Area.DATABASE,
            "database.unreachable",
            Level.ERROR,
            describe_error(error),
            f'Start the database server, or fix DATABASES["{alias}"].',
        )
        return
    yield Finding(Area.DATABASE, "database.kind", Level.OK, _describe(connection, alias))


def _describe(connection: BaseDatabaseWrapper, alias: str) -> str:
    version = ".".join(map(str, connection.get_database_version()))
    name = connection.display_name
    if connection.vendor == "mysql" and getattr(connection, "mysql_is_mariadb", False):
        name = "MariaDB"
    facts = [f"{name} {version}, alias {alias!r}"]
    if connection.settings_dict.get("OPTIONS", {}).get("pool"):
        facts.append("with Django's connection pool")
    if router.db_for_read(JobState) != alias:
        facts.append("reads of the site go elsewhere, those of Chroniker do not")
    return "; ".join(facts) + "."


@examination(Area.DATABASE, Needs.DATABASE)
def examine_pooler(installation: Installation) -> Iterator[Finding]:
    """Find a PgBouncer, behind which server-side cursors break."""
    connection = database()
    if connection.vendor != "postgresql" or not _is_pooled(connection):
        return
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield Finding(
            Area.DATABASE, "database.pooler", Level.OK, "A pooler such as PgBouncer is in front."
        )
        return
    yield Finding(
        Area.DATABASE,
        "database.pooler-cursors",
        Level.WARNING,
        "A pooler such as PgBouncer is in front of the database. In transaction mode, server-side "
        "cursors of the site fail there.",
        f'Set "DISABLE_SERVER_SIDE_CURSORS": True in DATABASES["{database_alias()}"].',
    )


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether the process that the server names is another one than its greeting named."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (actual,) = cursor.fetchone()
    raw = connection.connection
    info = getattr(raw, "info", None)
    greeted = getattr(info, "backend_pid", None)
    return greeted is not None and greeted != actual


@examination(Area.MIGRATIONS, Needs.DATABASE)
def examine_migrations(installation: Installation) -> Iterator[Finding]:
    """Check that the tables are those of this version."""
    missing, unknown = compare_migrations()
    if ORIGINAL_TABLE in database().introspection.table_names():
        yield Finding(
            Area.MIGRATIONS,
            "migrations.original",
            Level.ERROR,
            "The tables are those of django-chroniker, whose app has the same label. `migrate` "
            "believes that they are ours.",
            "Follow docs/how-to/migrate.md: dump the jobs with the old package, remove its "
            "tables, migrate, and import the dump.",
        )
    elif missing:
        names = ", ".join(f"{label}.{name}" for label, name in missing)
        yield Finding(
            Area.MIGRATIONS,
            "migrations.missing",
            Level.ERROR,
            f"Migrations that are not applied: {names}.",
            "Run `python manage.py migrate`.",
        )
    elif unknown:
        names = ", ".join(f"{label}.{name}" for label, name in unknown)
        yield Finding(
            Area.MIGRATIONS,
            "migrations.unknown",
            Level.WARNING,
            f"The database has migrations that this version does not: {names}.",
            "Install the version of Chroniker that the other hosts run.",
        )
    elif differing := _missing_in_schema(database()):
        yield Finding(
            Area.MIGRATIONS,
            "migrations.schema",
            Level.ERROR,
            f"All migrations are recorded as applied, but {_some(differing)} "
            f"{'is' if len(differing) == 1 else 'are'} missing in the database.",
            "Another version of a migration was applied, or a table was changed by hand. Restore "
            "the tables from a backup, or drop them and their rows in django_migrations, and run "
            "`python manage.py migrate`.",
        )
    else:
        yield Finding(Area.MIGRATIONS, "migrations", Level.OK, "All migrations are applied.")


def _missing_in_schema(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the tables and columns that the models have and the database has not."""
    existing = set(connection.introspection.table_names())
    found = []
    for model in _models():
        table = model._meta.db_table
        if table not in existing:
            found.append(table)
            continue
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                described = connection.introspection.get_table_description(cursor, table)
        except DatabaseError:  # a right is missing, which is another finding
            continue
        columns = {column.name for column in described}
        fields = model._meta.local_concrete_fields
        found += [f"{table}.{field.column}" for field in fields if field.column not in columns]
    return found


def _models() -> Iterator[type[Model]]:
    """Yield the models of both apps that have a table."""
    for app in apps.get_app_configs():
        if app.name.startswith("chroniker"):
            for model in app.get_models(include_auto_created=True):
                if model._meta.managed and not model._meta.proxy:
                    yield model


@examination(Area.DATABASE, Needs.TABLES)
def examine_rights(installation: Installation) -> Iterator[Finding]:
    """Check the rights on each table with statements that change no row."""
    refused: dict[str, list[str]] = {}
    reason = ""
    connection = database()
    for model in _models():
        for right, sql in _statements(connection, model).items():
            if problem := _try(connection, sql):
                refused.setdefault(right, []).append(model._meta.db_table)
                reason = problem
    if not refused:
        yield Finding(Area.DATABASE, "database.rights", Level.OK, "All tables can be written.")
        return
    tables = sorted({table for names in refused.values() for table in names})
    read_only = "SELECT" not in refused and len(refused) == 3
    yield Finding(
        Area.DATABASE,
        "database.read-only" if read_only else "database.rights-missing",
        Level.ERROR,
        f"The user of the database may not {', '.join(refused)} on {_some(tables)}: {reason}",
        "Let db_for_write() of the router name the primary, and grant the user all four rights."
        if read_only
        else f"Grant the user {', '.join(refused)} on all tables of chroniker and "
        "chroniker_monitors.",
    )


def _statements(connection: BaseDatabaseWrapper, model: type[Model]) -> dict[str, str]:
    """Return a statement for each right that it needs. The names are those of our models."""
    assert model._meta.pk is not None and model._meta.pk.column is not None
    quote = connection.ops.quote_name
    table, key = quote(model._meta.db_table), quote(model._meta.pk.column)
    nothing = "WHERE 1 = 0"
    return {
        "SELECT": f"SELECT {key} FROM {table} {nothing}",  # noqa: S608
        "INSERT": f"INSERT INTO {table} ({key}) SELECT {key} FROM {table} {nothing}",  # noqa: S608
        "UPDATE": f"UPDATE {table} SET {key} = {key} {nothing}",  # noqa: S608
        "DELETE": f"DELETE FROM {table} {nothing}",  # noqa: S608
    }


def _try(connection: BaseDatabaseWrapper, sql: str) -> str:
    """Execute a statement; return the error, or nothing."""
    try:
        # A savepoint, if a transaction is open: otherwise PostgreSQL would refuse what follows.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(sql)
    except DatabaseError as error:
        return " ".join(str(error).split())
    return ""


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


@examination(Area.CLOCK, Needs.DATABASE)
def examine_clock(installation: Installation) -> Iterator[Finding]:
    """Compare this host's clock with the database's."""
    before = installation.clock()
    skew = (before - read_database_clock()).total_seconds()
    if skew < 0:  # the query may have taken long
        skew = min(0.0, skew + (installation.clock() - before).total_seconds())
    if abs(skew) <= MAX_SKEW_SECONDS:
        yield Finding(
            Area.CLOCK,
            "clock",
            Level.OK,
            f"This host and the database differ by {abs(skew):.1f} s.",
        )
        return
    direction = "ahead of" if skew > 0 else "behind"
    yield Finding(
        Area.CLOCK,
        "clock.skew",
        Level.WARNING,
        f"The clock of this host is {abs(skew):.0f} s {direction} the database's. Jobs follow the "
        "database's clock; logs and pages of this host show other times.",
        "Synchronise the clocks of both (NTP).",
    )


def read_database_clock() -> datetime:
    """Return the time of the database, UTC."""
    connection = connections[database_alias()]
    compiler = JobState.objects.all().query.get_compiler(using=connection.alias)
    sql, params = compiler.compile(DatabaseNow())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", list(params))
        (value,) = cursor.fetchone()
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    moment: datetime = value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
