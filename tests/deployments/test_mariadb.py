"""MariaDB in strict mode, without time zone tables, and for a role with few rights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.settings import BACKEND
from tests.support.deployments import assert_works
from tests.support.types import Deploy

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BACKEND != "mariadb", reason="for MariaDB"),
    pytest.mark.slow,
]

PAGES = """
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
client = Client()
client.force_login(User.objects.get(is_superuser=True))
urls = ["/metrics"]
for model in site._registry:
    if model._meta.app_label.startswith("chroniker"):
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        urls.append(reverse(f"{name}_changelist"))
        urls += [reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()[:1]]
for url in urls:
    page = client.get(url, REMOTE_ADDR="127.0.0.1")
    assert page.status_code == 200, (url, page.status_code)
print(len(urls))
"""


def test_strict_mode_without_time_zone_tables(deploy: Deploy, tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONVERT_TZ('2026-01-01', 'UTC', 'Europe/Berlin')")
        if cursor.fetchone()[0] is not None:
            pytest.skip("this server has time zone tables")
    User.objects.create_superuser("root")
    manage = deploy("strict")
    assert_works(manage, tmp_path)
    done = manage("shell", "-c", PAGES)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 10


def test_role_that_may_not_create_tables(deploy: Deploy, tmp_path: Path) -> None:
    name = f"plain_{os.getpid()}"
    database = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE USER {name}@'%' IDENTIFIED BY 'plain'")
        cursor.execute(f"CREATE USER {name}@localhost IDENTIFIED BY 'plain'")
        try:
            for host in ("'%'", "localhost"):
                cursor.execute(
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO {name}@{host}"
                )
            assert_works(deploy("plain", database={"USER": name, "PASSWORD": "plain"}), tmp_path)
        finally:
            cursor.execute(f"DROP USER {name}@'%', {name}@localhost")
