"""Models over the wires of their providers. One contract suite runs on all."""

from freehold.adapters.models.anthropic import AnthropicModels
from freehold.adapters.models.bedrock import BedrockModels
from freehold.adapters.models.environment import providers_from_environment
from freehold.adapters.models.gemini import GeminiModels
from freehold.adapters.models.openai_compatible import OpenAiCompatibleModels
from freehold.ports.models import ModelKind, ModelProvider, Models

__all__ = [
    "AnthropicModels",
    "BedrockModels",
    "GeminiModels",
    "OpenAiCompatibleModels",
    "models_for",
    "providers_from_environment",
]


def models_for(provider: ModelProvider) -> Models:
    if provider.kind is ModelKind.ANTHROPIC:
        return AnthropicModels(provider)
    if provider.kind is ModelKind.BEDROCK:
        return BedrockModels(provider)
    if provider.kind is ModelKind.GEMINI:
        return GeminiModels(provider)
    return OpenAiCompatibleModels(provider)
