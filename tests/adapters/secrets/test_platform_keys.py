"""The platform's own key: in a file, given, or kept by a real OpenBao or the fake of AWS KMS."""

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from key_services import TOKEN, OpenBao

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel.errors import FreeholdError, PlatformFailed, Unavailable
from freehold.ports.secrets import SealBroken
from freehold.processes.key_services import customer_keys, make_tenant_keys, platform_keys
from freehold.settings import SettingsError, load
from freehold.testing.fake_aws_kms import FakeAwsKms

MakeDsn = Callable[[], Awaitable[str]]


@pytest.fixture
def bao_settings(openbao: OpenBao, tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    name = openbao.create_key(f"platform-{secrets.token_hex(4)}")
    return {
        "FREEHOLD_STATE": str(tmp_path / "state"),
        "FREEHOLD_KEY_SERVICE": f"transit:{name}",
        "FREEHOLD_TRANSIT_URL": openbao.url,
        "FREEHOLD_TRANSIT_TOKEN_FILE": str(token),
    }


def test_a_keyring_kept_by_openbao_never_touches_the_disk_in_the_clear(
    bao_settings: dict[str, str], tmp_path: Path
) -> None:
    first = platform_keys(load(bao_settings))
    sealed = first.sealer.seal(b"x", context="c")
    assert platform_keys(load(bao_settings)).sealer.open(sealed, context="c") == b"x"
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["kek.wrapped"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    text = bytes.fromhex(files[0].read_text()).decode()
    assert text.startswith("vault:v1:")


async def test_its_new_version_is_known_to_a_process_that_runs(
    bao_settings: dict[str, str],
) -> None:
    one, two = platform_keys(load(bao_settings)), platform_keys(load(bao_settings))
    assert await one.add_version() == 2
    sealed = one.sealer.seal(b"x", context="c")
    assert two.sealer.open(sealed, context="c") == b"x"
    assert two.newest == 2


def test_without_the_key_service_no_process_starts(
    bao_settings: dict[str, str], openbao: OpenBao
) -> None:
    platform_keys(load(bao_settings))
    for away in (
        {"FREEHOLD_TRANSIT_URL": "http://127.0.0.1:9"},
        {"FREEHOLD_TRANSIT_TOKEN_FILE": "/nowhere"},
    ):
        with pytest.raises(Unavailable):
            platform_keys(load(bao_settings | away))
    openbao.delete_key(bao_settings["FREEHOLD_KEY_SERVICE"].removeprefix("transit:"))
    with pytest.raises(PlatformFailed):
        platform_keys(load(bao_settings))


async def test_a_platform_that_had_a_file_takes_its_keys_over(
    bao_settings: dict[str, str], fresh_dsn: MakeDsn, client: KeyServiceClient
) -> None:
    plain = {"FREEHOLD_STATE": bao_settings["FREEHOLD_STATE"]}
    dsn, tenant = await fresh_dsn(), "123456789012"

    async def with_keys(settings: dict[str, str], sealed: bytes | None) -> tuple[str, bytes]:
        database = PostgresDatabase(dsn, pool_size_max=2, application_name="tests")
        own = platform_keys(load(settings))
        tenants = make_tenant_keys(load(settings), database, own, client)
        await database.start()
        try:
            if sealed is None:
                sealed = await tenants.seal(tenant, b"x", context="c")
            else:
                assert await tenants.open(tenant, sealed, context="c") == b"x"
                assert await tenants.rewrap_kept() <= 1
            return (await tenants.newest(tenant)).wrapped_by, sealed
        finally:
            await database.close()

    kept_by, sealed = await with_keys(plain, None)
    assert kept_by == "platform"
    kept_by, _ = await with_keys(bao_settings, sealed)
    assert kept_by == f"service:{bao_settings['FREEHOLD_KEY_SERVICE']}"
    (Path(plain["FREEHOLD_STATE"]) / "keys" / "kek").unlink()
    await with_keys(bao_settings, sealed)


async def test_a_tenants_key_in_openbao_goes_by_an_arn_and_its_absence_closes_that_tenant_alone(
    openbao: OpenBao, bao_settings: dict[str, str], fresh_dsn: MakeDsn, client: KeyServiceClient
) -> None:
    arn = f"arn:aws:kms:us-east-1:111122223333:key/{'2' * 36}"
    name = openbao.create_key(f"customer-{secrets.token_hex(4)}")
    settings = bao_settings | {"FREEHOLD_VAULT_CUSTOMER_KEYS": f"123456789012={arn}=transit:{name}"}
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=2, application_name="tests")
    tenants = make_tenant_keys(load(settings), database, platform_keys(load(settings)), client)
    await database.start()
    try:
        assert (await tenants.add("123456789012", arn)).wrapped_by == arn
        mine = await tenants.seal("123456789012", b"mine", context="c")
        theirs = await tenants.seal("210987654321", b"theirs", context="c")
        with pytest.raises(SealBroken):
            await tenants.open("210987654321", mine, context="c")
        openbao.delete_key(name)
        tenants._sealers.clear()
        with pytest.raises(SealBroken):
            await tenants.open("123456789012", mine, context="c")
        assert await tenants.is_lost("123456789012")
        assert await tenants.open("210987654321", theirs, context="c") == b"theirs"
    finally:
        await database.close()


async def test_kms_keeps_the_platforms_key_and_a_tenants_key_for_it_alone(
    kms: FakeAwsKms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_dsn: MakeDsn,
    client: KeyServiceClient,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.endpoint)
    own, customers = kms.create_key(), kms.create_key()
    settings = load(
        {
            "FREEHOLD_STATE": str(tmp_path),
            "FREEHOLD_KEY_SERVICE": own,
            "FREEHOLD_VAULT_CUSTOMER_KEYS": f"123456789012={customers},210987654321={customers}",
        }
    )
    keys = await asyncio.to_thread(platform_keys, settings)
    database = PostgresDatabase(await fresh_dsn(), pool_size_max=2, application_name="tests")
    tenants = make_tenant_keys(settings, database, keys, client)
    await database.start()
    try:
        await tenants.seal("123456789012", b"x", context="c")
        for tenant in ("123456789012", "210987654321"):
            await tenants.add(tenant, customers)
        # The same key serves both, and opens for neither what the other's row holds.
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE tenant_keys a SET wrapped_key = b.wrapped_key FROM tenant_keys b"
                " WHERE a.tenant = '123456789012' AND a.version = 2"
                " AND b.tenant = '210987654321' AND b.version = 1"
            )
        tenants._sealers.clear()
        with pytest.raises(SealBroken):
            await tenants.seal("123456789012", b"x", context="c")
        calls = len(kms.calls)
        for _ in range(20):
            await tenants.seal("210987654321", b"x", context="c")
        assert len(kms.calls) == calls + 1
    finally:
        await database.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"FREEHOLD_KEY_SERVICE": "transit:x"},
        {"FREEHOLD_KEY_SERVICE": "arn:aws:s3:::x"},
        {"FREEHOLD_KEY_SERVICE": "transit:x", "FREEHOLD_KEY_ENCRYPTION_KEY": "1:x"},
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises((SettingsError, FreeholdError)):
        platform_keys(load({"FREEHOLD_STATE": str(tmp_path), **settings}))


