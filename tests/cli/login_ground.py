"""Somebody who signs in with the command line and a browser."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli_doubles import Command, Finished

from console_visitor import ConsoleVisitor
from running import RunningPlatform, until

SECONDS_MAX = 60


class Person:
    """Somebody at a machine of their own: no state directory, a browser, and the command."""

    def __init__(self, platform: RunningPlatform, home: Path) -> None:
        self.platform, self.home = platform, home
        self.browser = ConsoleVisitor(platform.endpoint)
        self._opened = home / "opened"
        script = home / "browser"
        script.write_text(f'#!/bin/sh\nprintf %s "$1" > {self._opened}.new\n'
                          f'mv {self._opened}.new {self._opened}\n')  # fmt: skip
        script.chmod(0o755)
        self.command = Command(
            XDG_CONFIG_HOME=str(home / "config"),
            FREEHOLD_STATE=str(home / "no-state"),
            BROWSER=f"{script} %s",
            HOME=str(home),
        )

    @property
    def file(self) -> Path:
        return self.home / "config" / "freehold" / "login.json"

    @property
    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return dict(found["logins"][self.platform.endpoint])

    def url_opened(self) -> str:
        until(self._opened.exists, seconds_max=SECONDS_MAX)
        return self._opened.read_text()

    @contextmanager
    def logging_in(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        with self.command.started("login", "--endpoint", self.platform.endpoint, *words) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()

    def log_in(self) -> Finished:
        with self.logging_in() as process:
            self.browser.answer_device(self.url_opened())
            out, err = process.communicate(timeout=SECONDS_MAX)
        return Finished(process.returncode, out, err)

    def client(self, service: str, **more: Any) -> Any:
        kept = self.kept
        return self.platform.client(
            service,
            **{
                "aws_access_key_id": kept["access_key_id"],
                "aws_secret_access_key": kept["secret_access_key"],
                "aws_session_token": kept["session_token"],
                **more,
            },
        )
