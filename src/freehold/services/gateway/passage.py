"""Calls through a gateway that are no MCP: HTTP targets, agents of this platform, models.

The order: the path, the limits, the rules, the credential, one request out, its bytes back.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from freehold.kernel import tracing
from freehold.kernel.body import Body, BytesBody
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    NotImplementedYet,
    ValidationFailed,
)
from freehold.ports.enforcement import Enforcement, GovernedCall, GovernedGateway
from freehold.ports.limits import RateLimiter
from freehold.ports.mcp import Door
from freehold.ports.passages import Passing
from freehold.ports.targets import Credential, Json
from freehold.ports.web import Unreachable, Web, WebStream
from freehold.services.gateway import forwarding, limits
from freehold.services.gateway.agent_cards import (
    CARD_BYTES_MAX,
    CARD_PATH,
    is_card,
    of_our_agent,
    through_gateway,
)
from freehold.services.gateway.agent_sessions import (
    MCP_SESSION_HEADER,
    SESSION_HEADER,
    AgentSession,
)
from freehold.services.gateway.breaker import Breakers, Open
from freehold.services.gateway.catalog import Behind
from freehold.services.gateway.flow import Flow, TargetError, pieces
from freehold.services.gateway.inference import PREFIX, Inference, Provider, provider_of
from freehold.services.gateway.limits import Admission, Facts, LimitRules, iam_principal
from freehold.services.gateway.model import PAYLOAD_BYTES_MAX
from freehold.services.gateway.ports import ConsentNeeded, Outbound, RuntimeCall, Runtimes
from freehold.services.gateway.rules import Asked, Rules

_IDLE_SECONDS_MAX = 300.0
_CUSTOM_PREFIX = "x-amzn-bedrock-agentcore-runtime-custom-"
_AWAY = frozenset({502, 503, 504})
_NO_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_HTTP = ("http.passthrough", "http.agentcoreRuntime", "http.connector")


class ConsentRequired(FreeholdError):
    """403: a person has to agree at a provider. `fields` say where."""

    code = "ConsentRequired"
    status = 403


class Plan:
    """One gateway, as calls past MCP see it. `targets` are all that it has, ready or not."""

    def __init__(
        self,
        targets: Sequence[Behind],
        *,
        rules: Rules | None = None,
        limits: LimitRules | None = None,
        connectors: Mapping[str, Provider] | None = None,
        governed: GovernedGateway | None = None,
    ) -> None:
        self.targets = {each.name: each for each in targets}
        self.rules, self.limits = rules or Rules(), limits or LimitRules()
        self.governed = governed
        providers = {}
        for each in targets:
            if each.place.kind.startswith("inference.") and each.status == "READY":
                with contextlib.suppress(ValidationFailed):  # the target says it of itself
                    providers[each.name] = provider_of(each.place, connectors or {})
        self.inference = Inference(providers)

    def http(self, name: str) -> Behind | None:
        found = self.targets.get(name)
        return found if found is not None and found.place.kind in _HTTP else None


class Plans(Protocol):
    async def plan(self, door: Door) -> Plan:
        """Out of the worker's memory, as long as nothing of the gateway changes."""


class Ways:
    """What every way out has in common: limits, credentials, requests."""

    def __init__(
        self,
        *,
        web: Web,
        outbound: Outbound,
        limiter: RateLimiter,
        breakers: Breakers,
        enforcement: Enforcement | None = None,
    ) -> None:
        self.web, self.outbound = web, outbound
        self.limiter, self.breakers = limiter, breakers
        self._enforcement = enforcement

    async def decided(self, plan: Plan, passing: Passing, behind: Behind, model: str = "") -> None:
        """Raises AccessDenied where the gateway's policies do not permit it; Unavailable."""
        gateway = plan.governed
        if gateway is None or not gateway.engine_arn:
            return
        if self._enforcement is None or behind.as_tool is None:
            raise AccessDenied("The policy engine is not usable.")
        request = passing.request
        refusal = await self._enforcement.decide(
            GovernedCall(
                gateway=gateway,
                tool=behind.as_tool,
                arguments={"method": passing.method, "path": passing.path}
                | ({"model": model} if model else {}),
                caller=request.caller,
                request_id=request.request_id,
                source=request.source,
            )
        )
        if refusal is not None:
            raise AccessDenied(refusal.text)

    async def admit(
        self, plan: Plan, passing: Passing, *, target: str, model: str = "", body: Any = None
    ) -> Admission:
        facts = Facts(
            caller=passing.request.caller,
            target=target,
            model=model,
            headers=passing.request.headers,
            body=body,
        )
        return await limits.admit(self.limiter, plan.limits, facts)

    async def credential(self, passing: Passing, behind: Behind, configuration: Json) -> Credential:
        request = passing.request
        try:
            return await self.outbound.credential(
                behind.place, configuration, caller=request.caller, request_id=request.request_id
            )
        except ConsentNeeded as needed:
            raise ConsentRequired(
                f"{behind.name}: the user has to agree to it first, at authorizationUrl.",
                target=behind.name,
                authorizationUrl=needed.url,
                sessionUri=needed.session,
            ) from None


