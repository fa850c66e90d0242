"""Keys around the vault: whose they are, what happens without them, rotation while all goes on."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from vault_ground import ARN, OPERATOR, VaultGround

from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel.errors import AccessDenied, Unavailable
from freehold.ports.secrets import KeyGone
from freehold.ports.workloads import Workload
from freehold.services.vault.model import OAUTH2

CUSTOMER = {"keyType": "CustomerManagedKey", "kmsKeyArn": ARN}
SERVICE = {"keyType": "ServiceManagedKey"}
MakeDsn = Callable[[], Awaitable[str]]


async def make(vault: VaultGround, tenant: str, name: str, key: str = "k") -> None:
    await vault.control(tenant).create_api_key_credential_provider(name=name, apiKey=key)


async def read(vault: VaultGround, tenant: str, name: str) -> str:
    """As an agent does, without the cost of a client of its own."""
    return await vault.credentials._api_key(tenant, name)


async def test_a_tenants_vault_is_under_the_platforms_key_at_first(
    vault: VaultGround, tenant: str
) -> None:
    got = await vault.control(tenant).get_token_vault()
    assert got["tokenVaultId"] == "default" and got["kmsConfiguration"] == SERVICE
    again = await vault.control(tenant).get_token_vault(tokenVaultId="default")
    assert again["lastModifiedDate"] == got["lastModifiedDate"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await vault.control(tenant).get_token_vault(tokenVaultId="another")


async def test_a_tenants_own_key_takes_over_every_secret_and_gives_them_back(
    vault: VaultGround, tenant: str
) -> None:
    other = str(int(tenant) - 1)
    for account in (tenant, other):
        for number in range(3):
            await make(vault, account, f"p{number}", f"of {account} {number}")
    set_ = await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=CUSTOMER)
    assert set_["kmsConfiguration"] == CUSTOMER
    await vault.settled()
    assert await vault.sealed.versions(tenant) == {2: 3}
    assert await vault.sealed.versions(other) == {1: 3}

    # Now the tenant's secrets need its key, and nobody else's do.
    vault.tenants._sealers.clear()
    vault.named[ARN].trouble = Unavailable("the key is disabled")
    with pytest.raises(ClientError) as closed:
        await vault.api_key(tenant, "p0")
    assert closed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    with pytest.raises(ClientError):
        await make(vault, tenant, "new")
    assert await vault.api_key(other, "p0") == f"of {other} 0"
    vault.named[ARN].trouble = None
    assert await vault.api_key(tenant, "p0") == f"of {tenant} 0"

    await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=SERVICE)
    await vault.settled()
    vault.named[ARN].trouble = KeyGone("deleted")
    vault.tenants._sealers.clear()
    assert await vault.api_key(tenant, "p2") == f"of {tenant} 2"


async def test_a_key_that_the_operator_did_not_list_or_that_does_not_answer_changes_nothing(
    vault: VaultGround, tenant: str
) -> None:
    await make(vault, tenant, "p")
    unlisted = {**CUSTOMER, "kmsKeyArn": ARN[:-1] + "1"}
    for wanted, trouble in (
        (unlisted, None),
        ({"keyType": "CustomerManagedKey"}, None),
        ({**SERVICE, "kmsKeyArn": ARN}, None),
        (CUSTOMER, KeyGone("no such key")),
    ):
        vault.named[ARN].trouble = trouble
        with pytest.raises(ClientError, match="ValidationException"):
            await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=wanted)
    vault.named[ARN].trouble = Unavailable("away")
    with pytest.raises(ClientError):
        await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=CUSTOMER)
    got = await vault.control(tenant).get_token_vault()
    assert got["kmsConfiguration"] == SERVICE
    assert await vault.api_key(tenant, "p") == "k"


async def test_one_opening_of_a_named_key_serves_many_secrets_however_many_ask_at_once(
    vault: VaultGround, tenant: str
) -> None:
    for number in range(4):
        await make(vault, tenant, f"p{number}", f"{number}")
    await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=CUSTOMER)
    await vault.settled()
    vault.tenants._sealers.clear()
    before = vault.named[ARN].asked
    got = await asyncio.gather(*(read(vault, tenant, f"p{n % 4}") for n in range(40)))
    assert got == [f"{n % 4}" for n in range(40)]
    assert vault.named[ARN].asked == before + 1


async def test_bar_an_unwrapped_key_is_not_kept_for_long(
    fresh_dsn: MakeDsn, tmp_path: Path, tenant: str
) -> None:
    ground = VaultGround(await fresh_dsn(), tmp_path, cached_seconds_max=0.3)
    async with ground.open() as vault:
        await make(vault, tenant, "p")
        await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=CUSTOMER)
        await vault.settled()
        assert await read(vault, tenant, "p") == "k"
        vault.named[ARN].trouble = Unavailable("revoked")
        async with asyncio.timeout(5):
            while True:
                try:
                    await read(vault, tenant, "p")
                except Unavailable:
                    break
                await asyncio.sleep(0.02)


async def test_reset_is_for_deleted_keys_alone_and_says_goodbye_to_what_they_sealed(
    vault: VaultGround, tenant: str
) -> None:
    await make(vault, tenant, "p")
    with pytest.raises(ClientError, match="ValidationException"):
        await vault.control(tenant).reset_token_vault_key_material(tokenVaultId="default")
    await vault.control(tenant).set_token_vault_cmk(kmsConfiguration=CUSTOMER)
    await vault.settled()
    with pytest.raises(ClientError, match="ValidationException"):
        await vault.control(tenant).reset_token_vault_key_material(tokenVaultId="default")
    vault.named[ARN].trouble = KeyGone("deleted")
    got = await vault.control(tenant).reset_token_vault_key_material(tokenVaultId="default")
    assert got["kmsConfiguration"] == SERVICE
    with pytest.raises(ClientError, match="has lost its key"):
        await vault.api_key(tenant, "p")
    await vault.control(tenant).update_api_key_credential_provider(name="p", apiKey="again")
    assert await vault.api_key(tenant, "p") == "again"


async def test_bar_rotation_under_load_fails_no_request_and_the_old_keys_can_be_removed(
    fresh_dsn: MakeDsn, tmp_path: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    first = VaultGround(dsn, tmp_path)
    second = VaultGround(dsn, tmp_path)  # another worker: same database, same key file
    async with first.open() as one, second.open() as two:
        for number in range(20):
            await make(one, tenant, f"p{number}", "v0")
        over = asyncio.Event()
        used = written = 0

        async def agents(vault: VaultGround) -> None:
            nonlocal used
            while not over.is_set():
                for number in range(20):
                    assert (await read(vault, tenant, f"p{number}")).startswith("v")
                    used += 1

        async def people(vault: VaultGround) -> None:
            nonlocal written
            while not over.is_set():
                written += 1
                name = f"p{written % 20}"
                await vault.providers.update_api_key(
                    tenant, {"name": name, "apiKey": f"v{written}"}
                )

        load = [asyncio.create_task(act(v)) for v in (one, two) for act in (agents, people)]
        for _ in range(3):
            await one.finished(await one.keys.rotate(tenant))
            await two.finished(await two.keys.rotate_platform(OPERATOR))
        over.set()
        await asyncio.gather(*load)
        assert used > 100 and written > 10
        assert set(await one.sealed.versions(tenant)) == {4}
        platform_use = await one.keys.platform_use(OPERATOR)
        assert platform_use is not None
        assert platform_use.newest == 4 and set(platform_use.values) == {4}

    path = tmp_path / "keys" / "kek"
    path.write_text(path.read_text().splitlines()[-1] + "\n")  # the old keys are gone
    assert Keyring.from_file(path).versions == {4}
    async with VaultGround(dsn, tmp_path).open() as after:
        for number in range(20):
            assert (await read(after, tenant, f"p{number}")).startswith("v")


async def test_bar_without_the_platforms_key_nothing_opens_and_nothing_is_sealed_anew(
    fresh_dsn: MakeDsn, tmp_path: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    async with VaultGround(dsn, tmp_path).open() as vault:
        await make(vault, tenant, "p")
    (tmp_path / "keys" / "kek").unlink()  # another one is made at the next start
    async with VaultGround(dsn, tmp_path).open() as vault:
        with pytest.raises(ClientError) as closed:
            await vault.api_key(tenant, "p")
        assert closed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        with pytest.raises(ClientError):
            await make(vault, tenant, "q")


async def test_everything_sealed_under_the_platforms_key_moves_with_it(
    vault: VaultGround, tenant: str
) -> None:
    """Other services' rows too, found by the names of their columns; json documents likewise."""
    sealer = vault.platform.sealer
    sealed = sealer.seal(b"an access key", context="c")
    environment = base64.b64encode(sealer.seal(b"variables", context="e")).decode()
    async with vault.database.connection() as connection:
        await connection.execute(
            "CREATE TABLE elsewhere (tenant text, id text PRIMARY KEY, sealed_secret bytea)"
        )
        await connection.execute(
            "INSERT INTO elsewhere (tenant, id, sealed_secret) VALUES (%s, 'x', %s)",
            (tenant, sealed),
        )
        await connection.execute(
            "INSERT INTO resources (tenant, kind, parent, id, parent_kind, arn, name, version,"
            " status, document, tags) VALUES (%s, 'k', '', 'i', '', 'a', 'n', 1, 'READY',"
            " json_build_object('z', 1, '_environment', %s::text, 'a', 2), '{}')",
            (tenant, environment),
        )
    await vault.finished(await vault.keys.rotate_platform(OPERATOR))
    keyring = Keyring.from_file(vault.state / "keys" / "kek")
    only_new = type(sealer)(Keyring({keyring.newest: keyring.key(keyring.newest)}))
    async with vault.database.connection() as connection:
        rows = await connection.execute(
            "SELECT sealed_secret FROM elsewhere WHERE tenant = %s", (tenant,)
        )
        (moved,) = (await rows.fetchone()) or (b"",)
        rows = await connection.execute(
            "SELECT document->>'_environment', document::text FROM resources WHERE tenant = %s",
            (tenant,),
        )
        row = await rows.fetchone()
    assert row is not None
    assert only_new.open(moved, context="c") == b"an access key"
    assert only_new.open(base64.b64decode(row[0]), context="e") == b"variables"
    assert row[1].index('"z"') < row[1].index('"a"')


