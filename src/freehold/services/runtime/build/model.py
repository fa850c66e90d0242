"""What a build is asked for, what it gives, and its limits."""

from pathlib import Path

import msgspec

from freehold.ports.sandbox import Limits

LOG_TAIL_LINES = 20


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`id` names the log. `runtime` is the API's word, `PYTHON_3_11`.

    `entry_point` as the API has it: `["main.py"]`, or a command and its arguments.
    """

    id: str
    tenant: str
    bucket: str
    key: str
    runtime: str
    entry_point: tuple[str, ...]
    fallback: bool = False


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """Read-only directories that any number of sessions share.

    `code_dir` is the bundle; `layer_dir` goes on `sys.path` behind it, None when the bundle asks
    for nothing. `fallback_from` is the runtime that was asked for, when `interpreter` is another.
    """

    code_dir: Path
    layer_dir: Path | None
    interpreter: str
    fallback_from: str | None
    log_path: Path


class BuildFailed(Exception):
    """The bundle, or what it asks for, cannot be had. For people; no secret in it."""

    def __init__(self, reason: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([reason, *log_tail]))
        self.reason = reason
        self.log_tail = log_tail


class BuildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`sandbox.scratch_bytes_max` holds little: pip works in a directory on disk, bounded by
    `layer_bytes_max` and `layer_entries_max`, for what it unpacks and what stays together.
    """

    zip_bytes_max: int = 250 << 20
    unpacked_bytes_max: int = 750 << 20
    entries_max: int = 50_000
    ratio_max: int = 200
    layer_bytes_max: int = 8 << 30
    layer_entries_max: int = 500_000
    log_bytes_max: int = 4 << 20
    seconds_max: float = 900
    compile_seconds_max: float = 120
    resolved_days_max: float = 7
    sandbox: Limits = Limits(scratch_bytes_max=256 << 20)