def check_ready(behind: Behind) -> None:
    if behind.status != "READY":
        why = f" ({behind.why})" if behind.why else ""
        raise TargetError(behind.name, f"it is {behind.status}{why}", status=503)


class PassageService:
    """`ports.passages.Passages`. `inference` answers what is below `/inference`."""

    def __init__(
        self, *, plans: Plans, ways: Ways, inference: "InferenceWay", runtimes: Runtimes
    ) -> None:
        self._plans, self._ways = plans, ways
        self._inference, self._runtimes = inference, runtimes

    async def answer(self, passing: Passing) -> Flow:
        plan = await self._plans.plan(passing.door)
        forwarding.checked_path(passing.path)
        first, slash, rest = passing.path[1:].partition("/")
        if first == PREFIX:
            return await self._inference.answer(plan, passing, slash + rest)
        return await self._http(plan, passing, first, slash + rest)

    async def _http(self, plan: Plan, passing: Passing, name: str, rest: str) -> Flow:
        named = plan.http(name)
        body = passing.body
        content: Any = None
        if plan.limits.reads_body:
            raw = await whole(body)
            body, content = BytesBody(raw), json_of(raw)
        target = name if named is not None else ""
        admission = await self._ways.admit(plan, passing, target=target, body=content)
        try:
            behind, rest = self._routed(plan, passing, named, name, rest)
            passing.noted["target"] = behind.name
            tracing.describe(
                f"gateway {behind.name}",
                {"freehold.target": behind.name, "freehold.gateway.id": passing.door.gateway_id},
            )
            check_ready(behind)
            await self._ways.decided(plan, passing, behind)
            flow = await self._sent(passing, behind, rest, body)
        except BaseException:
            await admission.leave()
            raise
        flow.finally_(admission.leave)
        return flow

    def _routed(
        self, plan: Plan, passing: Passing, named: Behind | None, name: str, rest: str
    ) -> tuple[Behind, str]:
        """By the rules, else by name. A path that names no target goes on whole."""
        headers = passing.request.headers
        stickiness = named.place.configuration.get("stickinessConfiguration") if named else None
        asked = Asked(
            path=passing.path,
            principal=iam_principal(passing.request.caller),
            session=forwarding.session_of(headers, stickiness),
        )
        route = plan.rules.route(asked) if plan.rules else None
        if route is None:
            if named is None:
                raise NotFound(f"This gateway has no HTTP target {name[:100]}.")
            return named, rest
        target = route.steps[0].target
        behind = plan.http(target)
        if behind is None:
            raise TargetError(target, "a rule routes here, and it is no HTTP target", status=503)
        passing.noted["route"] = f"{route.rule} {route.variant}".strip()
        return behind, rest if named is not None else passing.path

    async def _sent(self, passing: Passing, behind: Behind, rest: str, body: Body) -> Flow:
        kind = behind.place.kind
        if kind == "http.connector":
            raise NotImplementedYet(
                f"{behind.name}: HTTP connectors are not offered here; a passthrough target can"
                " name the endpoint."
            )
        try:
            with self._ways.breakers.of(behind.place.target_id, behind.breaker_seconds) as attempt:
                send = self._to_agent if kind == "http.agentcoreRuntime" else self._through
                try:
                    flow = await send(passing, behind, rest, body)
                except TargetError:
                    attempt.failed()
                    raise
                if flow.status in _AWAY:
                    attempt.failed()
                else:
                    attempt.went_well()
                return flow
        except Open as error:
            raise TargetError(
                behind.name, str(error), status=503, retry_after=error.seconds
            ) from None

    async def _through(self, passing: Passing, behind: Behind, rest: str, body: Body) -> Flow:
        configuration = behind.place.configuration
        protocol = str(configuration.get("protocolType") or "")
        credential = await self._ways.credential(passing, behind, behind.credential)
        url = forwarding.target_url(configuration, rest, passing.query, behind.query)
        url = forwarding.with_query(url, credential.query)
        headers = forwarding.asked_headers(passing.request.headers, behind.headers, protocol)
        outgoing = _Outgoing(passing.method, body)
        content = await outgoing.content(signed=credential.signer is not None)
        headers |= outgoing.headers | {k.lower(): v for k, v in credential.headers.items()}
        if credential.signer is not None:
            assert not isinstance(content, AsyncIterator)
            signed = credential.signer(passing.method, url, headers, content or b"")
            headers |= {name.lower(): value for name, value in signed.items()}
        try:
            stream = await self._ways.web.open(
                passing.method,
                url,
                headers=headers,
                body=content,
                seconds_max=behind.seconds,
                idle_seconds_max=_IDLE_SECONDS_MAX,
            )
        except Unreachable as error:
            if outgoing.failure is not None:
                raise outgoing.failure from None
            raise unreachable(behind.name, error) from None
        if protocol == "A2A" and stream.status == 200 and is_card(passing.method, rest):
            return await _card(stream, passing, behind)
        return _answer_of(stream, passing, behind, url)

    async def _to_agent(self, passing: Passing, behind: Behind, rest: str, body: Body) -> Flow:
        card = is_card(passing.method, rest)
        if not card and (passing.method != "POST" or rest.rstrip("/") not in ("", "/invocations")):
            raise NotFound(
                f"{behind.name} is an agent: it takes POST /invocations, and GET {CARD_PATH} where "
                "it speaks A2A."
            )
        request, configuration = passing.request, behind.place.configuration
        headers = forwarding.asked_headers(request.headers, behind.headers, "A2A")
        headers |= forwarding.asked_headers(request.headers, behind.headers, "MCP")
        headers |= {k: v for k, v in request.headers.items() if k.startswith(_CUSTOM_PREFIX)}
        session = AgentSession(behind.place, request.caller, behind.credential, request.headers)
        call = RuntimeCall(
            caller=request.caller,
            credential=await self._ways.credential(passing, behind, behind.credential),
            tenant=behind.place.tenant,
            arn=str(configuration["arn"]),
            qualifier=configuration.get("qualifier"),
            session_id=session.id,
            user=session.user,
            request_id=request.request_id,
            headers=headers,
            body=body,
            mcp_session=session.mcp,
            card=card,
        )
        try:
            answer = await self._runtimes.invoke(call)
        except Unreachable as error:
            raise unreachable(behind.name, error) from None
        returned = forwarding.answered_headers(answer.headers, behind.answer_headers)
        returned.pop("content-length", None)
        returned["content-type"] = answer.content_type
        if answer.session_id:
            returned[SESSION_HEADER] = session.shown(answer.session_id)
        if answer.mcp_session is not None:
            returned[MCP_SESSION_HEADER] = session.shown(answer.mcp_session)
        if card and answer.status == 200 and isinstance(answer.body, bytes):
            own = f"{request.origin}/gateway/{passing.door.gateway_id}/{behind.name}"
            return Flow(answer.status, returned, of_our_agent(answer.body, own))
        aclose = getattr(answer.body, "aclose", None)
        return Flow(answer.status, returned, answer.body, drop=aclose or (lambda: None))


