"""Targets of the kind mcp.openApiSchema: `ports.targets.TargetClient`."""

import asyncio
from typing import Any

from freehold.adapters.targets.openapi import answers
from freehold.adapters.targets.openapi.conversion import TOOLS_MAX, Conversion
from freehold.adapters.targets.openapi.operations import IDEMPOTENT
from freehold.adapters.targets.openapi.plan import loaded
from freehold.adapters.targets.openapi.requests import Requests
from freehold.adapters.targets.openapi.styles import BadArgument
from freehold.adapters.targets.sending import send
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Described, Errand, Json, Place
from freehold.ports.web import Unreachable, Web

_ANSWER_BYTES_MAX = 4 << 20
_DOCUMENT_BYTES_MAX = 4 << 20
_DOCUMENT_SECONDS_MAX = 10.0
_FETCHED_AT_ONCE = 4
_KEPT_MAX = 8192


class OpenApiTargets:
    def __init__(
        self,
        web: Web,
        *,
        answer_bytes_max: int = _ANSWER_BYTES_MAX,
        tools_max: int = TOOLS_MAX,
    ) -> None:
        self._web, self._answer_bytes_max, self._tools_max = web, answer_bytes_max, tools_max
        # By the plan's identity: whoever calls keeps definitions, and the plan is kept here too,
        # so that no other object gets its number.
        self._kept: dict[int, tuple[Json, Requests]] = {}

    async def describe(self, place: Place, errand: Errand) -> Described:
        """Raises ValidationFailed. Documents that this one refers to are fetched without a
        credential: it is the API's, and they may stand anywhere."""
        text = place.configuration.get("inlinePayload")
        if not isinstance(text, str) or not text.strip():
            raise ValidationFailed("The target has no OpenAPI document (inlinePayload).")
        # Off the loop: a large document takes seconds.
        conversion = await asyncio.to_thread(Conversion, text)
        while urls := conversion.missing():
            for at in range(0, len(urls), _FETCHED_AT_ONCE):
                several = urls[at : at + _FETCHED_AT_ONCE]
                found = await asyncio.gather(*(self._fetched(url) for url in several))
                for url, (content, why) in zip(several, found, strict=True):
                    if content is None:
                        conversion.fail(url, why)
                    else:
                        await asyncio.to_thread(conversion.add, url, content)
        return await asyncio.to_thread(conversion.described, tools_max=self._tools_max)

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        requests = self._requests(definition.plan)
        try:
            call = requests.call(arguments)
        except BadArgument as error:
            return answers.failed(str(error))
        answer = await send(
            self._web,
            call,
            errand,
            bytes_max=self._answer_bytes_max,
            safe=call.method.lower() in IDEMPOTENT,
        )
        return answers.result(
            answer,
            definition.name,
            structured=requests.plan.structured,
            answer_bytes_max=self._answer_bytes_max,
        )

    async def _fetched(self, url: str) -> tuple[bytes | None, str]:
        try:
            answer = await self._web.ask(
                "GET",
                url,
                headers={"accept": "application/json, application/yaml, */*;q=0.5"},
                bytes_max=_DOCUMENT_BYTES_MAX,
                seconds_max=_DOCUMENT_SECONDS_MAX,
            )
        except Unreachable as error:
            return None, str(error).rstrip(".")
        if answer.status != 200:
            return None, f"its server answered {answer.status}"
        return answer.body, ""

    def _requests(self, plan: dict[str, Any]) -> Requests:
        kept = self._kept.get(id(plan))
        if kept is not None:
            return kept[1]
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        requests = Requests(loaded(plan))
        self._kept[id(plan)] = (plan, requests)
        return requests
