from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from vault_ground import VaultGround


@pytest.fixture
async def vault(
    fresh_dsn: Callable[[], Awaitable[str]], tmp_path: Path
) -> AsyncIterator[VaultGround]:
    async with VaultGround(await fresh_dsn(), tmp_path).open() as ground:
        yield ground