async def test_every_sealed_column_of_every_service_is_among_those_that_move(
    vault: VaultGround,
) -> None:
    found = {f"{column.table}.{column.name}" for column in await vault.sealed._columns()}
    assert {
        "access_keys.sealed_secret", "vault_secrets.sealed", "oauth_grants.sealed",
        "resources.document", "resource_versions.document",
    } <= found  # fmt: skip
    assert all(column.keys for column in await vault.sealed._columns())


async def test_only_the_platforms_own_account_rotates_its_key(
    vault: VaultGround, tenant: str
) -> None:
    with pytest.raises(AccessDenied):
        await vault.keys.rotate_platform(tenant)
    assert await vault.keys.platform_use(tenant) is None


async def test_bar_a_dump_of_the_database_shows_no_plaintext(
    vault: VaultGround, tenant: str
) -> None:
    canaries = [f"canary-{n}-9d41" for n in range(4)]
    await make(vault, tenant, "p", canaries[0])
    config = {
        "oauthDiscovery": {
            "authorizationServerMetadata": {
                "issuer": "https://i.example.com",
                "authorizationEndpoint": "https://i.example.com/a",
                "tokenEndpoint": "https://i.example.com/t",
            }
        },
        "clientId": "c",
        "clientSecret": canaries[1],
        "privateKeyJwtConfig": {"additionalPayloadClaims": {"secret": canaries[2]}},
    }
    await vault.control(tenant).create_oauth2_credential_provider(
        name="o", credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={"customOauth2ProviderConfig": config},
    )  # fmt: skip
    await vault.changes.put_next(tenant, OAUTH2, "o", canaries[3])
    await vault.finished(await vault.keys.rotate(tenant))
    token = await vault.workloads.issue(Workload(tenant=tenant, name="agent"))
    await vault.client(tenant).get_resource_api_key(
        workloadIdentityToken=token, resourceCredentialProviderName="p"
    )
    dump = await vault.dump()
    for canary in canaries:
        for spelled in (canary, canary.encode().hex(), _base64(canary)):
            assert spelled not in dump
    assert '"d":' not in dump and "i.example.com" in dump


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
