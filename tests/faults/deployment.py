"""How the database of an experiment is reached: a pool, a pooler, an alias, a replica."""

from __future__ import annotations

from enum import StrEnum


class Deployment(StrEnum):
    """The kinds of deployment."""

    DIRECT = "direct"
    """Each process has its own connections to the server, or to the file."""
    POOL = "pool"
    """Django's own pool of connections: ``OPTIONS = {"pool": True}``."""
    PGBOUNCER = "pgbouncer"
    """PgBouncer in transaction mode between the hosts and the server; it is killed, too."""
    PGBOUNCER_SESSION = "pgbouncer-session"
    """The same in session mode."""
    ALIAS = "alias"
    """Everything is in another alias than ``default``, which cannot be reached."""
    REPLICA = "replica"
    """A router that reads from a streaming replica, which lags and is crashed, too."""

    @property
    def backends(self) -> tuple[str, ...]:
        """The kinds of database that can be deployed like this."""
        every = self in (Deployment.DIRECT, Deployment.ALIAS)
        return ("postgres", "mariadb", "sqlite") if every else ("postgres",)

    @property
    def pool_mode(self) -> str:
        """The mode of PgBouncer; empty without it."""
        modes = {Deployment.PGBOUNCER: "transaction", Deployment.PGBOUNCER_SESSION: "session"}
        return modes.get(self, "")


REPLICA_LAG_SECONDS = 1.5
"""How long the replica waits before it applies a transaction."""