def test_a_given_key_is_used_and_never_shown(tmp_path: Path) -> None:
    text = base64.b64encode(bytes(range(32))).decode()
    keys = platform_keys(
        load({"FREEHOLD_STATE": str(tmp_path), "FREEHOLD_KEY_ENCRYPTION_KEY": f"1:{text}"})
    )
    sealed = keys.sealer.seal(b"x", context="c")
    assert keys.sealer.open(sealed, context="c") == b"x"
    assert text not in repr(keys) + repr(vars(keys))


@pytest.mark.parametrize(
    "text",
    ["arn:aws:kms:us-east-1:111122223333:key/x", "12=arn:aws:kms:us-east-1:111122223333:key/x",
     "123456789012=alias/x", "123456789012=arn:aws:kms:us-east-1:111122223333:key/x=file:/x"],
)  # fmt: skip
def test_customers_keys_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        customer_keys(text)


def test_a_version_that_nobody_has_does_not_ask_for_the_keyring_again_and_again(
    tmp_path: Path,
) -> None:
    asked = 0
    keyring = Keyring.from_file(tmp_path / "kek")

    def reload() -> Keyring:
        nonlocal asked
        asked += 1
        return keyring

    sealer = EnvelopeSealer(keyring, reload=reload)
    sealed = bytearray(sealer.seal(b"x", context="c"))
    sealed[4] = 9
    for _ in range(50):
        with pytest.raises(SealBroken):
            sealer.open(bytes(sealed), context="c")
    assert asked == 1
