"""Secrets that are changed: a second one beside the first, reminders, RFC 7592."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from vault_ground import VaultGround

from freehold.kernel.errors import Conflict, NotFound, Unavailable, ValidationFailed
from freehold.ports.web import WebAnswer
from freehold.services.vault.changing import Registration
from freehold.services.vault.model import API_KEY, DUE_TAG, OAUTH2

REGISTERED = Registration(uri="https://as.example.com/register/c", token="canary-first-token")


async def github(vault: VaultGround, tenant: str, secret: str = "canary-one") -> None:
    await vault.control(tenant).create_oauth2_credential_provider(
        name="o", credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput={
            "githubOauth2ProviderConfig": {"clientId": "c", "clientSecret": secret}
        },
    )  # fmt: skip


class RegistrationServer:
    """RFC 7592 as the RFC has it; `dies` loses one answer on its way back."""

    def __init__(self, vault: VaultGround, *, gives_new: bool = True) -> None:
        self.secret, self.token, self.number = "canary-one", REGISTERED.token, 1
        self.gives_new, self.dies = gives_new, False
        self.asked: list[tuple[str, Any]] = []
        vault.servers.answer = self

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> WebAnswer:
        document = None if body is None else json.loads(body)
        self.asked.append((method, document))
        if headers["authorization"] != f"Bearer {self.token}" or url != REGISTERED.uri:
            return WebAnswer(status=401, headers={}, body=b"")
        if method == "PUT" and self.gives_new:
            self.number += 1
            self.secret = f"canary-{self.number}"
        if self.dies:
            self.dies = False
            return WebAnswer(status=502, headers={}, body=b"canary in an error page")
        answer = {
            "client_id": "c", "client_secret": self.secret, "redirect_uris": ["https://x"],
            "registration_access_token": self.token, "registration_client_uri": url,
        }  # fmt: skip
        return WebAnswer(status=200, headers={}, body=json.dumps(answer).encode())


async def secret_of(vault: VaultGround, tenant: str) -> str | None:
    return (await vault.credentials.oauth2_provider(tenant, "o")).client_secret


async def test_a_second_secret_overlaps_until_it_becomes_the_first(
    vault: VaultGround, tenant: str
) -> None:
    await github(vault, tenant)
    await vault.changes.put_next(tenant, OAUTH2, "o", "canary-two")
    provider = await vault.credentials.oauth2_provider(tenant, "o")
    assert (provider.client_secret, provider.client_secret_next) == ("canary-one", "canary-two")
    assert [n[:2] for n in await vault.changes.next_secrets(tenant)] == [
        ("client-secret-next", "o")
    ]
    await vault.changes.promote(tenant, OAUTH2, "o")
    provider = await vault.credentials.oauth2_provider(tenant, "o")
    assert (provider.client_secret, provider.client_secret_next) == ("canary-two", None)
    with pytest.raises(NotFound):
        await vault.changes.promote(tenant, OAUTH2, "o")


async def test_an_api_key_that_is_changed_is_the_old_one_until_the_promotion(
    vault: VaultGround, tenant: str
) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="k", apiKey="one")
    await vault.changes.put_next(tenant, API_KEY, "k", "two")
    assert await vault.api_key(tenant, "k") == "one"
    await vault.changes.promote(tenant, API_KEY, "k")
    assert await vault.api_key(tenant, "k") == "two"
    await vault.changes.put_next(tenant, API_KEY, "k", "three")
    await vault.changes.drop_next(tenant, API_KEY, "k")
    assert await vault.changes.next_secrets(tenant) == []


async def test_a_reminder_shows_on_the_provider_and_starts_anew_when_the_secret_changed(
    vault: VaultGround, tenant: str
) -> None:
    await vault.control(tenant).create_api_key_credential_provider(name="k", apiKey="one")
    await vault.changes.schedule(tenant, API_KEY, "k", every_days=30, registration=None)
    got = await vault.control(tenant).get_api_key_credential_provider(name="k")
    tags = await vault.control(tenant).list_tags_for_resource(
        resourceArn=got["credentialProviderArn"]
    )
    in_30_days = datetime.now(UTC) + timedelta(days=30)
    assert tags["tags"][DUE_TAG] in (
        f"{in_30_days:%Y-%m-%d}",
        f"{in_30_days - timedelta(days=1):%Y-%m-%d}",
    )
    async with vault.database.connection() as connection:
        await connection.execute(
            "UPDATE vault_schedules SET due_at = now() - interval '1 day' WHERE tenant = %s",
            (tenant,),
        )
    await vault.resources.tag(tenant, got["credentialProviderArn"], {DUE_TAG: "2020-01-01"})
    (schedule,) = await vault.changes.schedules(tenant)
    assert schedule.due and schedule.way == "reminder"
    await vault.control(tenant).update_api_key_credential_provider(name="k", apiKey="two")
    (schedule,) = await vault.changes.schedules(tenant)
    assert not schedule.due
    tags = await vault.control(tenant).list_tags_for_resource(
        resourceArn=got["credentialProviderArn"]
    )
    assert tags["tags"][DUE_TAG] == f"{schedule.due_at:%Y-%m-%d}"
    await vault.changes.unschedule(tenant, API_KEY, "k")
    tags = await vault.control(tenant).list_tags_for_resource(
        resourceArn=got["credentialProviderArn"]
    )
    assert tags["tags"] == {}


async def test_a_registered_clients_secret_is_changed_by_the_platform_when_it_is_due(
    vault: VaultGround, tenant: str
) -> None:
    await github(vault, tenant)
    server = RegistrationServer(vault)
    await vault.changes.schedule(tenant, OAUTH2, "o", every_days=30, registration=REGISTERED)
    async with vault.database.transaction() as connection:
        await connection.execute(
            "UPDATE vault_schedules SET due_at = now() - interval '1 day' WHERE tenant = %s",
            (tenant,),
        )
        await vault.database.notify(connection, "freehold_vault_schedules", tenant)
    async with asyncio.timeout(20):
        while await secret_of(vault, tenant) == "canary-one":
            await asyncio.sleep(0.02)
    await vault.settled()
    assert await secret_of(vault, tenant) == server.secret == "canary-2"
    (schedule,) = await vault.changes.schedules(tenant)
    assert not schedule.due and schedule.failure == ""
    put = dict(server.asked)["PUT"]
    assert put == {"client_id": "c", "redirect_uris": ["https://x"]}
    assert "canary" not in await vault.dump()


async def test_a_new_secret_whose_answer_was_lost_is_found_the_next_time(
    vault: VaultGround, tenant: str
) -> None:
    await github(vault, tenant)
    server = RegistrationServer(vault)
    await vault.changes.schedule(tenant, OAUTH2, "o", every_days=30, registration=REGISTERED)
    server.asked.clear()

    def dying(method: str, *rest: Any) -> WebAnswer:
        server.dies = method == "PUT"
        return server(method, *rest)

    vault.servers.answer = dying
    with pytest.raises(Unavailable) as lost:
        await vault.changes.change_now(tenant, "o")
    assert "canary" not in str(lost.value)
    assert await secret_of(vault, tenant) == "canary-one"
    vault.servers.answer = server
    await vault.changes.change_now(tenant, "o")
    assert await secret_of(vault, tenant) == "canary-2" == server.secret
    assert [method for method, _ in server.asked] == ["GET", "PUT", "GET"]


async def test_a_server_that_gives_no_new_secret_is_said_so(
    vault: VaultGround, tenant: str
) -> None:
    await github(vault, tenant)
    RegistrationServer(vault, gives_new=False)
    await vault.changes.schedule(tenant, OAUTH2, "o", every_days=30, registration=REGISTERED)
    with pytest.raises(ValidationFailed, match="gave no new secret"):
        await vault.changes.change_now(tenant, "o")
    assert await secret_of(vault, tenant) == "canary-one"


async def test_what_is_kept_elsewhere_is_changed_there(vault: VaultGround, tenant: str) -> None:
    with pytest.raises(NotFound):
        await vault.changes.put_next(tenant, API_KEY, "absent", "x")
    await vault.control(tenant).create_api_key_credential_provider(name="k", apiKey="one")
    with pytest.raises(ValidationFailed):
        await vault.changes.schedule(tenant, API_KEY, "k", every_days=1, registration=REGISTERED)
    async with vault.database.connection() as connection:
        await connection.execute(
            'UPDATE resources SET document = \'{"source": "EXTERNAL"}\' WHERE tenant = %s',
            (tenant,),
        )
    with pytest.raises(Conflict):
        await vault.changes.promote(tenant, API_KEY, "k")
