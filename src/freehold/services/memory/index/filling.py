"""What follows a change of the index, in the background: vectors, merged postings, the graph.

Every worker may run one: they share the work. All of it is in the store, so that whoever is killed
in the middle leaves it to the others, and nothing is done twice. With nothing to do it waits for a
notification.
"""

import asyncio
import contextlib
import logging

import psycopg

from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database
from freehold.ports.embeddings import Embeddings, EmbeddingsUnavailable
from freehold.services.memory.index import analysis, postings, store, vectors
from freehold.services.memory.index.vectors import Waiting

CHANNEL = "memory_index"

_BATCH = 64
_BATCH_CHARACTERS_MAX = 256 << 10
_TEXT_CHARACTERS_MAX = 20_000
"""Of a text, what is given to the embedder: more than any reads."""
_TAKEN_SECONDS = 120.0
_GATHER_SECONDS = 0.02
"""After a notification: what follows it at once shares a batch."""
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.5, 60.0

_log = logging.getLogger(__name__)


class Filling:
    """`start` before use, `close` after. `why` says what keeps it from embedding, or is ""."""

    def __init__(
        self,
        database: Database,
        embeddings: Embeddings,
        *,
        batch: int = _BATCH,
        taken_seconds: float = _TAKEN_SECONDS,
        pause_seconds_min: float = _PAUSE_SECONDS_MIN,
    ) -> None:
        """`taken_seconds`: after so long others take over what one has not done; more than a batch
        can take."""
        self._database, self._embeddings = database, embeddings
        self._batch, self._taken_seconds = batch, taken_seconds
        self._pause_seconds_min = pause_seconds_min
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._claimed = False  # the wanted model, once: who starts last decides
        self.why = ""

    def start(self) -> None:
        self._database.listen(CHANNEL, lambda _: self._wake.set())
        self._task = asyncio.create_task(self._run(), name="memory index")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause = self._pause_seconds_min
        while True:
            self._wake.clear()
            try:
                await self.tidy()
                again = await self.fill()
                self.why, pause = "", self._pause_seconds_min
            except (EmbeddingsUnavailable, Unavailable, psycopg.Error) as error:
                if self.why != str(error):
                    _log.warning("Vectors of memories wait: %s", error)
                self.why = str(error)
                # Others' writes go on meanwhile: they do not make it try sooner.
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSE_SECONDS_MAX)
                continue
            # Not wait_for: before Python 3.12 it may swallow the cancellation that `close` sends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._wake.wait()
            await asyncio.sleep(_GATHER_SECONDS)

    async def tidy(self) -> None:
        """Merges the postings of every namespace that is worth it."""
        while True:
            async with self._database.transaction() as connection:
                ns = await postings.tidy(connection)
                if ns is None:
                    return
                await store.drop_empty(connection, ns)

    async def fill(self) -> float | None:
        """Embeds what waits, until all does not or is with others; in how many seconds there may be
        more to do, when nobody tells. Raises EmbeddingsUnavailable."""
        if not self._embeddings.model:
            return None  # switched off: words alone
        model = await self._wanted()
        if model is None:
            return None
        while True:
            async with self._database.transaction() as connection:
                taken = await vectors.take(connection, self._batch, self._taken_seconds)
            if not taken:
                break
            if not await self._embed(model, taken):
                return None  # another model is wanted: its workers go on
            await self.tidy()  # there may be work for hours
        await self._finish(model)
        async with self._database.connection() as connection:
            return await vectors.seconds_until_next(connection)

    async def _wanted(self) -> int | None:
        """The number of our model, which is wanted from now on. None while nothing was ever put and
        its dimensions are not known."""
        if not self._embeddings.dimensions:
            async with self._database.connection() as connection:
                if await vectors.seconds_until_next(
                    connection
                ) is None and not await vectors.wanted(connection):
                    return None
            await self._embeddings.embed(["."])
        name, dimensions = self._embeddings.model, self._embeddings.dimensions
        async with self._database.connection() as connection:
            now = await vectors.wanted(connection)
            if now is not None and now == await vectors.model_number(connection, name, dimensions):
                self._claimed = True
                return now
        if self._claimed:
            return None
        async with self._database.transaction() as connection:
            model = await vectors.want(connection, name, dimensions)
        self._claimed = True
        return model

    async def _embed(self, model: int, taken: list[Waiting]) -> bool:
        done: list[Waiting] = []
        try:
            for some in _batches(taken):
                texts = [_text(unit) for unit in some]
                distinct = list(dict.fromkeys(texts))
                found = await self._embeddings.embed(distinct)
                row = {text: at for at, text in enumerate(distinct)}
                async with self._database.transaction() as connection:
                    kept = await vectors.keep(
                        connection, model, some, found[[row[text] for text in texts]]
                    )
                if not kept:
                    return False
                done += some
        finally:
            left = [unit for unit in taken if unit not in done]
            if left:
                # Where this fails too, they are taken over in time.
                with contextlib.suppress(Unavailable, psycopg.Error):
                    async with self._database.connection() as connection:
                        await vectors.give_back(connection, left)
        # Of two that end at the same time, the later one sees that nothing is left.
        places = sorted({unit.ns for unit in taken})
        async with self._database.transaction() as connection:
            await vectors.mark_large(connection, places)
            await vectors.complete(connection, model, places)
        return True

    async def _finish(self, model: int) -> None:
        """Also what others began and did not live to end."""
        async with self._database.transaction() as connection:
            await vectors.complete(connection, model)
        async with self._database.connection() as connection:
            ns = await vectors.growing(connection)
        if ns is None:
            return
        async with self._database.transaction() as connection:
            possible = await vectors.make_graph(connection, self._embeddings.dimensions)
        while possible and ns is not None:
            async with self._database.transaction() as connection:
                complete = await vectors.grow(connection, ns)
            if complete:
                async with self._database.connection() as connection:
                    ns = await vectors.growing(connection)


def _text(unit: Waiting) -> str:
    content = unit.content
    return analysis.embedded_text(content.speaker, content.text[:_TEXT_CHARACTERS_MAX])


def _batches(taken: list[Waiting]) -> list[list[Waiting]]:
    """Bounded in characters: a few long texts are as much work as many short ones."""
    found: list[list[Waiting]] = []
    size = _BATCH_CHARACTERS_MAX
    for unit in taken:
        length = min(len(unit.content.text), _TEXT_CHARACTERS_MAX)
        if size + length > _BATCH_CHARACTERS_MAX:
            found.append([])
            size = 0
        found[-1].append(unit)
        size += length
    return found
