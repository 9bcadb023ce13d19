"""PostgreSQL behind PgBouncer, with a streaming replica, in a schema of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from tests.settings import BACKEND
from tests.support import replicas
from tests.support.deployments import assert_works
from tests.support.pgbouncer import run_pgbouncer
from tests.support.types import Deploy, RunManage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BACKEND != "postgres", reason="for PostgreSQL"),
    pytest.mark.slow,
]


def examine(manage: RunManage) -> set[str]:
    """The ids of what the doctor finds."""
    report = json.loads(manage("chroniker_doctor", "--json").stdout)
    return {finding["id"] for finding in report["findings"]}


@pytest.mark.parametrize("kinds", ["pgbouncer", "pgbouncer,pool", "pgbouncer,persistent"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pgbouncer(mode: str, kinds: str, deploy: Deploy, tmp_path: Path) -> None:
    if mode == "session" and kinds != "pgbouncer":
        pytest.skip("the pool and persistent connections make no difference there")
    with run_pgbouncer(mode) as bouncer:
        manage = deploy(kinds, database={"HOST": "127.0.0.1", "PORT": str(bouncer.port)})
        assert_works(manage, tmp_path)
        assert examine(manage) & {"database.pooler", "database.pooler-cursors"}
        # Whoever gets these server connections next finds no setting of Chroniker.
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            assert set(bouncer.server_settings(name)) == {"0"}, name


def test_schema_other_than_public(deploy: Deploy, tmp_path: Path) -> None:
    tables = connection.introspection.table_names()
    sequences = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere")
        try:
            for table in tables:
                cursor.execute(f'ALTER TABLE public."{table}" SET SCHEMA elsewhere')
            cursor.execute(sequences)
            assert not cursor.fetchall()
            cursor.execute("SET search_path = elsewhere")
            assert_works(deploy("schema"), tmp_path)
        finally:
            for table in tables:
                cursor.execute(f'ALTER TABLE elsewhere."{table}" SET SCHEMA public')
            cursor.execute("RESET search_path")
            cursor.execute("DROP SCHEMA elsewhere")


SITE = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.db import connections
from django.utils.timezone import now
from chroniker.models import Job
for number in range(3):
    Job.objects.create(name=f"job {number}", command="noop", schedule="@every 1h",
                       created_at=now() - timedelta(minutes=61))
"""
RESULT = """
from chroniker.models import JobState, Run
print(sorted(Run.objects.values_list("status", flat=True)),
      JobState.objects.filter(lease_token__isnull=False).count(),
      Run.objects.using("replica").count())
"""


def test_streaming_replica_that_lags(deploy: Deploy) -> None:
    """Reads that the router sends to the replica see nothing of the last minutes."""
    with replicas.postgres_pair() as pair:
        at = {
            alias: {
                "HOST": "127.0.0.1", "PORT": connections.settings[alias]["PORT"],
                "NAME": "postgres", "USER": "postgres", "PASSWORD": "",
            }
            for alias in (pair.primary, pair.replica)
        }  # fmt: skip
        manage = deploy("replica", database=at[pair.primary], replica=at[pair.replica])

        def run(*argv: str) -> str:
            done = manage(*argv, timeout=110)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("migrate", "-v0")
        replicas.run(pair.replica, "SELECT pg_wal_replay_pause()")
        run("shell", "-c", SITE)
        assert run("cron") == ""
        assert run("run_job", "job 0", "-q").startswith("job 0: succeeded")
        assert run("shell", "-c", RESULT).split("\n")[-2] == f"{['succeeded'] * 4} 0 0"


def test_role_that_may_not_create_tables(deploy: Deploy, tmp_path: Path) -> None:
    name = f"chroniker_plain_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'plain'")
        try:
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            cursor.execute(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"
            )
            cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
            user: dict[str, Any] = {"USER": name, "PASSWORD": "plain"}
            manage = deploy("plain", database=user)
            assert_works(manage, tmp_path)
            assert "database.rights" in examine(manage)
            cursor.execute(f"REVOKE DELETE ON chroniker_run FROM {name}")
            assert "database.rights-missing" in examine(manage)
        finally:
            cursor.execute(f"DROP OWNED BY {name}")
            cursor.execute(f"DROP ROLE {name}")
