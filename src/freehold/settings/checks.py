"""What cannot be, and in which words it is refused."""

import re
from dataclasses import fields

from freehold.settings.fields import Settings

TIERS = ("process", "container", "gvisor", "vm")
"""From the weakest to the strongest."""
_TOKEN_CHARACTERS_MIN = 16


class SettingsError(ValueError):
    """A setting has a value that cannot be. The message names it and says what can."""


def variable(name: str) -> str:
    return f"FREEHOLD_{name.upper()}"


def allowed_tiers(settings: Settings, *, process: bool | None = None) -> tuple[str, ...]:
    """Those that sessions may have, the weakest first; whether they work here, probes say."""
    weaker = TIERS.index(settings.sandbox_tier_min)
    process = settings.allow_process_tier if process is None else process
    return tuple(tier for tier in TIERS[weaker:] if tier != "process" or process)


def check(settings: Settings) -> None:
    """Raises SettingsError."""
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
    if settings.sandbox_tier not in ("auto", *allowed_tiers(settings, process=True)):
        raise SettingsError(
            f"{variable('sandbox_tier')}={settings.sandbox_tier}: below "
            f"{variable('sandbox_tier_min')}={settings.sandbox_tier_min}"
        )
    if settings.sandbox_tier == "process" and not settings.allow_process_tier:
        raise SettingsError(
            "the process tier isolates nothing: say --allow-process-tier to use it all the same"
        )
    if settings.session_idle_seconds > settings.session_lifetime_seconds:
        raise SettingsError(
            f"{variable('session_idle_seconds')}={settings.session_idle_seconds}: must not exceed "
            f"{variable('session_lifetime_seconds')}={settings.session_lifetime_seconds}"
        )
    _check_session_bounds(settings)
    _check_outbound_hosts(settings)
    _check_embeddings(settings)
    _check_forwarding(settings)
    if (settings.s3_endpoint is None) != (settings.s3_bucket is None):
        raise SettingsError("s3_endpoint and s3_bucket go together")
    if (settings.sign_in_issuer is None) != (settings.sign_in_client_id is None):
        raise SettingsError("sign_in_issuer and sign_in_client_id go together")


def _check_session_bounds(settings: Settings) -> None:
    """What sessions usually get is not above what they can get."""
    reaches = ("none", "hosts", "open")
    if reaches.index(settings.session_egress) > reaches.index(settings.session_egress_max):
        raise SettingsError(
            f"{variable('session_egress')}={settings.session_egress}: must not exceed "
            f"{variable('session_egress_max')}={settings.session_egress_max}"
        )
    for name in ("memory_mib", "cpus", "processes", "open_files", "scratch_mib"):
        usual, most = (getattr(settings, f"session_{name}{end}") for end in ("", "_max"))
        if usual > most:
            raise SettingsError(
                f"{variable(f'session_{name}')}={usual}: must not exceed "
                f"{variable(f'session_{name}_max')}={most}"
            )


def _check_outbound_hosts(settings: Settings) -> None:
    for host in filter(None, map(str.strip, settings.outbound_private_hosts.split(","))):
        if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?", host):
            raise SettingsError(
                f"{variable('outbound_private_hosts')}: {host!r} is not `host` or `host:port`"
            )


def _check_embeddings(settings: Settings) -> None:
    if settings.embeddings in ("local", "off"):
        return
    if not re.fullmatch(r"https?://[^\s?#]+", settings.embeddings):
        raise SettingsError(
            f"{variable('embeddings')}={settings.embeddings!r}: expected local, off or a base URL"
        )
    if not settings.embeddings_model:
        raise SettingsError(
            f"{variable('embeddings')} names an endpoint: say in {variable('embeddings_model')} "
            "which of its models to ask for"
        )


def _check_forwarding(settings: Settings) -> None:
    url = settings.telemetry_forward_url
    if url is not None and not re.fullmatch(r"https?://[^\s?#@]+", url):
        raise SettingsError(f"{variable('telemetry_forward_url')}: expected a base URL")
    signals = ("traces", "logs", "metrics")
    for signal in settings.telemetry_forward_signals.split(","):
        if signal.strip() not in signals:
            raise SettingsError(
                f"{variable('telemetry_forward_signals')}: expected some of {', '.join(signals)}"
            )
    for account in filter(None, map(str.strip, settings.telemetry_forward_accounts.split(","))):
        if not re.fullmatch(r"[0-9]{12}", account):
            raise SettingsError(
                f"{variable('telemetry_forward_accounts')}: expected accounts of 12 digits"
            )
    if settings.metrics_token is not None and len(settings.metrics_token) < _TOKEN_CHARACTERS_MIN:
        raise SettingsError(
            f"{variable('metrics_token')}: expected {_TOKEN_CHARACTERS_MIN} characters or more"
        )


def _check_bounds(name: str, value: float, least: float, most: float) -> None:
    if value < 0:
        raise SettingsError(f"{variable(name)}={value!r}: must not be negative")
    if value < least:
        raise SettingsError(f"{variable(name)}={value!r}: expected at least {least}")
    if value > most:
        raise SettingsError(f"{variable(name)}={value!r}: expected at most {most}")
