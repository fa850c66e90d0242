"""Small chunks gathered into batches that are worth a thread's while."""

from collections.abc import AsyncIterator

BATCH_BYTES = 1 << 20


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Lists of chunks, each list BATCH_BYTES or a little more, but the last one."""
    batch: list[bytes] = []
    size = 0
    async for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
