"""AgentCore's rate limits of a gateway: compiled once, matched to each call, taken together.

Each resource names dimensions; a call's values for them choose an entry, and a bucket of their own.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from freehold.kernel import ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Throttled, Unavailable, ValidationFailed
from freehold.ports.limits import FailureMode, Limit, RateLimiter
from freehold.ports.targets import Json
from freehold.services.gateway.model import TAG_LIMIT_FAILURE

ANY = "*"
_PERIODS = {"second": 1.0, "minute": 60.0}
_CLAIM, _IAM = "$.context.jwt.", "$.context.iam."
_HEADER, _BODY = "$.context.request.header.", "$.context.request.body."
_OF_THE_CALL = ("targetName", "toolName", "qualifiedModelId")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
_VALUE_LENGTH_MAX = 1024
_CONNECTION_SECONDS_MAX = 900.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one call. `tool` as clients name it (target___tool), `model` as it goes to its provider;
    empty where the call has none. `body` is its JSON, where a limit asks for that."""

    caller: Caller
    target: str = ""
    tool: str = ""
    model: str = ""
    headers: Mapping[str, str] = {}
    body: Any = None


class Places(msgspec.Struct, frozen=True):
    """`most` at once, of those that share `key`."""

    key: str
    most: int


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What one call has to keep within. `takes` has the limits of tokens too, at no cost."""

    takes: tuple[Limit, ...] = ()
    tokens: tuple[Limit, ...] = ()
    places: tuple[Places, ...] = ()


NOTHING = Applied()
_Resolve = Callable[[Facts], str | None]


class LimitRules:
    """All rate limits of one gateway. `failure`: what holds while they cannot be counted."""

    def __init__(self, rules: Sequence["_Rule"] = (), failure: FailureMode = "deny") -> None:
        self._rules = tuple(rules)
        self.failure = failure
        self.reads_body = any(rule.reads_body for rule in self._rules)
        self.counts_tokens = any(rule.counts_tokens for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def for_call(self, facts: Facts) -> Applied:
        """Every resource that has an entry for the call: all must allow it."""
        takes: list[Limit] = []
        tokens: list[Limit] = []
        places: list[Places] = []
        for rule in self._rules:
            rule.add(facts, takes, tokens, places)
        if not takes and not places:
            return NOTHING
        return Applied(takes=tuple(takes), tokens=tuple(tokens), places=tuple(places))


def compiled(
    owner: str, documents: Iterable[tuple[str, Json]], tags: Mapping[str, str] = {}
) -> LimitRules:
    """`owner` keeps gateways apart (tenant and gateway); documents by their id, members as
    CreateGatewayRateLimit has them; `tags` are the gateway's."""
    rules = [_Rule(f"{owner}|{id}", document) for id, document in documents]
    return LimitRules(rules, failure_mode(tags))


def failure_mode(tags: Mapping[str, str]) -> FailureMode:
    return "allow" if tags.get(TAG_LIMIT_FAILURE) == "allow" else "deny"


def check(document: Json) -> None:
    """Of a rate limit that is to be made. Raises ValidationFailed with words."""
    keys = document["dimensionKeys"]
    if len(set(keys)) != len(keys):
        raise ValidationFailed("dimensionKeys: each may stand there once.")
    for key in keys:
        _resolver(key)
    if any(key.startswith((_HEADER, _BODY)) for key in keys) and not any(
        key.startswith((_CLAIM, _IAM)) for key in keys
    ):
        raise ValidationFailed(
            "dimensionKeys: a caller chooses its headers and body itself; beside them there must be"
            f" a dimension of who calls ({_CLAIM}<claim> or {_IAM}principal)."
        )
    seen: set[tuple[str, ...]] = set()
    for index, entry in enumerate(document["entries"]):
        where = f"entries[{index}]"
        if set(entry["dimensions"]) != set(keys):
            raise ValidationFailed(f"{where}.dimensions: must have exactly {', '.join(keys)}.")
        values = tuple(entry["dimensions"][key] for key in keys)
        exact = len(values) - sum(value == ANY for value in values)
        if ANY in values[:exact]:
            raise ValidationFailed(f"{where}.dimensions: * may only stand in the last of them.")
        if values in seen:
            raise ValidationFailed(f"{where}.dimensions: an entry before it has the same.")
        seen.add(values)
        if not any(entry.get(metric) for metric in ("requests", "tokens", "connections")):
            raise ValidationFailed(f"{where}: must limit requests, tokens or connections.")


