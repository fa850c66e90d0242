"""What every key-encryption key promises: the platform's own, a real OpenBao's, the fake KMS's."""

import asyncio
import secrets
from collections.abc import Callable

import boto3
import botocore.session
import pytest
from key_services import ACCESS_KEY_ID, SECRET_ACCESS_KEY, TOKEN, OpenBao

from freehold.adapters.secrets.aws_kms import AwsKmsKey, kms_region
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.adapters.secrets.keyring import Keyring
from freehold.adapters.secrets.local import LocalKey
from freehold.adapters.secrets.transit import TransitKey
from freehold.kernel.errors import Unavailable
from freehold.ports.secrets import KeyEncryption, KeyGone, SealBroken
from freehold.testing.fake_aws_kms import FakeAwsKms

KEY = bytes(range(32))
MakeKey = Callable[[], KeyEncryption]


@pytest.fixture(params=["local", "transit", "kms"])
def make_key(request: pytest.FixtureRequest, client: KeyServiceClient) -> MakeKey:
    if request.param == "local":
        return lambda: LocalKey(EnvelopeSealer(Keyring({1: secrets.token_bytes(32)})))
    if request.param == "transit":
        bao: OpenBao = request.getfixturevalue("openbao")
        return lambda: transit(client, bao, bao.create_key(f"key-{secrets.token_hex(4)}"))
    kms: FakeAwsKms = request.getfixturevalue("kms")
    return lambda: AwsKmsKey(client, arn=kms.create_key(), endpoint=kms.endpoint)


def transit(client: KeyServiceClient, bao: OpenBao, key: str, token: str = TOKEN) -> TransitKey:
    return TransitKey(client, url=bao.url, mount="transit", key=key, token=lambda: token)


async def test_what_was_wrapped_is_unwrapped_in_its_context(make_key: MakeKey) -> None:
    key = make_key()
    wrapped = await key.wrap(KEY, context="tenant|1")
    assert KEY not in wrapped
    assert await key.unwrap(wrapped, context="tenant|1") == KEY
    again = await key.rewrap(wrapped, context="tenant|1")
    assert await key.unwrap(again, context="tenant|1") == KEY


@pytest.mark.parametrize("context", ["tenant|2", "other|1", ""])
async def test_another_context_does_not_unwrap_it(make_key: MakeKey, context: str) -> None:
    key = make_key()
    wrapped = await key.wrap(KEY, context="tenant|1")
    with pytest.raises(SealBroken):
        await key.unwrap(wrapped, context=context)


async def test_another_key_does_not_unwrap_it(make_key: MakeKey) -> None:
    wrapped = await make_key().wrap(KEY, context="c")
    with pytest.raises(SealBroken):
        await make_key().unwrap(wrapped, context="c")


async def test_a_changed_value_is_refused(make_key: MakeKey) -> None:
    key = make_key()
    wrapped = bytearray(await key.wrap(KEY, context="c"))
    wrapped[-4] ^= 1
    with pytest.raises(SealBroken):
        await key.unwrap(bytes(wrapped), context="c")


async def test_a_transit_key_rotates_and_its_old_version_goes(
    client: KeyServiceClient, openbao: OpenBao
) -> None:
    key = transit(client, openbao, openbao.create_key("rotating"))
    before = await key.wrap(KEY, context="c")
    openbao.rotate_key("rotating")
    after = await key.rewrap(before, context="c")
    openbao.drop_versions_below("rotating", 2)
    assert await key.unwrap(after, context="c") == KEY
    with pytest.raises(Unavailable):
        await key.unwrap(before, context="c")


async def test_a_deleted_transit_key_is_gone_for_good(
    client: KeyServiceClient, openbao: OpenBao
) -> None:
    key = transit(client, openbao, openbao.create_key("doomed"))
    wrapped = await key.wrap(KEY, context="c")
    openbao.delete_key("doomed")
    with pytest.raises(KeyGone):
        await key.unwrap(wrapped, context="c")


