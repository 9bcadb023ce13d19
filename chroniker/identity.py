"""Which site this is: several sites of one user may share a host and its directory of locks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.apps import apps
from django.db import connections, router

_OPTIONS = (
    "service", "host", "port", "dbname", "db", "database", "unix_socket", "read_default_file",
    "options",
)  # fmt: skip
"""Options of connections that lead to another database or, by ``search_path``, schema."""


def site_identity() -> str:
    """Return a short name of the site's database, for names of files: the same on each start."""
    config = connections.settings[router.db_for_write(apps.get_model("chroniker", "Job"))]
    engine = config["ENGINE"].rpartition(".")[2]
    name = str(config["NAME"])
    if engine in ("sqlite3", "spatialite"):
        name = str(Path(name).resolve())
    options = config.get("OPTIONS") or {}
    facts = (
        engine,
        str(config.get("HOST") or ""),
        str(config.get("PORT") or ""),
        name,
        *(f"{key}={options[key]}" for key in _OPTIONS if key in options),
    )
    text = "\0".join(facts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:12]
