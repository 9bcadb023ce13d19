"""A site whose users have a slug as primary key, neither a number nor a UUID."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import REPO

SETTINGS = """
from tests.settings import *
INSTALLED_APPS = ["people", *INSTALLED_APPS]
AUTH_USER_MODEL = "people.Person"
CHRONIKER_SITE_URL = "https://shop.example.com"
"""
MODELS = """
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    handle = models.SlugField(primary_key=True)
    REQUIRED_FIELDS = ["handle", "email"]
"""
# In a process of its own, because a site cannot change its user model.
SITE = """
import json
from datetime import timedelta
import django
django.setup()
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from django.utils.timezone import now
setup_test_environment()
from chroniker.admin.actions import request_runs
from chroniker.alerting.delivery import deliver
from chroniker.alerting.digests import write_digests
from chroniker.models import Digest, Host, Incident, Job, Maintenance, Notification, Run
from people.models import Person

call_command("migrate", verbosity=0)
ann = Person.objects.create_superuser("ann", "ann@example.com", "secret", handle="ann-of-shop")
client = Client()
client.force_login(ann)
statuses = set()

def get(path):
    response = client.get(f"/admin/chroniker/{path}")
    statuses.add((path, response.status_code))
    return response

def run_actions(model, pk):
    page = get(f"{model}/")
    admin = page.context["cl"].model_admin
    for name in sorted(admin.get_actions(page.wsgi_request)):
        if name.startswith(("delete", "disable")):
            continue
        data = {"action": name, "_selected_action": [str(pk)]}
        response = client.post(f"/admin/chroniker/{model}/", data, follow=True)
        statuses.add((f"{model} {name}", response.status_code))

page = get("job/add/")
form = page.context["adminform"].form
data = {name: form[name].value() for name in form.fields}
data = {name: value for name, value in data.items() if value is not None and value is not False}
data |= {"name": "nightly", "command": "act", "args": "fail boom", "subscribers": [ann.pk]}
for formset in page.context["inline_admin_formsets"]:
    prefix = formset.formset.prefix
    data |= {f"{prefix}-TOTAL_FORMS": 0, f"{prefix}-INITIAL_FORMS": 0}
response = client.post("/admin/chroniker/job/add/", data, follow=True)
assert Job.objects.exists(), response.context["errors"]
job = Job.objects.get()
run_actions("job", job.pk)
Maintenance.objects.all().delete()  # an action has muted the job
request_runs([job], user_id=ann.pk)
call_command("cron")
Digest.objects.create(user=ann, covered_until=now() - timedelta(days=1), next_at=now())
write_digests(now())
incident = Incident.objects.get()
client.post(f"/admin/chroniker/incident/{incident.pk}/acknowledge/", {"note": "mine"})
run_actions("incident", incident.pk)
client.post(f"/admin/chroniker/run/{Run.objects.latest('id').pk}/stop/")
waiting = Notification.objects.get(event="digest")
Notification.objects.filter(pk=waiting.pk).update(next_attempt_at=now() + timedelta(hours=1))
run_actions("notification", waiting.pk)
deliver(now, 20)
start = now()
end = start + timedelta(hours=1)
client.post("/admin/chroniker/maintenance/add/", {
    "reason": "window", "timezone": "UTC", "all_jobs": "on",
    "starts_at_0": start.date(), "starts_at_1": start.strftime("%H:%M"),
    "ends_at_0": end.date(), "ends_at_1": end.strftime("%H:%M"),
    "entries-TOTAL_FORMS": 0, "entries-INITIAL_FORMS": 0,
})
host = Host.objects.create(name="gone")
run_actions("host", host.pk)
for path in ("", f"job/{job.pk}/change/", f"job/{job.pk}/history/", "run/", "maintenance/",
             f"incident/{incident.pk}/change/", "host/"):
    get(path)
for path in ("host", "job", "run", "incident", "notification", "maintenance", "digest"):
    get(f"{path}/?q=ann-of-shop")
incident.refresh_from_db()
print(json.dumps({
    "retired": Host.objects.get(name="gone").retired_at is not None,
    "bad pages": sorted(pair for pair in statuses if pair[1] != 200),
    "subscribers": list(job.subscribers.values_list("pk", flat=True)),
    "run": Run.objects.latest("id").status,
    "acknowledged by": incident.acknowledged_by_id,
    "windows of": list(Maintenance.objects.values_list("created_by", flat=True)),
    "log of": sorted(set(LogEntry.objects.values_list("user_id", flat=True))),
    "log": sorted(set(LogEntry.objects.values_list("content_type__model", flat=True))),
    "notified": sorted(set(
        Notification.objects.filter(sent_at__isnull=False).values_list("event", "recipient")
    )),
}))
"""


@pytest.mark.slow
def test_users_with_a_slug_as_key(tmp_path: Path) -> None:
    package = tmp_path / "people"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(MODELS)
    (tmp_path / "slug_settings.py").write_text(SETTINGS)
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "slug_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}",
        "CHRONIKER_TEST_DB": "sqlite",
        "CHRONIKER_TEST_DB_NAME": str(tmp_path / "site.sqlite3"),
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], env=env, cwd=tmp_path, capture_output=True, text=True,
            timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "django", "makemigrations", "people", "--verbosity=0", "--skip-checks")
    seen = json.loads(run("-c", SITE).splitlines()[-1])
    assert seen == {
        "retired": True,
        "bad pages": [],
        "subscribers": ["ann-of-shop"],
        "run": "failed",
        "acknowledged by": "ann-of-shop",
        "windows of": ["ann-of-shop"],
        "log of": ["ann-of-shop"],
        "log": ["host", "incident", "job", "maintenance", "notification"],
        "notified": [["digest", "ann@example.com"], ["opened", "ann@example.com"]],
    }
