"""Calls of models as OpenTelemetry's GenAI conventions tell them."""

from collections.abc import Mapping
from typing import Any

from freehold.ports.models import ModelKind, Usage

PROVIDERS: Mapping[ModelKind, str] = {
    ModelKind.OPENAI: "openai",
    ModelKind.ANTHROPIC: "anthropic",
    ModelKind.BEDROCK: "aws.bedrock",
    ModelKind.GEMINI: "gcp.gemini",
    ModelKind.MISTRAL: "mistral_ai",
}
"""`gen_ai.provider.name` of each."""


def usage_attributes(usage: Usage) -> dict[str, Any]:
    """What the provider counted; what it did not say is left out."""
    told = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }
    return {name: count for name, count in told.items() if count is not None}
