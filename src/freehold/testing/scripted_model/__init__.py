"""A deterministic stand-in for somebody's paid model. It is a script, and says so by name.

    async with ScriptedModel() as model:
        client = openai.AsyncOpenAI(base_url=model.base_url, api_key="any")

or `python -m freehold.testing.scripted_model --port 0 [--script rules.json]`.
"""

from freehold.testing.scripted_model.script import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Rule,
    Script,
    ScriptedToolCall,
)
from freehold.testing.scripted_model.server import Received, ScriptedModel

__all__ = [
    "DEFAULT_SCRIPT",
    "MODEL_NAME",
    "Received",
    "Rule",
    "Script",
    "ScriptedModel",
    "ScriptedToolCall",
]
