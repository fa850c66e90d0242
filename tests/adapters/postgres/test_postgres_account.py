"""Whom the server runs as when the platform is root."""

import logging
import os
from pathlib import Path

import pytest

from freehold.adapters.postgres import account
from freehold.adapters.postgres.account import Account, closed_part, of_server

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def absent_user(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(account, "USER", "freehold-test-absent")
    return "freehold-test-absent"


@only_root
def test_where_no_user_can_be_made_it_is_nobody_and_said(
    absent_user: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    caplog.set_level(logging.WARNING)
    assert of_server(None).name == "nobody"
    assert absent_user in caplog.text


@only_root
def test_an_absent_user_is_asked_for_as_a_system_user_that_cannot_log_in(
    absent_user: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    useradd = tmp_path / "useradd"
    useradd.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {tmp_path}/asked\nexit 1\n')
    useradd.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert of_server(None).name == "nobody"
    asked = (tmp_path / "asked").read_text().split("\n")
    assert asked[-2] == absent_user
    assert {"--system", "--no-create-home"} <= set(asked)
    assert asked[asked.index("--shell") + 1].endswith(("nologin", "false"))


@only_root
def test_a_wished_user_is_taken_as_it_is() -> None:
    assert of_server("daemon").name == "daemon"


STRANGER = Account("stranger", 54321, 54322)


def test_every_part_of_a_path_must_be_open(open_directory: Path) -> None:
    closed = open_directory / "walk" / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    inner.parent.parent.chmod(0o755)
    inner.chmod(0o755)
    closed.chmod(0o700)
    assert closed_part(inner, STRANGER) == closed
    closed.chmod(0o711)
    assert closed_part(inner, STRANGER) is None
    assert closed_part(closed, STRANGER) is None
    assert closed_part(closed, STRANGER, read=True) == closed
    closed.chmod(0o755)
    assert closed_part(closed, STRANGER, read=True) is None


def test_the_owners_bits_count_for_the_owner_alone(open_directory: Path) -> None:
    odd = open_directory / "odd"
    odd.mkdir()
    odd.chmod(0o075)  # closed to its owner, open to all others
    owner = Account("owner", odd.stat().st_uid, 54322)
    assert closed_part(odd, STRANGER, read=True) is None
    if os.geteuid() != owner.uid:
        assert closed_part(odd, owner) == odd
    odd.chmod(0o705)  # closed to the group
    member = Account("member", 54321, odd.stat().st_gid)
    assert closed_part(odd, member) == odd
    odd.chmod(0o755)