class _Entry(msgspec.Struct, frozen=True):
    requests: tuple[float, float] | None
    tokens: tuple[float, float] | None
    connections: int | None


class _Rule:
    def __init__(self, key: str, document: Json) -> None:
        keys: list[str] = document["dimensionKeys"]
        self._key = key
        self._resolvers = [_resolver(each) for each in keys]
        self._entries = {
            tuple(str(entry["dimensions"].get(each, ANY)) for each in keys): _entry(entry)
            for entry in document["entries"]
        }
        self.reads_body = any(each.startswith(_BODY) for each in keys)
        self.counts_tokens = any(entry.tokens for entry in self._entries.values())

    def add(
        self, facts: Facts, takes: list[Limit], tokens: list[Limit], places: list[Places]
    ) -> None:
        values: list[str] = []
        for resolve in self._resolvers:
            value = resolve(facts)
            if value is None:
                return
            values.append(value)
        entry = self._entry(values)
        if entry is None:
            return
        bucket = f"{self._key}|{msgspec.json.encode(values).decode()}"
        if entry.requests is not None:
            amount, seconds = entry.requests
            takes.append(Limit(key=f"{bucket}|requests", amount=amount, seconds=seconds))
        if entry.tokens is not None and facts.model:
            amount, seconds = entry.tokens
            limit = Limit(key=f"{bucket}|tokens", amount=amount, seconds=seconds, cost=0)
            takes.append(limit)
            tokens.append(limit)
        if entry.connections is not None:
            places.append(Places(f"{bucket}|connections", entry.connections))

    def _entry(self, values: Sequence[str]) -> _Entry | None:
        """The most exact one: from the last dimension on, values give way to *."""
        for exact in range(len(values), -1, -1):
            found = self._entries.get((*values[:exact], *(ANY,) * (len(values) - exact)))
            if found is not None:
                return found
        return None


def _entry(document: Json) -> _Entry:
    connections = document.get("connections")
    return _Entry(
        requests=_rate(document.get("requests")),
        tokens=_rate(document.get("tokens")),
        connections=int(connections[0]["rate"]) if connections else None,
    )


def _rate(configured: list[Json] | None) -> tuple[float, float] | None:
    """Amount and seconds. Half a request a second is one in two."""
    if not configured:
        return None
    rate, seconds = float(configured[0]["rate"]), _PERIODS[configured[0]["period"]]
    return (1.0, seconds / rate) if 0 < rate < 1 else (rate, seconds)


def _resolver(key: str) -> _Resolve:
    """A call without a target, tool or model has none to limit: None. Who leaves out a header, a
    claim or a member of the body stands in one bucket with all who do: "". Raises
    ValidationFailed."""
    if key in _OF_THE_CALL:
        name = {"targetName": "target", "toolName": "tool", "qualifiedModelId": "model"}[key]
        return lambda facts: getattr(facts, name) or None
    rest = key.rpartition(".")[2] if key.startswith(_IAM) else ""
    if rest == "principal" and key == f"{_IAM}principal":
        return lambda facts: iam_principal(facts.caller)
    if rest == "sourceIdentity" and key == f"{_IAM}sourceIdentity":
        return lambda facts: (facts.caller.user or "") if iam_principal(facts.caller) else ""
    for prefix, resolver in ((_CLAIM, _claim), (_HEADER, _header), (_BODY, _member)):
        name = key.removeprefix(prefix)
        if name != key and _PLAIN.fullmatch(name):
            return resolver(name)
    raise ValidationFailed(
        f"dimensionKeys: {key[:200]} is not known; there are {', '.join(_OF_THE_CALL)},"
        f" {_CLAIM}<claim>, {_IAM}principal, {_IAM}sourceIdentity, {_HEADER}<name> and"
        f" {_BODY}<path>."
    )


