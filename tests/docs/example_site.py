"""A Django site in which the pages' code blocks are applied and run, in their order."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .blocks import REPO, CodeBlock
from .shell_lines import split_commands

PROJECT = "mysite"
ENVIRONMENT_VALUE = "whsec_" + base64.b64encode(bytes(range(32))).decode()
"""The value of every variable that settings read: a secret that the webhook accepts."""
RUNNER = """\
import importlib, json, sys
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.test import Client

task = json.load(sys.stdin)
if task["check"]:
    call_command("check", fail_level="WARNING", stdout=sys.stderr)
for name in task["modules"]:
    importlib.import_module(name)
namespace = {"__name__": "__main__"}
for where, text in task["blocks"]:
    exec(compile(text, where, "exec"), namespace)
if task["scrape"]:
    token = getattr(settings, "CHRONIKER_METRICS_TOKEN", "")
    client = Client(headers={"host": "localhost", "authorization": f"Bearer {token}"})
    response = client.get("/metrics")
    assert response.status_code == 200, response.status_code
    print(response.content.decode())
"""


class SiteError(Exception):
    """A process of the site failed; the message is what it wrote."""


@dataclass(slots=True)
class ExampleSite:
    """A site in ``directory``, on SQLite, with Django's default settings."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> ExampleSite:
        """What ``django-admin startproject`` writes: nothing of Chroniker is in it."""
        directory.mkdir(exist_ok=True)
        site = cls(directory)
        site._run("-m", "django", "startproject", PROJECT, ".", settings=False)
        return site

    def append_settings(self, text: str) -> None:
        """Add to the settings; environment variables that they read are set when they run."""
        with (self.directory / PROJECT / "settings.py").open("a") as file:
            file.write(f"\n{text}")

    def write(self, name: str, text: str) -> None:
        """Write a file; ``urls.py`` is the project's own, all others belong to apps."""
        path = self.directory / (f"{PROJECT}/{name}" if name == "urls.py" else name)
        for folder in path.relative_to(self.directory).parents[:-1]:
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
            (self.directory / folder / "__init__.py").touch()
        path.write_text(text)

    def apply(self, block: CodeBlock) -> bool:
        """Put a block where its first line says; False if it names no file."""
        if block.file == "settings.py":
            self.append_settings(block.text)
        elif block.file:
            self.write(block.file, block.text)
            if block.file.endswith(".py") and block.file != "urls.py":
                compile(block.text, block.where, "exec")
        return bool(block.file)

    def migrate(self) -> None:
        """Create the tables."""
        self.manage("migrate", "--verbosity=0")

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py``; returns what it wrote. Raises SiteError if it fails."""
        return self._run("manage.py", *arguments)

    def run(
        self,
        blocks: Iterable[CodeBlock] = (),
        *,
        modules: Iterable[str] = (),
        check: bool = False,
        scrape: bool = False,
    ) -> str:
        """Run Django's checks, import modules, run blocks in one namespace; all in one process.

        Returns what was written; with ``scrape``, the page at /metrics is at its end. Raises
        SiteError if anything fails.
        """
        task = {
            "blocks": [(block.where, block.text) for block in blocks],
            "modules": list(modules),
            "check": check,
            "scrape": scrape,
        }
        return self._run("-c", RUNNER, stdin=json.dumps(task))

    def run_shell(self, line: str) -> str:
        """Run the line's calls of ``manage.py``; returns what they wrote."""
        calls = [w[2:] for w in split_commands(line) if w[:2] == ["python", "manage.py"]]
        return "".join(self.manage(*words) for words in calls)

    def environ(self, *, settings: bool = True) -> dict[str, str]:
        """The environment of its processes."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CHRONIKER_", "DJANGO_", "PROMETHEUS_"))
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(self.directory), str(REPO)])
        environment["CHRONIKER_RUNTIME_DIR"] = str(self.directory / "run")
        if settings:
            text = (self.directory / PROJECT / "settings.py").read_text()
            environment["DJANGO_SETTINGS_MODULE"] = f"{PROJECT}.settings"
            for name in re.findall(r'os\.environ\["(\w+)"\]', text):
                environment.setdefault(name, ENVIRONMENT_VALUE)
        return environment

    def _run(self, *arguments: str, stdin: str = "", settings: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environ(settings=settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise SiteError(f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout
