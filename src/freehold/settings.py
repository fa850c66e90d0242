"""Every setting of the platform: type, default, meaning. The only reader of FREEHOLD_* variables.

Order: a command-line flag, then the environment, then the default. `markdown()` makes
docs/settings.md; a test keeps that page true.
"""

import difflib
import logging
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MIB = 1 << 20


class SettingsError(ValueError):
    """A setting has a value that cannot be. The message names it and says what can."""


def _setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] = (),
    least: float = 0,
    most: float = math.inf,
    secret: bool = False,
) -> Any:
    """`least` and `most` bound a number."""
    metadata = {
        "meaning": meaning, "choices": choices, "least": least, "most": most, "secret": secret,
    }  # fmt: skip
    return field(default=default, metadata=metadata, repr=not secret)


def default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/freehold")
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "freehold"


@dataclass(frozen=True, kw_only=True)
class Settings:
    state: Path = _setting(
        None,
        "Directory of all that Freehold keeps on this machine. Default: `/var/lib/freehold` "
        "for root, else `~/.local/state/freehold`.",
    )
    host: str = _setting("127.0.0.1", "Address to serve on.")
    port: int = _setting(8400, "Port to serve on; 0 picks a free one.", most=65_535)
    workers: int = _setting(1, "API worker processes.", least=1)
    database_url: str | None = _setting(
        None, "Postgres to use instead of the embedded one (`postgresql://...`).", secret=True
    )
    database_connections_max: int = _setting(
        10, "Connections to Postgres, of each process.", least=1
    )
    database_durable: bool = _setting(
        True, "False lets the embedded Postgres skip fsync: for tests only, a crash may lose data."
    )
    region: str = _setting("us-east-1", "Region that clients sign for and ARNs carry.")
    account: str = _setting("100000000001", "The first tenant: a 12-digit account.")
    log_level: str = _setting(
        "warning",
        "What the platform's own log shows; `info` adds a line for each request.",
        choices=("debug", "info", "warning", "error"),
    )
    calls_in_flight_max: int = _setting(
        1000, "Requests that one API worker serves at once.", least=1
    )
    payload_bytes_max: int = _setting(100_000_000, "Largest body of InvokeAgentRuntime.")
    object_bytes_max: int = _setting(5 << 30, "Largest object that the S3 endpoint takes.")
    drain_seconds_max: float = _setting(
        15.0, "How long a stop waits for requests that are under way."
    )
    key_encryption_key: str | None = _setting(
        None,
        "What seals stored secrets, in place of the key file in the state directory: `1:` and 32 "
        "bytes in base64. Further lines `2:...` are newer keys; the newest seals.",
        secret=True,
    )
    s3_endpoint: str | None = _setting(
        None, "An S3 server to keep blobs in, in place of the state directory."
    )
    s3_bucket: str | None = _setting(None, "The bucket there that Freehold may fill.")

    sandbox_tier: str = _setting(
        "auto",
        "Tier of sessions; `auto` takes the strongest that works here.",
        choices=("auto", "container", "process"),
    )
    allow_process_tier: bool = _setting(
        False, "Permit the `process` tier, which isolates nothing: for development."
    )
    sandbox_uid_base: int = _setting(
        1_879_000_000, "First of the host user ids that sandboxes get when Freehold runs as root."
    )
    session_memory_mib_max: int = _setting(2048, "Memory of one session.", least=1)
    session_cpus_max: float = _setting(2.0, "CPUs of one session.", least=0.01)
    session_processes_max: int = _setting(512, "Processes and threads of one session.", least=1)
    session_open_files_max: int = _setting(4096, "Open files of one process of a session.", least=1)
    session_scratch_mib_max: int = _setting(
        512, "Size of a session's /tmp, and of its home.", least=1
    )
    session_log_bytes_max: int = _setting(8 * MIB, "Log kept of one session; the oldest half goes.")
    session_record_days: int = _setting(30, "How long ended sessions' logs are kept.")
    session_idle_seconds: int = _setting(
        900,
        "Stop a session this long after its last request (a runtime may say otherwise).",
        least=1,
    )
    session_lifetime_seconds: int = _setting(
        28_800,
        "Longest life of a session (a runtime may say otherwise).",
        least=1,
    )
    session_start_seconds_max: float = _setting(60.0, "How long an agent may take to answer /ping.")
    starts_at_once_max: int = _setting(
        0, "Sessions that start at the same time; 0: twice the CPUs."
    )
    starts_queued_max: int = _setting(1000, "Session starts that may wait; more are throttled.")
    sessions_max: int = _setting(2000, "Live sessions on this machine.", least=1)
    invocation_seconds_max: float = _setting(
        900.0, "How long an agent may take to begin its answer."
    )
    stream_seconds_max: float = _setting(3600.0, "How long a streamed answer may go on.")
    metering_seconds: float = _setting(
        5.0, "How often the usage of live sessions is written down.", least=0.1
    )

    build_seconds_max: float = _setting(
        600.0, "How long the installation of requirements may take."
    )
    build_memory_mib_max: int = _setting(4096, "Memory of one build.", least=1)
    build_bundle_mib_max: int = _setting(2048, "Largest unpacked code bundle.", least=1)
    builds_at_once_max: int = _setting(2, "Builds that run at the same time.", least=1)
    build_index_hosts: str = _setting(
        "", "Further hosts, separated by commas, that pip may reach during a build."
    )
    interpreter_fallback: bool = _setting(
        False, "Run an agent on the nearest Python there is when the asked one is not installed."
    )
    node_path: str | None = _setting(None, "A Node.js 22 binary for NODE_22 agents.")

    model: str | None = _setting(
        None,
        "Default model of sessions, `{provider}/{model}`; the provider's own variables "
        "(`OPENAI_API_KEY`, ...) say how it is reached. See docs/models.md.",
    )
    bedrock_region: str | None = _setting(
        None, "Region to reach Amazon Bedrock in with the credentials of this machine."
    )

    price_vcpu_hour: float = _setting(0.0895, "USD for an hour of one CPU, in cost reports.")
    price_gb_hour: float = _setting(0.00945, "USD for an hour of one GB of memory.")

    @property
    def starts_at_once(self) -> int:
        return self.starts_at_once_max or 2 * (os.cpu_count() or 1)