def iam_principal(caller: Caller) -> str:
    """The ARN of who signed; of a session its agent's, or an agent would have a limit anew with
    each session that it is called in. Empty for users of tokens and for anybody, whose names are
    others' to choose."""
    if caller.kind in (CallerKind.OAUTH_USER, CallerKind.ANONYMOUS):
        return ""
    if caller.kind is CallerKind.SESSION:
        return caller.principal.partition("/session/")[0]
    return caller.principal


def _claim(name: str) -> _Resolve:
    def resolve(facts: Facts) -> str:
        claims = facts.caller.claims
        return _text(claims[name] if name in claims else _at(claims, name))

    return resolve


def _header(name: str) -> _Resolve:
    lower = name.lower()
    return lambda facts: facts.headers.get(lower, "")[:_VALUE_LENGTH_MAX]


def _member(path: str) -> _Resolve:
    return lambda facts: _text(_at(facts.body, path))


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:_VALUE_LENGTH_MAX]
    if value is None:
        return ""
    return msgspec.json.encode(value)[:_VALUE_LENGTH_MAX].decode(errors="replace")


class LimitReached(Throttled):
    """429. `fields` has `retry_after`, in seconds."""


class Admission:
    """A call that was let in. `leave` at its very end."""

    def __init__(self, limiter: RateLimiter, applied: Applied, failure: FailureMode) -> None:
        self._limiter, self._applied, self._failure = limiter, applied, failure
        self._lease = ""
        self._inside: list[Places] = []

    @property
    def counts_tokens(self) -> bool:
        return bool(self._applied.tokens)

    async def enter(self) -> None:
        """Raises LimitReached; Unavailable where the gateway denies while nothing is counted."""
        try:
            for places in self._applied.places:
                await self._enter(places)
            taken = await self._limiter.take(self._applied.takes)
        except Unavailable:
            await self.leave()
            if self._failure == "deny":
                raise
            return
        except BaseException:
            await self.leave()
            raise
        if taken.refused is not None:
            await self.leave()
            raise _reached(_words(taken.refused), taken.retry_after)

    async def _enter(self, places: Places) -> None:
        self._lease = self._lease or ids.request_id().replace("-", "")
        if not await self._limiter.enter(
            places.key, places.most, lease=self._lease, seconds=_CONNECTION_SECONDS_MAX
        ):
            raise _reached(f"{places.most} calls at once are allowed here", 1.0)
        self._inside.append(places)

    async def spent(self, tokens: float) -> None:
        """What the answer is known to have taken. An outage of the limits does not undo it."""
        if tokens > 0 and self._applied.tokens:
            with contextlib.suppress(Unavailable):
                await self._limiter.charge(self._applied.tokens, tokens)

    async def leave(self) -> None:
        inside, self._inside = self._inside, []
        for places in inside:
            with contextlib.suppress(Unavailable):
                await self._limiter.leave(places.key, self._lease)


async def admit(limiter: RateLimiter, rules: LimitRules, facts: Facts) -> Admission:
    """Raises LimitReached, Unavailable. Whoever is let in leaves."""
    applied = rules.for_call(facts) if rules else NOTHING
    admission = Admission(limiter, applied, rules.failure)
    if applied is not NOTHING:
        await admission.enter()
    return admission


class Admitted:
    """`async with` it for one call: `admit` on entering, `leave` at its end."""

    __slots__ = ("_admission", "_facts", "_limiter", "_rules")

    def __init__(self, limiter: RateLimiter, rules: LimitRules, facts: Facts) -> None:
        self._limiter, self._rules, self._facts = limiter, rules, facts

    async def __aenter__(self) -> Admission:
        self._admission = await admit(self._limiter, self._rules, self._facts)
        return self._admission

    async def __aexit__(self, *_: object) -> None:
        await self._admission.leave()


def _words(limit: Limit) -> str:
    what = "tokens" if limit.cost == 0 else "calls"
    if limit.amount <= 0:
        return f"no {what} are allowed here"
    return f"{limit.amount:g} {what} in {limit.seconds:g} seconds are allowed here"


def _reached(words: str, retry_after: float) -> LimitReached:
    wait = max(1, -int(-retry_after // 1))
    return LimitReached(
        f"A rate limit of this gateway is reached: {words}. Try again in {wait} seconds.",
        retry_after=retry_after,
    )
