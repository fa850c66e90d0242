"""The names by which instrumentations say what a span is, and what the mapper makes of them.

Sources: OpenTelemetry's GenAI conventions (semantic-conventions up to 1.41, since then
semantic-conventions-genai), OpenInference's, OpenLLMetry's, and what Strands and ADK write.
"""

from typing import Literal

MAPPER_VERSION = 2
"""Raised with each change of what the mapper makes of the same span."""

Family = Literal[
    "gen_ai", "gen_ai_legacy", "openinference", "openllmetry", "adk", "strands", "mcp",
    "freehold", "",
]  # fmt: skip
"""Whose names decided. `gen_ai` is the conventions since 1.37 (`gen_ai.provider.name`, messages as
JSON); `gen_ai_legacy` is what came before (`gen_ai.system`, messages as events); "" is a span that
says nothing of models, tools or agents."""

OPERATION = "gen_ai.operation.name"
OPENINFERENCE_KIND = "openinference.span.kind"
TRACELOOP_KIND = "traceloop.span.kind"
REQUEST_TYPE = "llm.request.type"
MCP_METHOD = "mcp.method.name"

MODEL_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
SUMMING_OPERATIONS = frozenset({"invoke_agent", "invoke_workflow"})
"""These tell the sums of the model calls below them: the store counts them beside, not on top."""

TOOL_OPERATION = "execute_tool"
RETRIEVAL_OPERATIONS = frozenset({"retrieval", "search_memory"})
POLICY_OPERATION = "policy"
CREDENTIAL_OPERATION = "credential"
OWN_OPERATIONS = frozenset({POLICY_OPERATION, CREDENTIAL_OPERATION})

_KNOWN = (
    "chat", "generate_content", "text_completion", "embeddings", "retrieval", "create_agent",
    "invoke_agent", "invoke_workflow", "plan", "execute_tool", "fetch_response",
    "create_memory", "search_memory", "update_memory", "upsert_memory", "delete_memory",
    "create_memory_store", "delete_memory_store",
)  # fmt: skip

OPERATIONS: dict[str, str] = {
    **{name: name for name in _KNOWN},
    POLICY_OPERATION: POLICY_OPERATION,
    CREDENTIAL_OPERATION: CREDENTIAL_OPERATION,
    # Strands' own names.
    "memory.search": "search_memory",
    "memory.add": "create_memory",
    # What was written before the conventions settled.
    "completion": "text_completion",
    "embedding": "embeddings",
    "tool": "execute_tool",
}
"""From `gen_ai.operation.name`; what is not here is no operation of ours."""

OPERATION_OF_KIND: dict[str, str] = {
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "RETRIEVER": "retrieval",
    "TOOL": "execute_tool",
    "AGENT": "invoke_agent",
}
"""From OpenInference's span kinds; CHAIN, RERANKER, GUARDRAIL, EVALUATOR, PROMPT have none."""

OPERATION_OF_ENTITY: dict[str, str] = {
    "workflow": "invoke_workflow",
    "agent": "invoke_agent",
    "tool": "execute_tool",
}
"""From OpenLLMetry's `traceloop.span.kind`."""

OPERATION_OF_REQUEST: dict[str, str] = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}
"""From OpenLLMetry's `llm.request.type`."""

OPERATION_OF_METHOD: dict[str, str] = {"tools/call": "execute_tool"}
"""From `mcp.method.name`."""

OPERATION_OF_DECISION: dict[str, str] = {"allow": POLICY_OPERATION, "deny": POLICY_OPERATION}
"""From our own `freehold.policy.decision`, on a span of its own."""

# In the order of who knows best. The first that is there is taken.
PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
REQUEST_MODEL = (
    "gen_ai.request.model", "llm.request.model_name", "llm.model_name", "embedding.model_name",
)  # fmt: skip
RESPONSE_MODEL = ("gen_ai.response.model", "llm.response.model_name")
INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
)  # fmt: skip
CACHE_READ_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
CACHE_WRITE_TOKENS = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
TOOL_NAME = ("gen_ai.tool.name", "tool.name", "traceloop.entity.name")
TOOL_CALL_ID = ("gen_ai.tool.call.id", "tool_call.id", "tool.id")
TOOL_ARGUMENTS = (
    # OpenInference's tool.parameters is what the tool takes, not what it was given.
    "gen_ai.tool.call.arguments", "gcp.vertex.agent.tool_call_args", "input.value",
    "traceloop.entity.input",
)  # fmt: skip
TOOL_RESULT = (
    "gen_ai.tool.call.result", "gcp.vertex.agent.tool_response", "output.value",
    "traceloop.entity.output",
)  # fmt: skip
INPUT_VALUE = ("input.value", "traceloop.entity.input")
OUTPUT_VALUE = ("output.value", "traceloop.entity.output")
AGENT_NAME = ("gen_ai.agent.name", "agent.name", "traceloop.entity.name")
CONVERSATION = (
    "gen_ai.conversation.id", "session.id", "gcp.vertex.agent.session_id",
    "traceloop.association.properties.session_id",
)  # fmt: skip
FINISH_REASONS = ("gen_ai.response.finish_reasons", "llm.finish_reason")
MEMORY_STORE = ("freehold.memory.id", "gen_ai.memory.store.id", "memory.store.names")
MEMORY_NAMESPACE = ("freehold.memory.namespace", "gen_ai.memory.namespace")
MEMORY_QUERY = ("freehold.memory.query", "gen_ai.memory.query.text", "gen_ai.retrieval.query.text")
ERROR_TYPE = ("error.type", "exception.type")

ADK_REQUEST, ADK_RESPONSE = "gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response"
ADK_SCOPE, ADK_PREFIX = "gcp.vertex.agent", "gcp.vertex.agent."
STRANDS_SCOPE = "strands.telemetry"
INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
DETAILS_EVENT = "gen_ai.client.inference.operation.details"

# Written one attribute a leaf: `gen_ai.prompt.0.content`, `llm.input_messages.0.message.role`.
FLATTENED_INPUT = ("llm.input_messages", "gen_ai.prompt")
FLATTENED_OUTPUT = ("llm.output_messages", "gen_ai.completion")
