"""The vault with its real parts in this process: Postgres, sealing, the AWS edge, boto3."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from edge_ground import REGION, EdgeGround
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets import platform
from freehold.adapters.secrets.external import OperatorSecrets, parse_allowed
from freehold.adapters.secrets.local import LocalKey
from freehold.adapters.secrets.rewrapping import SealedValues
from freehold.adapters.secrets.tenants import TenantKeys
from freehold.ports.oauth import OauthUnavailable
from freehold.ports.secrets import KeyEncryption
from freehold.ports.tokens import TokenRefused
from freehold.ports.web import Unreachable, WebAnswer
from freehold.ports.workloads import Workload
from freehold.services.tags import api as tags_api
from freehold.services.vault import api, native
from freehold.services.vault.changing import SecretChanges
from freehold.services.vault.credentials import CredentialService
from freehold.services.vault.keys import VaultKeys
from freehold.services.vault.providers import ProviderService
from freehold.services.vault.secrets import SecretBox

OPERATOR = "123456789012"
ARN = f"arn:aws:kms:us-east-1:111122223333:key/{'0' * 8}-0000-4000-8000-{'0' * 12}"


class NamedKey:
    """A key somewhere else, by turns there, away and gone. Wraps as the platform's own does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble: Exception | None = None
        self.asked = 0
        keyring = platform.Keyring.fresh()
        self._key = LocalKey(platform.EnvelopeSealer(keyring))

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        self._judge()
        return await self._key.wrap(key, context=context)

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        self._judge()
        return await self._key.unwrap(wrapped, context=context)

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context=context), context=context)

    def _judge(self) -> None:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble


class Tokens:
    """Workload access tokens that say in the clear whom they are of. Other tests have the real."""

    async def issue(self, workload: Workload) -> str:
        return f"wat|{workload.tenant}|{workload.name}|{workload.user or ''}"

    async def read(self, token: str, *, tenant: str) -> Workload:
        parts = token.split("|", 3)
        if len(parts) != 4 or parts[0] != "wat" or parts[1] != tenant:
            raise TokenRefused("not a workload access token of this account")
        return Workload(tenant=parts[1], name=parts[2], user=parts[3] or None)


class Servers:
    """Authorization servers' metadata, and a client's registration (RFC 7592)."""

    def __init__(self) -> None:
        self.metadata: dict[str, Mapping[str, Any]] = {}
        self.answer: Callable[[str, str, Mapping[str, str], bytes | None], WebAnswer] | None = None

    async def discover(self, url: str) -> Mapping[str, Any]:
        if url not in self.metadata:
            raise OauthUnavailable("the server is away", sent=False)
        return self.metadata[url]

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bytes_max: int = 1 << 20,
        seconds_max: float = 10.0,
    ) -> WebAnswer:
        if self.answer is None:
            raise Unreachable("nobody there")
        return self.answer(method, url, headers or {}, body)


class VaultGround(EdgeGround):
    """`second` makes another worker over the same database and key file."""

    def __init__(
        self,
        dsn: str,
        state: Path,
        *,
        external: str = "",
        environment: Mapping[str, str] | None = None,
        grace_seconds: float = 0.2,
        cached_seconds_max: float = 300.0,
    ) -> None:
        database = PostgresDatabase(dsn, pool_size_max=8, application_name="vault test")
        super().__init__(database, state, executor=f"vault-{id(self)}")
        self.dsn = dsn
        self.named = {ARN: NamedKey(ARN)}
        self.servers, self.workloads = Servers(), Tokens()
        self.platform = platform.from_file(state / "keys" / "kek")
        named: Mapping[str, KeyEncryption] = self.named
        self.tenants = TenantKeys(
            self.database, own=LocalKey(self.platform.sealer), named=named.get,
            cached_seconds_max=cached_seconds_max,
        )  # fmt: skip
        allowed = parse_allowed(external, own=OPERATOR)
        secrets = SecretBox(
            self.database, self.tenants, OperatorSecrets(allowed, environment=environment or {})
        )
        self.sealed = SealedValues(self.database)
        self.providers = ProviderService(
            database=self.database, resources=self.resources, secrets=secrets, region=REGION
        )
        self.credentials = CredentialService(
            database=self.database, resources=self.resources, secrets=secrets,
            workloads=self.workloads, audit=self.audit, discovery=self.servers, region=REGION,
        )  # fmt: skip
        self.keys = VaultKeys(
            database=self.database, keys=self.tenants, platform=self.platform, sealed=self.sealed,
            jobs=self.jobs, may_use=lambda tenant, arn: arn in self.named, operator=OPERATOR,
            grace_seconds=grace_seconds,
        )  # fmt: skip
        self.changes = SecretChanges(
            database=self.database, resources=self.resources, secrets=secrets, jobs=self.jobs,
            web=self.servers,
        )  # fmt: skip

    @asynccontextmanager
    async def open(self) -> AsyncIterator["VaultGround"]:
        async with AsyncExitStack() as stack:
            await self.database.start()
            stack.push_async_callback(self.database.close)
            await self.jobs.start()
            stack.push_async_callback(self.jobs.close)
            await self.changes.open()
            stack.push_async_callback(self.changes.close)
            handlers = {
                **api.handlers(self.providers, self.credentials, self.keys),
                **tags_api.handlers(self.resources, {}, changed=lambda _: None),
            }
            operations = native.operations(self.providers, self.keys, self.changes)
            await stack.enter_async_context(
                self.served(handlers, operations, payload_bytes_max=1 << 20)
            )
            yield self

    async def api_key(self, tenant: str, name: str, *, agent: str = "agent") -> str:
        token = await self.workloads.issue(Workload(tenant=tenant, name=agent))
        answer = await self.client(tenant).get_resource_api_key(
            workloadIdentityToken=token, resourceCredentialProviderName=name
        )
        key: str = answer["apiKey"]
        return key

    async def finished(self, rotation_id: str) -> None:
        async with asyncio.timeout(30):
            while True:
                job = await self.jobs.get(rotation_id)
                assert job is not None and job.state != "failed", job
                if job.state == "done":
                    return
                await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Until every job that was enqueued so far has ended well."""
        async with asyncio.timeout(30):
            while True:
                async with self.database.connection() as connection:
                    rows = await (await connection.execute("SELECT id, state FROM jobs")).fetchall()
                assert all(state != "failed" for _, state in rows), rows
                if all(state == "done" for _, state in rows):
                    return
                await asyncio.sleep(0.02)

    async def dump(self) -> str:
        """Every row of every table, and binary values in all the ways they could be read."""
        async with self.database.connection() as connection:
            tables = await (
                await connection.execute(
                    "SELECT table_name FROM information_schema.tables"
                    " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
                )
            ).fetchall()
            parts = []
            for (table,) in tables:
                rows = await connection.execute(f'SELECT * FROM "{table}"'.encode())
                for row in await rows.fetchall():
                    for value in row:
                        parts.append(str(value))
                        if isinstance(value, bytes):
                            parts += [value.hex(), value.decode("latin-1"), _base64(value)]
        return "\n".join(parts)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
