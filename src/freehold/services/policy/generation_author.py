"""The model as an author of policies: asked, asked again, and given up."""

import asyncio
from collections.abc import Sequence

from freehold.kernel.errors import Throttled, Unavailable, ValidationFailed
from freehold.ports.models import Completion, Message, Models, Tool
from freehold.services.policy import generation_prompt as prompt
from freehold.services.policy.generation_prompt import Brief, Candidate, Unreadable

PAUSES_SECONDS = (1.0, 5.0, 20.0)
_OUTPUT_TOKENS_MAX = 8192
_SECONDS_MAX = 120.0
_UNREADABLE_MAX = 3


class GenerationFailed(Exception):
    """For good. The reason is a sentence for who asked."""


class Author:
    """`pauses_seconds` are those before another try, where the model cannot be had."""

    def __init__(self, models: Models, *, pauses_seconds: Sequence[float]) -> None:
        self._models, self._pauses = models, tuple(pauses_seconds)

    async def propose(self, brief: Brief) -> list[Candidate]:
        """Raises GenerationFailed."""
        complaint = ""
        for _ in range(1 + _UNREADABLE_MAX):
            completion = await self._ask(prompt.opening(brief, complaint))
            try:
                return prompt.read(completion)
            except Unreadable as error:
                complaint = str(error)
        raise GenerationFailed(f"the model's answers could not be used: {complaint}")

    async def correct(
        self, brief: Brief, candidate: Candidate, problems: Sequence[str]
    ) -> Candidate:
        """Raises GenerationFailed where the model cannot be had, Unreadable where it does not
        answer with one policy."""
        found = prompt.read(await self._ask(prompt.correction(brief, candidate, problems)))
        if len(found) != 1:
            raise Unreadable(f"expected one policy, and there were {len(found)}")
        return found[0]

    async def _ask(self, messages: list[Message]) -> Completion:
        """Not every model that answers in text takes tools: what refuses is asked without them."""
        try:
            return await self._asked(messages, [prompt.PROPOSE])
        except ValidationFailed:
            try:
                return await self._asked(messages, [])
            except ValidationFailed as error:
                raise GenerationFailed(f"the model refuses the request: {error.message}") from None

    async def _asked(self, messages: list[Message], tools: Sequence[Tool]) -> Completion:
        for pause in (*self._pauses, None):
            try:
                async with asyncio.timeout(_SECONDS_MAX):
                    return await self._models.complete(
                        messages, tools=tools, output_tokens_max=_OUTPUT_TOKENS_MAX
                    )
            except (Unavailable, Throttled, TimeoutError) as error:
                if pause is None:
                    said = getattr(error, "message", f"no answer in {_SECONDS_MAX:g} s")
                    raise GenerationFailed(f"the model cannot be had: {said}") from None
                await asyncio.sleep(pause)
        raise AssertionError("after the last pause it returns or raises")
