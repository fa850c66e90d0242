"""Calls of models through a gateway: routed by the model, on to the next target where one fails,
and counted."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from freehold.kernel.errors import FreeholdError, NotFound, Unavailable
from freehold.ports.passages import Passing
from freehold.ports.replay import Replays
from freehold.ports.targets import Json
from freehold.ports.usage import UsageReader
from freehold.ports.web import Unreachable, WebStream
from freehold.services.gateway import forwarding, inference
from freehold.services.gateway.breaker import Attempt
from freehold.services.gateway.catalog import Behind
from freehold.services.gateway.flow import (
    Counted,
    Flow,
    TargetError,
    WithoutUsage,
    first_of,
    pieces,
)
from freehold.services.gateway.forks import Forks, Live
from freehold.services.gateway.inference import CHAT, COUNT_TOKENS, MODELS_PATH, Choice, Unroutable
from freehold.services.gateway.limits import Admission, iam_principal
from freehold.services.gateway.passage import Plan, Ways, unreachable, whole
from freehold.services.gateway.rules import Asked, Fault, Route, Step
from freehold.services.gateway.traces import ModelCall

log = logging.getLogger("freehold.gateway")

_IDLE_SECONDS_MAX = 300.0
_LIST_SECONDS_MAX = 10.0
_LIST_BYTES_MAX = 4 << 20
_PROTOCOL = "INFERENCE"

MakeReader = Callable[[str, dict[str, str]], UsageReader]


class _Missed(Exception):
    """A step that did not do, and may be followed by the next: `fault`, or a status."""

    def __init__(self, error: FreeholdError, what: str, fault: Fault | None = None) -> None:
        super().__init__(what)
        self.error, self.what, self.fault = error, what, fault


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """An answer whose first bytes are here, where somebody waited for them."""

    behind: Behind
    choice: Choice
    stream: WebStream
    head: bytes
    rest: AsyncIterator[bytes]


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model, whichever target it will go to."""

    plan: Plan
    passing: Passing
    path: str
    prompt: inference.Prompt
    choice: Choice | None
    """By the model alone."""
    with_usage: bool = False


