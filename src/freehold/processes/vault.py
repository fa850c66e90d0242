"""The vault put together: providers and their secrets, tenants' keys, the platform's own key."""

import os
from contextlib import AsyncExitStack

import msgspec

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.adapters.secrets.external import OperatorSecrets, parse_allowed
from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.adapters.secrets.platform import PlatformKeys
from freehold.adapters.secrets.rewrapping import SealedValues
from freehold.adapters.secrets.tenants import TenantKeys
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.ports.audit import Audit
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.web import Web
from freehold.ports.workloads import WorkloadTokens
from freehold.processes.key_services import customer_keys, make_tenant_keys
from freehold.services.vault import api, native
from freehold.services.vault.changing import SecretChanges
from freehold.services.vault.credentials import CredentialService
from freehold.services.vault.keys import VaultKeys
from freehold.services.vault.ports import Discovery
from freehold.services.vault.providers import ProviderService
from freehold.services.vault.secrets import SecretBox
from freehold.settings import Settings, SettingsError, variable

_KEYS_KEPT_SECONDS = 60.0


class Vault(msgspec.Struct, frozen=True, kw_only=True):
    """`tenants` is the `ports.secrets.TenantSealer` that grants are sealed with; `credentials` is
    `ports.credentials.Oauth2Providers`."""

    tenants: TenantKeys
    providers: ProviderService
    credentials: CredentialService
    keys: VaultKeys
    changes: SecretChanges
    jobs: PostgresJobs
    client: KeyServiceClient


def make_vault(
    settings: Settings,
    database: Database,
    resources: Resources,
    own: PlatformKeys,
    *,
    workloads: WorkloadTokens,
    audit: Audit,
    discovery: Discovery,
    web: Web,
) -> Vault:
    """Before `database.start`."""
    client = KeyServiceClient()
    tenants = make_tenant_keys(settings, database, own, client)
    try:
        allowed = parse_allowed(settings.vault_external_secrets, own=settings.account)
    except ValueError as error:
        raise SettingsError(f"{variable('vault_external_secrets')}: {error}") from None
    secrets = SecretBox(database, tenants, OperatorSecrets(allowed))
    jobs = PostgresJobs(database, executor=f"vault-{os.getpid()}")
    customers = customer_keys(settings.vault_customer_keys)
    credentials = CredentialService(
        database=database, resources=resources, secrets=secrets, workloads=workloads, audit=audit,
        discovery=discovery, region=settings.region, kept_seconds=_KEYS_KEPT_SECONDS,
    )  # fmt: skip
    database.listen(RESOURCES_CHANNEL, credentials.heard_change)
    return Vault(
        tenants=tenants,
        providers=ProviderService(
            database=database, resources=resources, secrets=secrets, region=settings.region
        ),
        credentials=credentials,
        keys=VaultKeys(
            database=database, keys=tenants, platform=own, sealed=SealedValues(database),
            jobs=jobs, operator=settings.account,
            may_use=lambda tenant, arn: any((k.tenant, k.arn) == (tenant, arn) for k in customers),
        ),
        changes=SecretChanges(
            database=database, resources=resources, secrets=secrets, jobs=jobs, web=web
        ),
        jobs=jobs,
        client=client,
    )  # fmt: skip


async def open_vault(vault: Vault, stack: AsyncExitStack) -> None:
    """After the database."""
    stack.push_async_callback(vault.client.close)
    await vault.jobs.start()
    stack.push_async_callback(vault.jobs.close)
    await vault.changes.open()
    stack.push_async_callback(vault.changes.close)


def vault_handlers(vault: Vault, settings: Settings) -> dict[str, Handler]:
    return api.handlers(
        vault.providers, vault.credentials, vault.keys, public_url=settings.public_url
    )


def vault_operations(vault: Vault) -> list[Operation]:
    return native.operations(vault.providers, vault.keys, vault.changes)
