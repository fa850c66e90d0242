"""What the embedded server is told: who may connect, and settings for a small machine."""

import os
import tempfile
from pathlib import Path

ROLE = "freehold"
DATABASE = "freehold"

SETTINGS = {
    "listen_addresses": "",  # the unix socket is the only way in
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_logical_replication_workers": "0",  # no subscriptions: saves a process
    "jit": "off",  # compiling costs more than our short statements take
    "wal_compression": "on",
    "max_wal_size": "512MB",  # bounds recovery after a crash
    "min_wal_size": "64MB",
    "checkpoint_timeout": "10min",
    "idle_in_transaction_session_timeout": "5min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # A row or a statement in the log could show what a customer stored.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}

# For tests on throw-away data: losing power loses everything. A kill -9 still loses nothing, as
# synchronous_commit stays on: what is committed is at least with the operating system.
SETTINGS_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}


def access_rules() -> str:
    """pg_hba.conf: the kernel says who connects (peer), on the unix socket alone."""
    return (
        f"local all {ROLE} peer map=freehold\n"
        f"local replication {ROLE} peer map=freehold\n"
        "local all all reject\n"
    )


def identity_map(users: set[str]) -> str:
    """pg_ident.conf: the operating-system users that are the platform."""
    return "".join(f'freehold "{user}" {ROLE}\n' for user in sorted(users))


def command_line(
    program: Path, data: Path, socket_directory: Path, home: Path, *, durable: bool
) -> list[str]:
    settings = {
        **SETTINGS,
        **({} if durable else SETTINGS_NOT_DURABLE),
        "unix_socket_directories": f'"{socket_directory}"',
        "hba_file": str(home / "pg_hba.conf"),
        "ident_file": str(home / "pg_ident.conf"),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(program), "-D", str(data), *options]


def write_atomically(path: Path, text: str) -> None:
    """Readable to the server's user: nothing in these files is secret."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
    Path(scratch).rename(path)