_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _base_type(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        return next(t for t in typing.get_args(annotation) if t is not type(None))
    return annotation


def _read(name: str, kind: Any, text: str) -> Any:
    try:
        if kind is bool:
            return _BOOLEANS[text.strip().lower()]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError(text)
        return value
    except (KeyError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
        raise SettingsError(f"{variable(name)}={text!r}: expected {wanted}") from error


def variable(name: str) -> str:
    return f"FREEHOLD_{name.upper()}"


def load(environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Settings from flags (None: not given) over the environment. Raises SettingsError."""
    environment = os.environ if environment is None else environment
    hints = typing.get_type_hints(Settings)
    values = {name: value for name, value in flags.items() if value is not None}
    known = {variable(f.name): f.name for f in fields(Settings)}
    for key, text in environment.items():
        name = known.get(key)
        if name and name not in values and text != "":
            values[name] = _read(name, _base_type(hints[name]), text)
    values["state"] = Path(values.get("state") or default_state()).expanduser().absolute()
    settings = Settings(**values)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    for f in fields(Settings):
        value, choices = getattr(settings, f.name), f.metadata["choices"]
        if choices and value not in choices:
            raise SettingsError(
                f"{variable(f.name)}={value!r}: expected one of {', '.join(choices)}"
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_bounds(f.name, value, f.metadata["least"], f.metadata["most"])
    if not re.fullmatch(r"[0-9]{12}", settings.account):
        raise SettingsError(f"{variable('account')}: expected 12 digits")
    if settings.sandbox_tier == "process" and not settings.allow_process_tier:
        raise SettingsError(
            "the process tier isolates nothing: say --allow-process-tier to use it all the same"
        )
    if settings.session_idle_seconds > settings.session_lifetime_seconds:
        raise SettingsError(
            f"{variable('session_idle_seconds')}={settings.session_idle_seconds}: must not exceed "
            f"{variable('session_lifetime_seconds')}={settings.session_lifetime_seconds}"
        )
    if (settings.s3_endpoint is None) != (settings.s3_bucket is None):
        raise SettingsError("s3_endpoint and s3_bucket go together")


def _check_bounds(name: str, value: float, least: float, most: float) -> None:
    if value < 0:
        raise SettingsError(f"{variable(name)}={value!r}: must not be negative")
    if value < least:
        raise SettingsError(f"{variable(name)}={value!r}: expected at least {least}")
    if value > most:
        raise SettingsError(f"{variable(name)}={value!r}: expected at most {most}")


_NO_SETTINGS = frozenset(
    {
        "FREEHOLD_ENDPOINT",  # which platform the command line talks to
        "FREEHOLD_DEBUG",  # tracebacks of the command line
        "FREEHOLD_TEST_DATABASE_URL",  # where the tests make their databases
    }
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence about each FREEHOLD_* variable that means nothing: most likely misspelt."""
    known = [variable(f.name) for f in fields(Settings)]
    found = []
    for name in sorted(environment):
        if name.startswith("FREEHOLD_") and name not in _NO_SETTINGS and name not in known:
            rest = name.removeprefix("FREEHOLD_")
            near = difflib.get_close_matches(rest, [k.removeprefix("FREEHOLD_") for k in known], 1)
            hint = f"did you mean FREEHOLD_{near[0]}?" if near else "docs/settings.md has them all."
            found.append(f"{name} is not a setting; {hint}")
    return found


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give another process the same settings."""
    return {
        variable(f.name): str(value).lower() if isinstance(value, bool) else str(value)
        for f in fields(Settings)
        if (value := getattr(settings, f.name)) is not None
    }


def configure_logging(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts changes at INFO


def markdown() -> str:
    """docs/settings.md: one row for each setting."""
    hints = typing.get_type_hints(Settings)
    rows = []
    for f in fields(Settings):
        default = (
            ""
            if f.default is None
            else f"`{str(f.default).lower() if isinstance(f.default, bool) else f.default}`"
        )
        kind = getattr(_base_type(hints[f.name]), "__name__", "text")
        meaning = f.metadata["meaning"]
        if f.metadata["choices"]:
            meaning += " One of " + ", ".join(f"`{c}`" for c in f.metadata["choices"]) + "."
        rows.append(f"| `{variable(f.name)}` | {kind} | {default} | {meaning} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is an environment variable of `freehold up`; the flags of `up` come before them.",
            "",
            "| variable | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201 - this is the generator of the page
