from collections.abc import AsyncIterator, Iterator

import pytest
from key_services import ACCESS_KEY_ID, SECRET_ACCESS_KEY, OpenBao, open_bao

from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.testing.fake_aws_kms import FakeAwsKms


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with open_bao(tmp_path_factory.mktemp("bao")) as running:
        yield running


@pytest.fixture
async def kms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAwsKms]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    async with FakeAwsKms(
        access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET_ACCESS_KEY
    ) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[KeyServiceClient]:
    client = KeyServiceClient(seconds_max=5)
    yield client
    await client.close()
