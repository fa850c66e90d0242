"""The embedded server of a user without privileges, under the loop that production runs."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import freehold
from freehold.adapters.postgres.account import Account, closed_part, of_server

PROGRAM = textwrap.dedent("""
    import asyncio, os, signal, sys
    from pathlib import Path
    import psycopg, uvloop
    from freehold.adapters.postgres.embedded import EmbeddedPostgres
    from freehold.adapters.postgres.migrations import migrate
    from freehold.adapters.postgres.pool import PostgresDatabase

    async def main():
        server = EmbeddedPostgres(Path(sys.argv[1]) / "postgres", durable=False)
        dsn = await server.start()
        assert os.stat(f"/proc/{server.pid}").st_uid == os.geteuid()
        database = PostgresDatabase(dsn)
        await database.start()
        lost = asyncio.Event()
        database.listen("c", lambda payload: lost.set() if not payload else None)
        await asyncio.wait_for(lost.wait(), 5)
        lost.clear()
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.wait_for(server.wait(), 5)
        assert await server.start() == dsn
        await asyncio.wait_for(lost.wait(), 10)
        async with database.connection() as connection:
            row = await (await connection.execute("SELECT current_user")).fetchone()
        await database.close()
        await server.stop()
        print(row[0])

    uvloop.run(main())
""")


def open_interpreter(account: Account) -> Path | None:
    """Ours, or where that lies in somebody's home, the system's of the same version."""
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    candidates = [Path(sys.executable)] + ([Path(system)] if system else [])
    return next((path for path in candidates if closed_part(path, account) is None), None)


async def test_a_normal_user_runs_the_server_as_itself() -> None:
    account = of_server("nobody") if os.geteuid() == 0 else of_server(None)
    interpreter = open_interpreter(account)
    if interpreter is None or closed_part(Path(freehold.__file__).parent, account, read=True):
        pytest.skip(f"the interpreter or the code is closed to {account.name}")
    identity = {"user": account.uid, "group": account.gid} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, account.uid, account.gid)
        ran = await asyncio.to_thread(
            subprocess.run,
            [interpreter, "-c", PROGRAM, directory],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(
                    [str(Path(freehold.__file__).parents[1]), *(path for path in sys.path if path)]
                ),
            },
            **identity,
        )
    assert (ran.stdout, ran.returncode) == ("freehold\n", 0), ran.stderr
