"""The scripted model for tests that are not asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from freehold.testing.scripted_model import DEFAULT_SCRIPT, Script, ScriptedModel

MODEL_KEY = "sk-the-key-that-no-session-sees"


class ServedModel:
    """The scripted model in a thread of its own, for tests that are not asynchronous."""

    def __init__(self, script: Script = DEFAULT_SCRIPT) -> None:
        self.model = ScriptedModel(script, before_piece=self._before_piece)
        self._gate: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "ServedModel":
        self._thread.start()
        self._run(self.model.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.model.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Inside, an answer stops after its first piece, until what this gives is called."""
        gate = self._gate = asyncio.Event()

        def release() -> None:
            self._loop.call_soon_threadsafe(gate.set)

        try:
            yield release
        finally:
            self._gate = None
            release()

    async def _before_piece(self, number: int) -> None:
        if number > 0 and self._gate is not None:
            await self._gate.wait()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)
