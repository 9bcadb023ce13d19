"""The types of the fixtures that are functions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.test import Client

from tests.support.processes import ForkedProcess, ProcessResult

RunTick = Callable[..., ProcessResult]
StartTick = Callable[..., ForkedProcess]
RunSentryTick = Callable[..., ProcessResult]
StartSentryTick = Callable[..., ForkedProcess]
RunInFork = Callable[..., ForkedProcess]
RunManage = Callable[..., subprocess.CompletedProcess[str]]
Deploy = Callable[..., RunManage]
StartManage = Callable[..., subprocess.Popen[bytes]]
SignIn = Callable[..., Client]
AssertNumQueries = Callable[[int], AbstractContextManager[Any]]
