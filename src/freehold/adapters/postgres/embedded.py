"""A PostgreSQL of our own: made, started, adopted, watched and stopped in one directory."""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from watchfiles import awatch

from freehold.adapters.postgres import account, binaries, configuration, process, sockets
from freehold.adapters.postgres.configuration import DATABASE, ROLE
from freehold.adapters.postgres.process import PidFile, ServerProcess
from freehold.kernel.errors import PlatformFailed

log = logging.getLogger("freehold.postgres")

_LOG_BYTES_MAX = 10 << 20
_LOG_TAIL_BYTES = 3000
_READY_RECHECK_MS = 500


class EmbeddedPostgres:
    """One server on `directory`, which belongs to it alone.

    As root it runs as `user` (None: the system user `freehold`, made when absent), else as
    ourselves. `binaries_directory` replaces the wheel's programs. `durable=False` trades safety
    against a loss of power for speed: for tests.

    The server outlives us when we are killed; the next `start` on the directory adopts it.
    `start` after `wait` has returned starts it again, under the same DSN.
    """

    def __init__(
        self,
        directory: Path,
        *,
        user: str | None = None,
        binaries_directory: Path | None = None,
        durable: bool = True,
        start_seconds_max: float = 60,
        stop_seconds_max: float = 15,
    ) -> None:
        self._home = directory.absolute()
        self._user = user
        self._binaries_directory = binaries_directory
        self._durable = durable
        self._start_seconds_max = start_seconds_max
        self._stop_seconds_max = stop_seconds_max
        self._server: ServerProcess | None = None
        self._lock: int | None = None
        self._log_from = 0

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.running

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server is not None and self._server.running else None

    async def start(self) -> str:
        """The DSN, once the server answers. Raises PlatformFailed with the log's last lines.

        Does nothing more than that when it runs already, here or left by a killed process. After
        a time-out the server may still be starting (a long recovery): `start` again, or `stop`.
        """
        self._take_directory()
        try:
            return await self._start()
        except BaseException:
            if not self.running:
                self._release_directory()
            raise

    async def wait(self) -> None:
        """Until the server has ended, for whatever reason. Returns at once when none runs."""
        if self._server is not None:
            await self._server.wait()

    async def stop(self) -> None:
        """Disconnects clients, writes a checkpoint and ends; after the time-out, by force."""
        if self._lock is None:
            return  # what runs here, if anything, is not ours
        server = self._server
        if server is not None and server.running:
            steps = (
                (signal.SIGINT, self._stop_seconds_max),
                (signal.SIGQUIT, 5.0),
                (signal.SIGKILL, 5.0),
            )
            for number, seconds in steps:
                server.signal(number)
                if await server.ended_within(seconds):
                    break
                log.warning("PostgreSQL %d did not end in %g s", server.pid, seconds)
        self._server = None
        sockets.discard(self._home)
        self._release_directory()

    def _take_directory(self) -> None:
        """Held while we live, by the kernel: one supervisor for each directory."""
        if self._lock is not None:
            return
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home = self._home.resolve()
        lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise PlatformFailed(
                f"another process looks after the database in {self._home}"
            ) from None
        self._lock = lock

    def _release_directory(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _start(self) -> str:
        data = self._home / "data"
        if self._server is None or not self._server.running:
            self._server = process.adopt(data)
        if self._server is not None:
            log.info("PostgreSQL runs already (process %d)", self._server.pid)
        else:
            self._server = await self._launch(data)
        await self._until_ready(data, self._server)
        return await self._dsn(data)

    async def _launch(self, data: Path) -> ServerProcess:
        runs_as = await asyncio.to_thread(account.of_server, self._user)
        self._open_to(runs_as)
        chosen = await asyncio.to_thread(self._binaries, data, runs_as)
        if not data.exists():
            await asyncio.to_thread(self._initialise, chosen.directory, data, runs_as)
        await self._clear_leftovers(data)
        users = {runs_as.name, account.of_this_process().name}
        configuration.write_atomically(self._home / "pg_hba.conf", configuration.access_rules())
        configuration.write_atomically(
            self._home / "pg_ident.conf", configuration.identity_map(users)
        )
        self._turn_log()
        arguments = configuration.command_line(
            chosen.directory / "postgres",
            data,
            sockets.prepare(self._home, runs_as),
            self._home,
            durable=self._durable,
        )
        return process.start(
            arguments, log=self._log, identity=_identity(runs_as), environment=_environment()
        )

    @property
    def _log(self) -> Path:
        return self._home / "postgres.log"

    def _open_to(self, runs_as: account.Account) -> None:
        """Lets the server's user pass through our directory to what is its own in there."""
        if runs_as.uid == os.geteuid():
            return
        self._home.chmod(0o711)
        closed = account.closed_part(self._home, runs_as)
        if closed is not None:
            raise PlatformFailed(
                f"PostgreSQL cannot run as root, and the user {runs_as.name!r} may not enter "
                f"{closed}: choose a state directory that is open to it, such as "
                "/var/lib/freehold"
            )

    def _binaries(self, data: Path, runs_as: account.Account) -> binaries.Binaries:
        version = data / "PG_VERSION"
        data_major = version.read_text().strip() if version.exists() else None
        chosen = binaries.choose(self._binaries_directory, data_major)
        return binaries.reachable(chosen, runs_as, self._home)

    def _initialise(self, programs: Path, data: Path, runs_as: account.Account) -> None:
        """Under another name until it is whole: a cut-off initdb is simply made anew.

        Each time another: the initdb of a killed supervisor may still be writing to its own.
        """
        for left in self._home.glob("data.part*"):
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix="data.part", dir=self._home))
        os.chown(part, runs_as.uid, runs_as.gid)
        options = ["--no-instructions", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        if not self._durable:
            options.append("--no-sync")
        made = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={part}",
                f"--username={ROLE}",
                "--auth=peer",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self._home,
            env=_environment(),
            **_identity(runs_as),
        )
        if made.returncode != 0:
            raise PlatformFailed(f"initdb failed: {made.stdout.strip()[-_LOG_TAIL_BYTES:]}")
        part.rename(data)

    async def _clear_leftovers(self, data: Path) -> None:
        """No postmaster runs here: so its pid file is stale, whoever has that number now.

        Backends that outlived a killed postmaster hold its shared memory. What they committed is
        in the log already.
        """
        for orphan in process.left_over(data):
            orphan.signal(signal.SIGKILL)
            if not await orphan.ended_within(10):
                raise PlatformFailed(f"PostgreSQL process {orphan.pid} of an earlier run hangs")
        (data / "postmaster.pid").unlink(missing_ok=True)

    def _turn_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.rename(self._log.with_suffix(".log.1"))
        self._log_from = self._log.stat().st_size if self._log.exists() else 0

    async def _until_ready(self, data: Path, server: ServerProcess) -> None:
        """Watches `postmaster.pid` for the word of the server itself; its end ends the wait."""
        waits: tuple[Coroutine[Any, Any, None], ...] = (_says_ready(data), server.wait())
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            await asyncio.wait(
                tasks,
                timeout=self._start_seconds_max,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not server.running:
                raise PlatformFailed(f"PostgreSQL ended while it started: {self._log_tail()}")
            if not tasks[0].done():
                raise PlatformFailed(
                    f"PostgreSQL was not ready in {self._start_seconds_max:g} s: {self._log_tail()}"
                )
            tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _log_tail(self) -> str:
        """The last lines since our own start of the server."""
        if not self._log.exists():
            return "(it has no log)"
        with self._log.open("rb") as file:
            file.seek(max(self._log_from, self._log.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()

    async def _dsn(self, data: Path) -> str:
        """Makes our database where this is the first start."""
        recorded = PidFile.read(data)
        assert recorded is not None, "a ready server has a pid file"
        host = quote(recorded.socket_directory, safe="")
        try:
            async with await psycopg.AsyncConnection.connect(
                f"postgresql://{ROLE}@/postgres?host={host}&connect_timeout=10", autocommit=True
            ) as connection:
                found = await connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
                )
                if await found.fetchone() is None:
                    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    await connection.execute(create)
        except psycopg.Error as error:
            raise PlatformFailed(f"PostgreSQL does not let us in: {error}") from error
        return f"postgresql://{ROLE}@/{DATABASE}?host={host}"


async def _says_ready(data: Path) -> None:
    """The recheck covers a word that came before the watch stood."""
    changes = awatch(
        data,
        recursive=False,
        watch_filter=None,
        debounce=50,
        step=2,
        rust_timeout=_READY_RECHECK_MS,
        yield_on_timeout=True,
    )
    recorded = PidFile.read(data)
    if recorded is not None and recorded.ready:
        return
    async for _ in changes:
        recorded = PidFile.read(data)
        if recorded is not None and recorded.ready:
            return


def _identity(runs_as: account.Account) -> dict[str, Any]:
    if runs_as.uid == os.geteuid():
        return {"umask": 0o077}
    return {"user": runs_as.uid, "group": runs_as.gid, "extra_groups": [], "umask": 0o077}


def _environment() -> dict[str, str]:
    """Nothing of ours: our environment may hold keys, and the server's user could read it."""
    return {"PATH": os.defpath, "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}