class InferenceWay(Protocol):
    async def answer(self, plan: Plan, passing: Passing, path: str) -> Flow: ...


class _Outgoing:
    """A request's body on its way out. `failure` is what ended it on our side of it."""

    def __init__(self, method: str, body: Body) -> None:
        self._method, self._body = method, body
        self.failure: Exception | None = None
        self.headers: dict[str, str] = {}

    async def content(self, *, signed: bool) -> bytes | AsyncIterator[bytes] | None:
        size = self._body.size_bytes
        if size == 0 or (size is None and self._method in _NO_BODY):
            return None
        if signed:
            return await whole(self._body)
        if size is not None:
            self.headers["content-length"] = str(size)
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body.chunks():
                yield chunk
        except Exception as error:  # whatever it was, the caller's side failed, not the target's
            self.failure = error
            raise


def _answer_of(stream: WebStream, passing: Passing, behind: Behind, url: str) -> Flow:
    headers = forwarding.answered_headers(stream.headers, behind.answer_headers)
    location = headers.pop("location", None)
    if location is not None:
        own = f"/gateway/{passing.door.gateway_id}/{behind.name}"
        endpoint = str(behind.place.configuration["endpoint"])
        returned = forwarding.returned_location(location, url, endpoint, own)
        if returned is not None:
            headers["location"] = returned
    source = pieces(behind.name, b"", stream.chunks())
    return Flow(stream.status, headers, source, drop=stream.close)


async def _card(stream: WebStream, passing: Passing, behind: Behind) -> Flow:
    try:
        raw = await stream.read(CARD_BYTES_MAX)
    except Unreachable as error:
        raise unreachable(behind.name, error) from None
    finally:
        stream.close()
    endpoint = str(behind.place.configuration["endpoint"])
    own = f"{passing.request.origin}/gateway/{passing.door.gateway_id}/{behind.name}"
    card = through_gateway(raw, endpoint, own)
    headers = forwarding.answered_headers(stream.headers, behind.answer_headers)
    headers["content-length"] = str(len(card))
    headers.pop("etag", None)
    return Flow(stream.status, headers, card)


def unreachable(target: str, error: Unreachable) -> TargetError:
    return TargetError(target, str(error), status=504 if error.timed_out else 502)


async def whole(body: Body) -> bytes:
    if (body.size_bytes or 0) > PAYLOAD_BYTES_MAX:
        raise ValidationFailed(f"The body must not be larger than {PAYLOAD_BYTES_MAX} bytes here.")
    found = bytearray()
    async for chunk in body.chunks():
        found += chunk
        if len(found) > PAYLOAD_BYTES_MAX:
            raise ValidationFailed(
                f"The body must not be larger than {PAYLOAD_BYTES_MAX} bytes here."
            )
    return bytes(found)


def json_of(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return None
