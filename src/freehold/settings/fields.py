"""The fields: type, default, meaning, and what a number may be."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    state: Path = _setting(
        None,
        "Directory of all that Freehold keeps on this machine. Default: `/var/lib/freehold` "
        "for root, else `~/.local/state/freehold`.",
    )
    host: str = _setting("127.0.0.1", "Address to serve on.")
    port: int = _setting(8400, "Port to serve on; 0 picks a free one.", most=65_535)
    tls: bool = _setting(
        False, "Serve https, with a certificate by an authority of this platform's own."
    )
    tls_names: str = _setting(
        "",
        "Further names that the certificate holds for, separated by commas (`agents.example.com`).",
    )
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
    sign_in_issuer: str | None = _setting(
        None,
        "The OpenID provider that people sign in with, exactly as it spells its `issuer`; none: a "
        "local admin with a password. See docs/sign-in.md.",
    )
    sign_in_client_id: str | None = _setting(
        None, "This platform's client id there, with `{public_url}/console/callback` to go back to."
    )
    sign_in_client_secret: str | None = _setting(
        None, "The secret of that client; none for one that only has PKCE.", secret=True
    )
    sign_in_scopes: str = _setting(
        "openid profile email", "What is asked of the provider; add what gives the roles' claim."
    )
    sign_in_roles_claim: str = _setting(
        "groups", "The claim whose values give roles; `a.b` looks for `b` inside `a`."
    )
    sign_in_roles: str = _setting(
        "",
        "Roles by values of that claim: `VALUE=ROLE` or `VALUE=ROLE@ACCOUNT`, separated by commas; "
        "`*` is everybody who can sign in there.",
    )
    sign_in_idle_minutes: int = _setting(
        60, "A console session ends after this long without a request.", least=1
    )
    sign_in_session_hours: int = _setting(12, "A console session ends at the latest.", least=1)
    sign_in_credential_hours: int = _setting(
        12, "How long what `freehold login` gets is good for.", least=1, most=168
    )
    key_encryption_key: str | None = _setting(
        None,
        "What seals stored secrets, in place of the key file in the state directory: `1:` and 32 "
        "bytes in base64. Further lines `2:...` are newer keys; the newest seals.",
        secret=True,
    )
    key_service: str | None = _setting(
        None,
        "What keeps the platform's key, in place of the state directory: `transit:NAME`, a key in "
        "OpenBao or HashiCorp Vault, or the ARN of a key in AWS KMS. See docs/vault.md.",
    )
    transit_url: str | None = _setting(
        None, "Address of OpenBao or HashiCorp Vault, without its path."
    )
    transit_mount: str = _setting("transit", "Where its transit engine is mounted.")
    transit_token_file: str | None = _setting(
        None, "A file with a token for it, read at each call. Else `BAO_TOKEN` or `VAULT_TOKEN`."
    )
    vault_customer_keys: str = _setting(
        "",
        "Keys that tenants may name in SetTokenVaultCMK: `ACCOUNT=ARN`, of a key in AWS KMS, or "
        "`ACCOUNT=ARN=transit:NAME`, of one in OpenBao that is to go by that ARN; separated by "
        "commas.",
    )
    vault_external_secrets: str = _setting(
        "",
        "Secrets of yours that credential providers may refer to (EXTERNAL): `env:NAME` or "
        "`file:/DIRECTORY`, for the platform's own account, or `ACCOUNT=env:NAME` for another; "
        "separated by commas.",
    )
    stdio_servers: str = _setting(
        "",
        "A file of the MCP servers over standard input and output that gateways may have as "
        "targets. See docs/mcp-servers.md.",
    )
    aws_roles: str = _setting(
        "",
        "A file with the keys of AWS's that gateways may sign with, each for one account and role "
        "ARN; nobody signs without. See docs/outbound-credentials.md.",
    )
    aws_lambda_endpoint: str = _setting(
        "",
        "In place of AWS Lambda's own address, for functions that are not this platform's; "
        "`{region}` in it is filled in.",
    )
    function_instances_max: int = _setting(
        8, "Instances of one function that an API worker starts at most, one event each.", least=1
    )
    s3_endpoint: str | None = _setting(
        None, "An S3 server to keep blobs in, in place of the state directory."
    )
    s3_bucket: str | None = _setting(None, "The bucket there that Freehold may fill.")

    sandbox_tier: str = _setting(
        "auto",
        "Tier of sessions whose runtime does not say. `auto`: the one that starts fastest of those "
        "that work here and are not below the minimum. See docs/tiers.md.",
        choices=("auto", "container", "gvisor", "vm", "process"),
    )
    sandbox_tier_min: str = _setting(
        "process",
        "The weakest tier that sessions may have: `process` < `container` < `gvisor` < `vm`.",
        choices=("process", "container", "gvisor", "vm"),
    )
    allow_process_tier: bool = _setting(
        False, "Permit the `process` tier, which isolates nothing: for development."
    )
    vm_emulation: bool = _setting(
        False, "Permit the `vm` tier without hardware KVM: slow, for tests, and never by `auto`."
    )
    template_idle_seconds: float = _setting(
        900.0,
        "What is kept warm of an agent version goes when it had no new session for this long.",
        least=0.1,
    )
    warm_memory_mib_max: int = _setting(
        2048,
        "Memory of all that is kept warm, templates and waiting sandboxes; the least recently used "
        "goes first. 0: nothing is kept warm.",
    )
    freeze_idle_seconds: float = _setting(
        5.0, "Freeze a session this long after its last request, unless it is busy; 0: never."
    )
    sandbox_uid_base: int = _setting(
        1_879_000_000, "First of the host user ids that sandboxes get when Freehold runs as root."
    )
    session_memory_mib_max: int = _setting(2048, "Memory of one session, at most.", least=1)
    session_cpus_max: float = _setting(2.0, "CPUs of one session, at most.", least=0.01)
    session_processes_max: int = _setting(
        512, "Processes and threads of one session, at most.", least=1
    )
    session_open_files_max: int = _setting(
        4096, "Open files of one process of a session, at most.", least=1
    )
    session_scratch_mib_max: int = _setting(
        512, "Size of a session's /tmp, and of its home, at most.", least=1
    )
    session_memory_mib: int = _setting(
        0, "Memory of a session whose runtime does not say; 0: the most. See docs/limits.md."
    )
    session_cpus: float = _setting(0.0, "CPUs of such a session; 0: the most.")
    session_processes: int = _setting(0, "Processes and threads of such a session; 0: the most.")
    session_open_files: int = _setting(0, "Open files of such a session; 0: the most.")
    session_scratch_mib: int = _setting(0, "Disk of such a session; 0: the most.")
    session_egress: str = _setting(
        "none",
        "Network of sessions whose runtime does not say. See docs/network.md.",
        choices=("none", "hosts", "open"),
    )
    session_egress_max: str = _setting(
        "open",
        "The most network that a runtime may ask for.",
        choices=("none", "hosts", "open"),
    )
    egress_private_hosts: str = _setting(
        "",
        "Hosts that sessions may reach although they are on this machine or a private network, "
        "where their runtime allows it: names, `.name` for all below it, addresses or networks, "
        "with or without `:port`, separated by commas.",
    )
    public_url: str = _setting(
        "",
        "Where browsers and other machines reach the platform (`https://agents.example.com`): it "
        "stands in the links that people open and in the callback addresses that providers of "
        "tokens know. Empty: the address that it listens on.",
    )
    outbound_private_hosts: str = _setting(
        "",
        "Hosts, separated by commas (`host`, or `host:port` for one port alone), that the platform "
        "itself may ask although they are on this machine or a private network, and by plain http "
        "too: providers of tokens, and whatever else tenants name.",
    )
    workload_token_seconds: int = _setting(
        900, "How long a workload access token is good.", least=60, most=3600
    )
    signing_key_days: float = _setting(
        30.0,
        "How long a key signs the platform's tokens before the next one does.",
        least=0.05,
        most=3650,
    )
    user_token_issuers: str = _setting(
        "",
        "Whose tokens say who a user is (GetWorkloadAccessTokenForJWT) in every tenant, beside the "
        "authorizers of a tenant's own runtimes: the address of a discovery document, a space and "
        "the audiences that are ours, further ones after a comma.",
    )
    audit_days: int = _setting(
        0, "How long the audit is kept; 0: for good. Its chain stays anchored to what went."
    )
    decision_days: int = _setting(
        90, "How long the decisions of policies are kept, with their sealed inputs; 0: for good."
    )
    memory_topics: str = _setting(
        "",
        "Where topics that self-managed memory strategies name are told: ARN=URL, further ones "
        "after a comma.",
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
    image_credentials: str | None = _setting(
        None,
        "A docker `config.json` whose `auths` log in to registries. Every tenant can run what they "
        "can pull.",
    )
    image_private_registries: str = _setting(
        "",
        "Registries, separated by commas (`host` or `host:port`), that may be on a private network "
        "or this machine.",
    )
    image_insecure_registries: str = _setting(
        "", "As the private ones, and reached by plain http; also where tokens are had so."
    )
    image_layout_directories: str = _setting(
        "",
        "Directories, separated by commas, below which `oci:/directory:tag` may name an image.",
    )
    image_mib_max: int = _setting(8192, "Largest unpacked container image.", least=1)
    node_path: str | None = _setting(None, "A Node.js 22 binary for NODE_22 agents.")

    model: str | None = _setting(
        None,
        "Default model of sessions, `{provider}/{model}`; the provider's own variables "
        "(`OPENAI_API_KEY`, ...) say how it is reached. See docs/models.md.",
    )
    bedrock_region: str | None = _setting(
        None, "Region to reach Amazon Bedrock in with the credentials of this machine."
    )

    embeddings: str = _setting(
        "local",
        "What finds texts by their meaning: `local`, a model on this machine whose weights "
        "`freehold embeddings fetch` gets; an OpenAI-compatible base URL "
        "(`https://api.example.com/v1`); `off` for words alone. See docs/tool-search.md.",
    )
    embeddings_model: str | None = _setting(
        None, "Model to ask the endpoint of `FREEHOLD_EMBEDDINGS` for."
    )
    embeddings_key: str | None = _setting(
        None, "API key of the endpoint of `FREEHOLD_EMBEDDINGS`.", secret=True
    )

    price_vcpu_hour: float = _setting(0.0895, "USD for an hour of one CPU, in cost reports.")
    price_gb_hour: float = _setting(0.00945, "USD for an hour of one GB of memory.")
    model_prices: str | None = _setting(
        None, "A TOML file with prices of models. See docs/observability.md."
    )
    telemetry_days: int = _setting(
        30, "Days that spans, log records and points of metrics are kept.", least=1, most=3650
    )
    telemetry_forward_url: str | None = _setting(
        None,
        "A collector of OpenTelemetry's to send telemetry on to, by OTLP over HTTP: its base URL "
        "(`http://127.0.0.1:4318`). See docs/telemetry-out.md.",
    )
    telemetry_forward_headers: str | None = _setting(
        None, "Headers for it: `NAME=VALUE`, further ones after a comma.", secret=True
    )
    telemetry_forward_headers_file: str | None = _setting(
        None, "A file with such headers, one a line, read at the start."
    )
    telemetry_forward_signals: str = _setting(
        "traces", "What is sent on: `traces`, `logs`, `metrics`, separated by commas."
    )
    telemetry_forward_accounts: str = _setting(
        "", "Whose telemetry is sent on: accounts, separated by commas. Empty: everybody's."
    )
    telemetry_forward_seconds_max: float = _setting(
        10.0, "How long the collector may take for one request.", least=0.1, most=60
    )
    telemetry_forward_hours: float = _setting(
        24.0, "How long telemetry waits for a collector that does not take it.", least=0.1
    )
    telemetry_forward_mib_max: int = _setting(
        1024, "How much of each signal may wait for it, compressed; the oldest goes.", least=1
    )
    metrics_token: str | None = _setting(
        None,
        "Opens `/metrics` for Prometheus, as a bearer token; none: there is no such path.",
        secret=True,
    )
    price_currency: str = _setting("USD", "What prices are in, in cost reports.")
    price_table: str | None = _setting(
        None, "A TOML file with prices of its own for each tier. See docs/costs.md."
    )

    @property
    def starts_at_once(self) -> int:
        return self.starts_at_once_max or 2 * (os.cpu_count() or 1)
