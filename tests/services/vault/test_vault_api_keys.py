"""API key providers with real boto3: made, shown without their key, used, deleted."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from vault_ground import OPERATOR, VaultGround

from freehold.ports.workloads import Workload

CANARY = "sk-canary-7f3a9c"


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


async def test_a_provider_is_made_shown_changed_and_deleted(
    vault: VaultGround, tenant: str
) -> None:
    made = await vault.control(tenant).create_api_key_credential_provider(
        name="weather_1", apiKey=CANARY, tags={"team": "sky"}
    )
    arn = made["credentialProviderArn"]
    assert arn == (
        f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:"
        "token-vault/default/apikeycredentialprovider/weather_1"
    )
    assert made["apiKeySecretArn"]["secretArn"].startswith(
        f"arn:aws:secretsmanager:us-east-1:{tenant}:secret:"
        "bedrock-agentcore-identity!default/apikey/weather_1-"
    )
    got = await vault.control(tenant).get_api_key_credential_provider(name="weather_1")
    assert (got["name"], got["apiKeySecretSource"]) == ("weather_1", "MANAGED")
    listed = await vault.control(tenant).list_api_key_credential_providers()
    assert [p["credentialProviderArn"] for p in listed["credentialProviders"]] == [arn]
    tags = await vault.control(tenant).list_tags_for_resource(resourceArn=arn)
    assert tags["tags"] == {"team": "sky"}

    assert await vault.api_key(tenant, "weather_1") == CANARY
    changed = await vault.control(tenant).update_api_key_credential_provider(
        name="weather_1", apiKey="another"
    )
    assert changed["apiKeySecretArn"] == made["apiKeySecretArn"]
    assert changed["lastUpdatedTime"] > got["lastUpdatedTime"]
    assert await vault.api_key(tenant, "weather_1") == "another"

    await vault.control(tenant).delete_api_key_credential_provider(name="weather_1")
    for act in (vault.control(tenant).get_api_key_credential_provider(name="weather_1"),
                vault.control(tenant).delete_api_key_credential_provider(name="weather_1"),
                vault.api_key(tenant, "weather_1")):  # fmt: skip
        with pytest.raises(ClientError) as gone:
            await act
        assert code(gone) == "ResourceNotFoundException"


async def test_a_name_is_taken_once_in_a_tenant(vault: VaultGround, tenant: str) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="n", apiKey="one")
    with pytest.raises(ClientError) as taken:
        await vault.control(tenant).create_api_key_credential_provider(name="n", apiKey="two")
    assert code(taken) == "ConflictException"
    assert await vault.api_key(tenant, "n") == "one"


async def test_pages_of_providers(vault: VaultGround, tenant: str) -> None:
    for number in range(3):
        await vault.control(tenant).create_api_key_credential_provider(
            name=f"p{number}", apiKey="k"
        )
    first = await vault.control(tenant).list_api_key_credential_providers(maxResults=2)
    rest = await vault.control(tenant).list_api_key_credential_providers(
        nextToken=first["nextToken"]
    )
    names = [p["name"] for p in first["credentialProviders"] + rest["credentialProviders"]]
    assert names == ["p0", "p1", "p2"]


async def test_bar_another_tenants_provider_is_not_found(vault: VaultGround, tenant: str) -> None:
    other = str(int(tenant) - 1)
    await vault.control(tenant).create_api_key_credential_provider(name="mine", apiKey=CANARY)
    with pytest.raises(ClientError) as hidden:
        await vault.control(other).get_api_key_credential_provider(name="mine")
    assert code(hidden) == "ResourceNotFoundException"
    with pytest.raises(ClientError) as unused:
        await vault.api_key(other, "mine")
    assert code(unused) == "ResourceNotFoundException"
    theirs = await vault.workloads.issue(Workload(tenant=tenant, name="agent"))
    with pytest.raises(ClientError) as stolen:
        await vault.client(other).get_resource_api_key(
            workloadIdentityToken=theirs, resourceCredentialProviderName="mine"
        )
    assert stolen.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401
    assert not [e for e in vault.audit.events if e.outcome == "allowed"]


async def test_a_use_is_audited_with_who_for_whom_and_which_never_the_value(
    vault: VaultGround, tenant: str
) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="mail", apiKey=CANARY)
    token = await vault.workloads.issue(Workload(tenant=tenant, name="postman", user="ida|ann"))
    await vault.client(tenant).get_resource_api_key(
        workloadIdentityToken=token, resourceCredentialProviderName="mail"
    )
    (event,) = vault.audit.events
    assert (event.tenant, event.phase, event.outcome, event.user) == (
        tenant, "use", "allowed", "ida|ann",
    )  # fmt: skip
    assert event.detail == {"workload": "postman", "provider": "mail"}
    assert event.resource is not None and event.resource.endswith(
        f":{tenant}:token-vault/default/apikeycredentialprovider/mail"
    )
    assert CANARY not in repr(event)


async def test_no_key_without_its_line_in_the_audit(vault: VaultGround, tenant: str) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="n", apiKey=CANARY)
    vault.audit.away = True
    with pytest.raises(ClientError) as refused:
        await vault.api_key(tenant, "n")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert CANARY not in str(refused.value.response)


async def test_a_key_that_cannot_be_had_is_audited_too(vault: VaultGround, tenant: str) -> None:
    with pytest.raises(ClientError):
        await vault.api_key(tenant, "unknown")
    assert [(e.outcome, e.status) for e in vault.audit.events] == [("denied", 404)]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"apiKey": ""},
        {"apiKeySecretSource": "EXTERNAL"},
        {"apiKeySecretSource": "EXTERNAL", "apiKey": "k",
         "apiKeySecretConfig": {"secretId": "env:OPEN", "jsonKey": "*"}},
        {"apiKeySecretSource": "MANAGED",
         "apiKeySecretConfig": {"secretId": "env:OPEN", "jsonKey": "*"}},
        {"apiKey": "k", "tags": {"freehold:tier": "vm"}},
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused(
    vault: VaultGround, tenant: str, parameters: dict[str, object]
) -> None:
    with pytest.raises(ClientError) as refused:
        await vault.control(tenant).create_api_key_credential_provider(name="n", **parameters)
    assert code(refused) == "ValidationException"
    listed = await vault.control(tenant).list_api_key_credential_providers()
    assert listed["credentialProviders"] == []


async def test_external_secrets_are_read_anew_where_the_operator_allows(
    fresh_dsn: Callable[[], Awaitable[str]], tmp_path: Path, tenant: str
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mail.json").write_text('{"key": "from a file"}')
    (tmp_path / "outside").write_text(CANARY)
    (kept / "link").symlink_to(tmp_path / "outside")
    environment = {"OPEN": "from the environment", "CLOSED": CANARY}
    ground = VaultGround(
        await fresh_dsn(), tmp_path, environment=environment,
        external=f"env:OPEN, file:{kept}, {tenant}=env:OPEN",
    )  # fmt: skip
    async with ground.open() as vault:

        async def make(account: str, name: str, secret_id: str, json_key: str = "*") -> None:
            await vault.control(account).create_api_key_credential_provider(
                name=name, apiKeySecretSource="EXTERNAL",
                apiKeySecretConfig={"secretId": secret_id, "jsonKey": json_key},
            )  # fmt: skip

        await make(OPERATOR, "env", "env:OPEN")
        await make(OPERATOR, "file", f"file:{kept}/mail.json", "key")
        await make(tenant, "env", "env:OPEN")
        assert await vault.api_key(OPERATOR, "env") == "from the environment"
        assert await vault.api_key(OPERATOR, "file") == "from a file"
        assert await vault.api_key(tenant, "env") == "from the environment"
        (kept / "mail.json").write_text('{"key": "changed"}')
        assert await vault.api_key(OPERATOR, "file") == "changed"
        shown = await vault.control(OPERATOR).get_api_key_credential_provider(name="file")
        assert shown["apiKeySecretSource"] == "EXTERNAL"
        for account, secret_id in (
            (OPERATOR, "env:CLOSED"),
            (tenant, f"file:{kept}/mail.json"),
            (OPERATOR, f"file:{kept}/../outside"),
            (OPERATOR, f"file:{kept}/link"),
            (OPERATOR, f"file:{kept}/absent"),
            (OPERATOR, "arn:aws:secretsmanager:us-east-1:123456789012:secret:x"),
        ):
            with pytest.raises(ClientError) as refused:
                await make(account, "no", secret_id)
            assert code(refused) == "ValidationException"
            assert CANARY not in str(refused.value.response)


async def test_bar_rows_that_were_swapped_do_not_open(vault: VaultGround, tenant: str) -> None:
    other = str(int(tenant) - 1)
    await vault.control(tenant).create_api_key_credential_provider(name="a", apiKey="of a")
    await vault.control(tenant).create_api_key_credential_provider(name="b", apiKey="of b")
    await vault.control(other).create_api_key_credential_provider(name="a", apiKey="of another")
    old = await _row(vault, tenant, "a")
    for source in ((tenant, "b"), (other, "a")):
        await _put(vault, tenant, "a", await _row(vault, *source))
        with pytest.raises(ClientError) as broken:
            await vault.api_key(tenant, "a")
        assert broken.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "of b" not in str(broken.value.response)
    await _put(vault, tenant, "a", old)
    assert await vault.api_key(tenant, "a") == "of a"


async def test_an_older_value_of_the_same_row_does_not_open(
    vault: VaultGround, tenant: str
) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="a", apiKey="old")
    old = (await _row(vault, tenant, "a"))[1]
    await vault.control(tenant).update_api_key_credential_provider(name="a", apiKey="new")
    version = (await _row(vault, tenant, "a"))[0]
    await _put(vault, tenant, "a", (version, old))
    with pytest.raises(ClientError):
        await vault.api_key(tenant, "a")


async def _row(vault: VaultGround, tenant: str, name: str) -> tuple[int, bytes]:
    async with vault.database.connection() as connection:
        rows = await connection.execute(
            "SELECT version, sealed FROM vault_secrets WHERE tenant = %s AND name = %s",
            (tenant, name),
        )
        row = await rows.fetchone()
    assert row is not None
    return row[0], row[1]


async def _put(vault: VaultGround, tenant: str, name: str, row: tuple[int, bytes]) -> None:
    async with vault.database.connection() as connection:
        await connection.execute(
            "UPDATE vault_secrets SET version = %s, sealed = %s WHERE tenant = %s AND name = %s",
            (*row, tenant, name),
        )
