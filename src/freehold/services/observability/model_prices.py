"""What tokens cost in US dollars: bundled prices of many providers, and the operator's own.

A price that is not known is None, never 0: a sum says then that something is missing.
"""

import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import PlatformFailed
from freehold.kernel.threads import in_thread
from freehold.ports.spans import Facts, SpanRecord
from freehold.services.observability import conventions as c
from freehold.services.observability import mapper
from freehold.services.observability.model import Tokens

_KNOWN_MAX = 4096
_KNOWN_SECONDS_MAX = 3600
_MILLION = 1_000_000
_ENTRIES = frozenset({"input", "output", "cache_read", "cache_write"})


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens. Without prices of their own, cached tokens cost what
    others do. `above`: what all tokens of a call cost instead once its input exceeds so many."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    above: tuple[tuple[int, "ModelPrice"], ...] = ()

    def cost(self, used: Tokens) -> float:
        for start, price in reversed(self.above):
            if used.input > start:
                return price.cost(used)
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        fresh = max(used.input - used.cache_read - used.cache_write, 0)
        return (
            fresh * self.input
            + used.cache_read * read
            + used.cache_write * write
            + used.output * self.output
        ) / _MILLION


class ModelPricesWrong(PlatformFailed):
    """The operator's file cannot be used. The message names the file and the fault."""


def read_model_prices(file: Path) -> dict[str, ModelPrice]:
    """From TOML, a table for each model: `["gpt-4o"]`, `["openai/gpt-4o"]` or `["llama3*"]`, with
    `input`, `output`, and at will `cache_read` and `cache_write`."""
    try:
        given = tomllib.loads(file.read_text())
        return {str(name): _price(str(name), table) for name, table in given.items()}
    except OSError as error:
        raise ModelPricesWrong(
            f"the model prices {file} cannot be read: {error.strerror}"
        ) from error
    except (ValueError, TypeError) as error:
        raise ModelPricesWrong(f"the model prices {file} are wrong: {error}") from error


def _price(name: str, table: Any) -> ModelPrice:
    if not isinstance(table, dict):
        raise ValueError(f"{name}: expected a table")
    if wrong := sorted(set(table) - _ENTRIES):
        raise ValueError(f"{name}.{wrong[0]}: no such entry")
    if missing := sorted({"input", "output"} - set(table)):
        raise ValueError(f"{name}.{missing[0]} is missing")
    for entry, value in table.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1e6:
            raise ValueError(f"{name}.{entry} = {value!r}: expected a price of 0 or more")
    return msgspec.convert(table, ModelPrice)


class PriceBook:
    """`overrides` by the model's name, `provider/model`, or a pattern with `*`; they win over what
    is bundled, the exact before the patterns, these in their order."""

    def __init__(self, overrides: Mapping[str, ModelPrice] | None = None) -> None:
        self._overrides = {name.lower(): price for name, price in (overrides or {}).items()}
        self._patterns = [name for name in self._overrides if "*" in name]
        self._known: dict[tuple[str, str], ModelPrice | None] = {}
        self._known_since = clock.now()
        self._read = False

    async def ready(self, spans: Sequence[SpanRecord]) -> None:
        """The bundled prices are read, away from the event loop, before the first span of a model
        is priced. Without it the first cost takes that second."""
        if not self._read and any("model" in name for s in spans for name in s.attributes):
            await in_thread(_bundled)
            self._read = True

    def cost(self, provider: str, model: str, used: Tokens) -> float | None:
        price = self.price(provider, model)
        return None if price is None else round(price.cost(used), 9)

    def facts_of(self, span: SpanRecord) -> Facts:
        """The mapper's, with the cost. What nothing is known of costs None; so does a call whose
        tokens nobody told."""
        found = mapper.facts(span.name, span.attributes, scope=span.scope)
        if span.origin != "platform" and found.operation in c.OWN_OPERATIONS:
            return Facts()  # what only the platform may say
        if not found.model or not (found.input_tokens or found.output_tokens):
            return found
        used = mapper.tokens(span.attributes)
        for model in mapper.models(span.attributes):
            cost = self.cost(found.provider, model, used)
            if cost is not None:
                return msgspec.structs.replace(found, cost=cost)
        return found

    def price(self, provider: str, model: str) -> ModelPrice | None:
        key = (provider.lower(), model)
        if (clock.now() - self._known_since).total_seconds() > _KNOWN_SECONDS_MAX:
            # Prices may change with the time of day.
            self._known, self._known_since = {}, clock.now()
        if key in self._known:
            return self._known[key]
        price = self._override(*key)
        if len(self._known) >= _KNOWN_MAX:
            # Names are what tenants send, and to look one up takes a millisecond: no more of those
            # this hour.
            return price
        self._known[key] = price or _bundled_price(*key)
        return self._known[key]

    def _override(self, provider: str, model: str) -> ModelPrice | None:
        model = model.lower()
        for name in (f"{provider}/{model}", model):
            if name in self._overrides:
                return self._overrides[name]
        for pattern in self._patterns:
            whole = f"{provider}/{model}" if "/" in pattern else model
            if fnmatch.fnmatchcase(whole, pattern):
                return self._overrides[pattern]
        return None


