"""The platform's own calls of models, as spans of what it calls them for."""

from collections.abc import AsyncIterator, Sequence

from freehold.kernel import tracing
from freehold.kernel.errors import FreeholdError
from freehold.kernel.tracing import Kind, Span
from freehold.ports.model_spans import PROVIDERS, usage_attributes
from freehold.ports.models import Completion, Message, ModelProvider, Models, Tool


class TracedModels:
    """`ports.models.Models` over another one. Where nothing is traced it changes nothing."""

    def __init__(self, models: Models, provider: ModelProvider) -> None:
        self._models, self._provider = models, provider

    async def close(self) -> None:
        await self._models.close()

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> Completion:
        span = self._begun(model)
        with tracing.within(span):
            try:
                completion = await self._models.complete(
                    messages, tools=tools, model=model, output_tokens_max=output_tokens_max
                )
            except FreeholdError as error:
                span.fail(error.code)
                raise
            _tell(span, completion)
        return completion

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        span = self._begun(model)
        try:
            async for piece in self._models.stream(
                messages, tools=tools, model=model, output_tokens_max=output_tokens_max
            ):
                if isinstance(piece, Completion):
                    _tell(span, piece)
                yield piece
        except BaseException as error:
            span.fail(error.code if isinstance(error, FreeholdError) else type(error).__name__)
            raise
        finally:
            span.end()

    def _begun(self, model: str) -> Span:
        model = model or self._provider.default_model
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS[self._provider.kind],
            "gen_ai.request.model": model,
            "freehold.metered": True,
        }
        around = tracing.current()
        if around is None:
            return Span(
                tracing.Trail(None), "chat", kind=Kind.CLIENT, parent=None, attributes=attributes
            )
        return around.child(f"chat {model}", kind=Kind.CLIENT, attributes=attributes)


def _tell(span: Span, completion: Completion) -> None:
    if completion.model:
        span.attributes["gen_ai.response.model"] = completion.model
    span.attributes |= usage_attributes(completion.usage)