class Completions:
    """What is below a gateway's `/inference`: OpenAI's and Anthropic's paths."""

    def __init__(self, *, ways: Ways, reader: MakeReader, replays: Replays | None = None) -> None:
        self._ways, self._reader, self._forks = ways, reader, Forks(replays)

    async def answer(self, plan: Plan, passing: Passing, path: str) -> Flow:
        path = "/" + path.strip("/")
        if passing.method == "GET" and (path + "/").startswith(MODELS_PATH + "/"):
            return await self._models(plan, passing, path[len(MODELS_PATH) + 1 :])
        if passing.method != "POST":
            raise NotFound(f"{passing.method} {path[:200]} is nothing that inference targets take.")
        raw = await whole(passing.body)
        prompt = inference.Prompt(raw)
        passing.noted["model"] = prompt.model[:256]
        told: Mapping[str, Any] = {}
        match await self._forks.model(passing, path, prompt, raw):
            case Flow() as flow:
                return flow
            case Live() as live:
                raw, told, prompt = live.body, live.told, inference.Prompt(live.body)
        choice, nobody = None, ""
        try:
            choice = plan.inference.choose(path, prompt.model)
        except Unroutable as error:
            nobody = str(error)
        # Limits look at what the call asks for; rules, behind them, may send it elsewhere.
        admission = await self._ways.admit(
            plan,
            passing,
            target=choice.target if choice else "",
            model=choice.model if choice else prompt.model,
            body=prompt.document() if plan.limits.reads_body else None,
        )
        try:
            route = self._route(plan, passing, path, prompt, choice)
            if route is None:
                raise NotFound(f"{nobody[:1].upper()}{nobody[1:]}.")
            order = _Order(
                plan=plan,
                passing=passing,
                path=path,
                prompt=prompt,
                choice=choice,
                with_usage=admission.counts_tokens
                and path == CHAT
                and prompt.streams
                and not prompt.reports_usage,
            )
            call = ModelCall(path, order.prompt.model, raw, told=told)
            with call.beginning():
                begun = await self._along(order, route)
        except BaseException:
            await admission.leave()
            raise
        return self._flow(order, begun, admission, call, len(raw))

    def _route(
        self,
        plan: Plan,
        passing: Passing,
        path: str,
        prompt: inference.Prompt,
        choice: Choice | None,
    ) -> Route | None:
        name, _, rest = prompt.model.partition("/")
        asked = Asked(
            path=f"/{inference.PREFIX}{path}",
            principal=iam_principal(passing.request.caller),
            # Naming a target leads past no rule for the model.
            model=rest if name in plan.inference.providers else prompt.model,
            session=forwarding.session_of(passing.request.headers, None),
        )
        route = plan.rules.route(asked) if plan.rules else None
        if route is None:
            return None if choice is None else Route(steps=(Step(target=choice.target),))
        passing.noted["route"] = f"{route.rule} {route.variant}".strip()
        return route

    async def _along(self, order: _Order, route: Route) -> _Begun:
        """The first step that does. Raises what the last one did where none does."""
        tried: list[str] = []
        last = len(route.steps) - 1
        missed: FreeholdError = Unavailable("No target of the route could be asked.")
        for number, step in enumerate(route.steps):
            try:
                begun = await self._step(order, route, step, is_last=number == last)
            except _Missed as miss:
                tried.append(f"{step.target} {miss.what}")
                order.passing.noted["tried"] = "; ".join(tried)[:500]
                missed = miss.error
                if miss.fault is not None and not step.triggers.on(miss.fault):
                    break
                continue
            order.passing.noted.update(target=begun.behind.name, model=begun.choice.model[:256])
            return begun
        order.passing.noted.setdefault("target", route.steps[0].target[:100])
        raise missed

    async def _step(self, order: _Order, route: Route, step: Step, *, is_last: bool) -> _Begun:
        try:
            choice = self._choice(order, route, step)
        except Unroutable as error:
            words = str(error)
            missing = NotFound(f"{words[:1].upper()}{words[1:]}.", target=step.target)
            raise _Missed(missing, "is unroutable", "UNROUTABLE") from None
        behind = order.plan.targets[choice.target]
        key = f"{behind.place.target_id}|{choice.model}"
        seconds = behind.breaker_seconds if route.breaker else 0.0
        if not is_last and self._ways.breakers.seconds_left(key, seconds) > 0:
            raise _Missed(TargetError(step.target, "its last calls failed", status=503), "is open")
        # The last one is always tried.
        with self._ways.breakers.of(key, 0.0 if is_last else seconds) as attempt:
            begun = await self._asked(order, step, behind, choice, attempt, wait=not is_last)
        status = begun.stream.status
        if not is_last and step.triggers.on_status(status):
            begun.stream.close()
            refused = TargetError(step.target, f"it answers {status}", status=502)
            raise _Missed(refused, f"answers {status}")
        return begun

    @staticmethod
    def _choice(order: _Order, route: Route, step: Step) -> Choice:
        if not route.rule and order.choice is not None:
            return order.choice
        routing, own = order.plan.inference, order.prompt.model
        name, _, rest = own.partition("/")
        own = rest if name in routing.providers else own
        return routing.at(step.target, order.path, step.model or own, chosen=bool(step.model))

    async def _asked(
        self,
        order: _Order,
        step: Step,
        behind: Behind,
        choice: Choice,
        attempt: Attempt,
        *,
        wait: bool,
    ) -> _Begun:
        """`wait` for the first byte: until then the next target can still take over."""
        seconds = step.first_byte_seconds
        try:
            async with asyncio.timeout(seconds):
                stream = await self._opened(order, behind, choice)
                try:
                    rest = stream.chunks()
                    head = await first_of(rest) if wait or seconds is not None else b""
                except BaseException:
                    stream.close()
                    raise
        except TimeoutError:
            attempt.failed()
            late = f"no first byte within {seconds:g} seconds"
            error = TargetError(behind.name, late, status=504)
            raise _Missed(error, "is late", "FIRST_BYTE_TIMEOUT") from None
        except Unreachable as unreached:
            attempt.failed()
            late_one = unreached.timed_out and unreached.sent
            fault: Fault = "FIRST_BYTE_TIMEOUT" if late_one else "CONNECTION_ERROR"
            what = "is late" if late_one else "cannot be reached"
            raise _Missed(unreachable(behind.name, unreached), what, fault) from None
        if stream.status >= 500:
            attempt.failed()
        else:
            attempt.went_well()
        return _Begun(behind=behind, choice=choice, stream=stream, head=head, rest=rest)

    async def _opened(self, order: _Order, behind: Behind, choice: Choice) -> WebStream:
        provider = order.plan.inference.providers[behind.name]
        passing = order.passing
        await self._ways.decided(order.plan, passing, behind, choice.model)
        credential = await self._ways.credential(
            passing, behind, inference.with_defaults(behind.credential, provider)
        )
        # Anthropic's client says "beta" there; a query has nothing else to do with models.
        url = forwarding.target_url(
            {"endpoint": provider.endpoint}, choice.path, passing.query, behind.query | {"beta"}
        )
        url = forwarding.with_query(url, credential.query)
        body = order.prompt.encoded(choice.model, with_usage=order.with_usage)
        headers = {
            **provider.headers,
            **forwarding.asked_headers(passing.request.headers, behind.headers, _PROTOCOL),
            "content-type": "application/json",
            **{name.lower(): value for name, value in credential.headers.items()},
        }
        headers.pop("content-encoding", None)
        if credential.signer is not None:
            signed = credential.signer("POST", url, headers, body)
            headers |= {name.lower(): value for name, value in signed.items()}
        return await self._ways.web.open(
            "POST",
            url,
            headers=headers,
            body=body,
            seconds_max=behind.seconds,
            idle_seconds_max=_IDLE_SECONDS_MAX,
        )

    def _flow(
        self,
        order: _Order,
        begun: _Begun,
        admission: Admission,
        call: ModelCall,
        asked_bytes: int,
    ) -> Flow:
        stream, noted = begun.stream, order.passing.noted
        headers = forwarding.answered_headers(stream.headers, begun.behind.answer_headers)
        headers.pop("location", None)
        source = pieces(begun.behind.name, begun.head, begun.rest)
        reader = self._reader(headers.get("content-type", ""), dict(stream.headers))
        counted = Counted(reader, asked_bytes, heard=call.heard)
        configuration = begun.behind.place.configuration
        call.answering(begun.choice, configuration, stream.status, stream.headers)
        without = WithoutUsage() if order.with_usage and stream.status == 200 else None
        if without is not None:
            headers.pop("content-length", None)

        async def settle() -> None:
            try:
                if stream.status < 400 and order.path != COUNT_TOKENS:
                    tokens = counted.tokens()
                    noted["tokens"] = f"{tokens}{' (guessed)' if counted.guessed else ''}"
                    await admission.spent(tokens)
            finally:
                call.end(reader, stream.headers)
                await admission.leave()

        return Flow(
            stream.status,
            headers,
            counted.through(source, without),
            drop=stream.close,
            at_end=settle,
        )

    async def _models(self, plan: Plan, passing: Passing, wanted: str) -> Flow:
        """Of all targets together; those that do not say theirs are named, and hold up nobody."""
        routing = plan.inference
        admission = await self._ways.admit(plan, passing, target="")
        try:
            asking = [name for name in routing.providers if routing.asks_for_models(name)]
            answers = await asyncio.gather(*(self._listed(plan, passing, name) for name in asking))
        finally:
            await admission.leave()
        found = routing.named()
        for name, answer in zip(asking, answers, strict=True):
            found += [(name, id) for id in answer or () if routing.offers(name, id)]
        unavailable = [n for n, answer in zip(asking, answers, strict=True) if answer is None]
        document = inference.models_document(found, unavailable)
        if wanted:
            document = _one_of(document, wanted)
        body = msgspec.json.encode(document)
        return Flow(
            200, {"content-type": "application/json", "content-length": str(len(body))}, body
        )

    async def _listed(self, plan: Plan, passing: Passing, name: str) -> list[str] | None:
        provider, behind = plan.inference.providers[name], plan.targets[name]
        try:
            await self._ways.decided(plan, passing, behind)
            credential = await self._ways.credential(
                passing, behind, inference.with_defaults(behind.credential, provider)
            )
            url = forwarding.with_query(provider.endpoint + MODELS_PATH, credential.query)
            headers: dict[str, str] = {**provider.headers, **_lower(credential.headers)}
            if credential.signer is not None:
                headers |= _lower(credential.signer("GET", url, headers, b""))
            answer = await self._ways.web.ask(
                "GET", url, headers=headers, bytes_max=_LIST_BYTES_MAX,
                seconds_max=_LIST_SECONDS_MAX,
            )  # fmt: skip
        except (FreeholdError, Unreachable) as error:
            log.info("models of %s are not listed: %s", name, error)
            return None
        with contextlib.suppress(msgspec.MsgspecError):
            if answer.status == 200:
                listed = msgspec.json.decode(answer.body, type=_Listed)
                return [each.id for each in listed.data]
        return None


class _Model(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_Model]


def _one_of(document: Json, wanted: str) -> Json:
    for model in document["data"]:
        if wanted in (model["id"], f"{model['owned_by']}/{model['display_name']}"):
            found: Json = model
            return found
    raise NotFound(f"No target of this gateway has the model {wanted[:200]}.")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