_PROVIDERS = {
    "aws.bedrock": "aws", "aws_bedrock": "aws", "bedrock": "aws", "amazon-bedrock": "aws",
    "amazon_bedrock": "aws", "aws": "aws", "amazon": "aws", "bedrock_converse": "aws",
    "azure.ai.openai": "azure", "azure.ai.inference": "azure", "az.ai.openai": "azure",
    "az.ai.inference": "azure", "azure": "azure", "azure_openai": "azure",
    "gcp.gemini": "google", "gcp.gen_ai": "google", "gcp.vertex_ai": "google", "gemini": "google",
    "google": "google", "vertex_ai": "google", "vertexai": "google", "google_genai": "google",
    "google_vertexai": "google",
    "mistral_ai": "mistral", "mistralai": "mistral", "mistral": "mistral",
    "x_ai": "x-ai", "xai": "x-ai", "x-ai": "x-ai", "moonshot_ai": "moonshotai",
    "openai": "openai", "anthropic": "anthropic", "cohere": "cohere", "deepseek": "deepseek",
    "groq": "groq", "perplexity": "perplexity", "openrouter": "openrouter",
    "together": "together", "together_ai": "together", "fireworks": "fireworks",
    "fireworks_ai": "fireworks", "cerebras": "cerebras", "meta": "meta",
}  # fmt: skip
"""Conventions' names of providers, as the bundled prices name them. One that is not here is
unknown: a model of the same name may cost something else, or nothing, where it runs."""

_NO_PROVIDERS = frozenset(
    {"", "strands-agents", "gcp.vertex.agent", "langchain", "langgraph", "litellm", "crewai",
     "llama_index", "llamaindex", "openai_agents", "microsoft.agent_framework"}
)  # fmt: skip
"""Frameworks that name themselves where a provider belongs: the model's name decides alone."""

_BEDROCK = re.compile(
    r"(?:(?:us|eu|apac|global|jp|au|us-gov)\.)?"
    r"(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai|stability)\.[\w.:-]+"
)


def _bundled_price(provider: str, model: str) -> ModelPrice | None:
    if model.startswith("arn:"):
        model = model.rpartition("/")[2]
    before, slash, rest = model.partition("/")
    if slash and before.lower() in _PROVIDERS and provider != "openrouter":
        provider, model = before.lower(), rest
    if provider in _NO_PROVIDERS:
        return _looked_up(model, "aws" if _BEDROCK.fullmatch(model) else None)
    named = _PROVIDERS.get(provider)
    return None if named is None else _looked_up(model, named)


def _bundled() -> Any:
    # A second of processor time, which the processes that price nothing are spared.
    import genai_prices

    return genai_prices


def _looked_up(model: str, provider: str | None) -> ModelPrice | None:
    genai_prices = _bundled()
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=1, output_tokens=1), model, provider_id=provider
        ).model_price
    except (LookupError, ValueError):
        return None
    rates = {entry: getattr(found, f"{entry}_mtok", None) for entry in _ENTRIES}
    if rates["input"] is None:
        return None
    starts = {tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())}
    above = tuple((start, _at(rates, start)) for start in sorted(starts))
    return msgspec.structs.replace(_at(rates, 0), above=above)


def _at(rates: Mapping[str, Any], start: int) -> ModelPrice:
    """What holds from so many tokens of input on."""
    known = {entry: _rate(rate, start) for entry, rate in rates.items() if rate is not None}
    return msgspec.convert({"output": 0.0, **known}, ModelPrice)


def _rate(rate: Any, start: int) -> float:
    if isinstance(rate, Decimal):
        return float(rate)
    reached = [tier.price for tier in rate.tiers if 0 < tier.start <= start]
    return float(reached[-1] if reached else rate.base)
