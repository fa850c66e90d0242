"""The model, asked once for each step. It is tried again by the queue, later, or not at all."""

import asyncio
from collections.abc import Sequence

from freehold.kernel.errors import Throttled, Unavailable, ValidationFailed
from freehold.ports.models import Message, Models
from freehold.services.memory import strategies
from freehold.services.memory.model import Strategy

OUTPUT_TOKENS_MAX = 4096
_SECONDS_MAX = 120.0


class ExtractionFailed(Exception):
    """`again`: trying later may help. The reason is a sentence for the memory's owner."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


class Asking:
    def __init__(self, models: Models, *, seconds_max: float = _SECONDS_MAX) -> None:
        self._models, self._seconds_max = models, seconds_max

    async def ask(self, messages: Sequence[Message], *, model: str) -> str:
        """The answer's text. Raises ExtractionFailed."""
        try:
            async with asyncio.timeout(self._seconds_max):
                completion = await self._models.complete(
                    messages, model=model, output_tokens_max=OUTPUT_TOKENS_MAX
                )
        except TimeoutError:
            raise ExtractionFailed(
                f"the model did not answer in {self._seconds_max:g} seconds", again=True
            ) from None
        except (Unavailable, Throttled) as error:
            raise ExtractionFailed(
                f"the model cannot be had: {error.message}", again=True
            ) from None
        except ValidationFailed as error:
            raise ExtractionFailed(
                f"the model refuses the request: {error.message}", again=False
            ) from None
        return completion.text


def said_of(strategy: Strategy, step: str) -> tuple[str, str]:
    """What the memory's owner adds to a step's prompt, and the model they chose; "" for none."""
    found = strategies.override(strategy, step)
    return (found.prompt, found.model_id) if found else ("", "")
