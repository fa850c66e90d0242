"""`ports.targets.TargetClient` for services that a Smithy model describes."""

import asyncio
from collections import OrderedDict

from freehold.adapters.targets.sending import send
from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.answer import result
from freehold.adapters.targets.smithy.convert import TOOLS_MAX, convert
from freehold.adapters.targets.smithy.endpoints import region_of
from freehold.adapters.targets.smithy.request import request
from freehold.adapters.targets.smithy.scalars import BadArgument
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Described, Errand, Json, Place, TargetFailed
from freehold.ports.web import Web

# What is longer takes so long to read that others would wait for it.
_MODEL_INLINE_CHARACTERS_MAX = 32 * 1024
_ANSWER_INLINE_BYTES_MAX = 64 * 1024
_READ_MAX = 4096


class SmithyTargets:
    """Keeps nothing but plans that it has read."""

    def __init__(
        self, web: Web, *, answer_bytes_max: int = 6 << 20, tools_max: int = TOOLS_MAX
    ) -> None:
        self._web, self._bytes_max, self._tools_max = web, answer_bytes_max, tools_max
        self._read: OrderedDict[tuple[str, str], tuple[Json, plans.Plan]] = OrderedDict()

    async def describe(self, place: Place, errand: Errand) -> Described:
        """Nobody is asked: the model says all of it."""
        text = place.configuration.get("inlinePayload")
        if not isinstance(text, str) or not text:
            raise ValidationFailed("A Smithy target needs a model: inlinePayload is empty.")
        region = region_of(place.gateway_arn)
        # No member of AgentCore's own: a target made by our own means may have it.
        given = place.configuration.get("endpoint", "")
        endpoint = given if isinstance(given, str) else ""
        if len(text) < _MODEL_INLINE_CHARACTERS_MAX:
            described = convert(text, region=region, endpoint=endpoint, tools_max=self._tools_max)
        else:
            described = await asyncio.to_thread(
                convert, text, region=region, endpoint=endpoint, tools_max=self._tools_max
            )
        if "endpoint" not in described.server:
            raise ValidationFailed(
                "The model does not say where its service is: add the trait"
                " smithy.rules#endpointRuleSet with an endpoint, or aws.api#service with an"
                " endpointPrefix."
            )
        return described

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        plan = self._plan(place, definition)
        endpoint = place.server.get("endpoint")
        if not isinstance(endpoint, str):
            raise TargetFailed(
                "It is not known where the service is: synchronize the target.", retriable=True
            )
        by_hand = place.server.get("endpointFrom") == "configuration"
        try:
            call = request(plan, arguments, endpoint, host_prefixed=not by_hand)
        except BadArgument as error:
            text = f"The request was not sent: {error}."
            return {"content": [{"type": "text", "text": text}], "isError": True}
        answer = await send(self._web, call, errand, bytes_max=self._bytes_max, safe=plan.safe)
        if len(answer.body) > _ANSWER_INLINE_BYTES_MAX:
            return await asyncio.to_thread(result, plan, answer)
        return result(plan, answer)

    def _plan(self, place: Place, definition: Definition) -> plans.Plan:
        """Read once for as long as the catalog holds the same definition."""
        key = (place.target_id, definition.name)
        kept = self._read.get(key)
        if kept is not None and kept[0] is definition.plan:
            return kept[1]
        plan = plans.read(definition.plan)
        self._read[key] = (definition.plan, plan)
        self._read.move_to_end(key)
        if len(self._read) > _READ_MAX:
            self._read.popitem(last=False)
        return plan