async def test_the_policy_that_the_documentation_gives_is_enough_and_makes_no_keys(
    client: KeyServiceClient, openbao: OpenBao
) -> None:
    openbao.create_key("governed")
    rules = (
        "".join(
            f'path "transit/{verb}/governed" {{ capabilities = ["update"] }}\n'
            for verb in ("encrypt", "decrypt")
        )
        + 'path "transit/encrypt/misspelt" { capabilities = ["update"] }\n'
    )
    openbao.ask("sys/policies/acl/freehold", {"policy": rules})
    token = openbao.ask("auth/token/create", {"policies": ["freehold"]})["auth"]["client_token"]
    key = transit(client, openbao, "governed", token)
    assert await key.unwrap(await key.wrap(KEY, context="c"), context="c") == KEY
    with pytest.raises(Unavailable):
        await transit(client, openbao, "misspelt", token).wrap(KEY, context="c")


async def test_a_wrong_token_is_refused_and_shown_nowhere(
    client: KeyServiceClient, openbao: OpenBao
) -> None:
    key = transit(client, openbao, openbao.create_key("closed"), token="s.canary-of-a-token")
    with pytest.raises(Unavailable, match="refused \\(403\\)") as caught:
        await key.wrap(KEY, context="c")
    assert "canary" not in str(caught.value) + repr(key)


async def test_a_key_service_that_does_not_answer_is_unavailable(client: KeyServiceClient) -> None:
    key = TransitKey(
        client, url="http://127.0.0.1:9", mount="transit", key="k", token=lambda: "canary"
    )
    with pytest.raises(Unavailable) as caught:
        await key.unwrap(b"vault:v1:AAAA", context="c")
    assert "canary" not in str(caught.value)


async def test_a_kms_key_that_is_disabled_is_away_and_one_that_is_deleted_is_gone(
    client: KeyServiceClient, kms: FakeAwsKms
) -> None:
    key = AwsKmsKey(client, arn=kms.create_key(), endpoint=kms.endpoint)
    wrapped = await key.wrap(KEY, context="c")
    kms.disable_key(key.name)
    with pytest.raises(Unavailable, match="DisabledException"):
        await key.unwrap(wrapped, context="c")
    kms.delete_key(key.name)
    with pytest.raises(KeyGone):
        await key.unwrap(wrapped, context="c")


async def test_requests_to_kms_are_signed(
    client: KeyServiceClient, kms: FakeAwsKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.adapters.secrets.aws_kms._session", _other_credentials())
    key = AwsKmsKey(client, arn=kms.create_key(), endpoint=kms.endpoint)
    with pytest.raises(Unavailable, match="InvalidSignatureException"):
        await key.wrap(KEY, context="c")


def _other_credentials() -> object:
    session = botocore.session.Session()
    session.set_credentials(ACCESS_KEY_ID, "another secret")
    return session


async def test_the_fake_kms_speaks_as_the_real_client_expects(kms: FakeAwsKms) -> None:
    arn = kms.create_key()
    real = boto3.client(
        "kms", endpoint_url=kms.endpoint, region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID, aws_secret_access_key=SECRET_ACCESS_KEY,
    )  # fmt: skip
    context = {"freehold": "c"}
    made = await asyncio.to_thread(
        real.encrypt, KeyId=arn, Plaintext=KEY, EncryptionContext=context
    )
    opened = await asyncio.to_thread(
        real.decrypt, KeyId=arn, CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context
    )
    assert opened["Plaintext"] == KEY
    await asyncio.to_thread(real.close)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kms:evil.example.com/:111122223333:key/x",
        "arn:aws:kms:us-east-1.evil:111122223333:key/x",
        "arn:aws:kms::111122223333:key/x",
        "arn:aws:s3:us-east-1:111122223333:key/x",
        "alias/mine",
    ],
)
def test_no_arn_leads_to_another_host_than_kms(arn: str) -> None:
    assert kms_region(arn) is None
