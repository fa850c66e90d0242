"""Which attributes, events and bodies hold what people and models said, whoever names them.

Names, roles and ids in a family of numbered attributes are structure, and stay: a trace without
content still shows which message called which tool. Sources: OpenTelemetry's GenAI conventions (the
legacy ones too), OpenInference, OpenLLMetry, and what frameworks write besides.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAMES = _words("""
    gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.prompt
    gen_ai.completion gen_ai.tool.call.arguments gen_ai.tool.call.result gen_ai.tool.definitions
    gen_ai.tool.message gen_ai.retrieval.query.text gen_ai.retrieval.documents
    gen_ai.memory.query.text gen_ai.memory.records gen_ai.event.content gen_ai.content
    gen_ai.request.instructions gen_ai.evaluation.explanation
    gen_ai.system.message gen_ai.user.message gen_ai.assistant.message gen_ai.choice
    freehold.exchange.request freehold.exchange.response
    input.value output.value llm.prompts llm.completions llm.invocation_parameters
    llm.function_call llm.prompt_template.template llm.prompt_template.variables
    embedding.text embedding.vector reranker.query tool.parameters message.content
    message.function_call_arguments_json tool_call.function.arguments document.content
    traceloop.entity.input traceloop.entity.output traceloop.prompt.template
    mcp.request.argument mcp.response.value mcp.request.params
    all_messages_events pydantic_ai.all_messages pydantic_ai.new_messages final_result
    tool_arguments tool_response tool_call_args llm_request llm_response events logfire.msg
    gcp.vertex.agent.llm_request gcp.vertex.agent.llm_response gcp.vertex.agent.tool_call_args
    gcp.vertex.agent.tool_response gcp.vertex.agent.data
    mlflow.spanInputs mlflow.spanOutputs langfuse.observation.input langfuse.observation.output
    langfuse.trace.input langfuse.trace.output
    haystack.component.input haystack.component.output haystack.pipeline.input_data
    haystack.pipeline.output_data
    ai.prompt ai.response.text ai.response.object ai.response.toolCalls ai.response.reasoning
    ai.toolCall.args ai.toolCall.result ai.value ai.values
""")
_FAMILIES = (
    "gen_ai.input.messages.", "gen_ai.output.messages.", "gen_ai.prompt.", "gen_ai.completion.",
    "gen_ai.retrieval.documents.", "llm.input_messages", "llm.output_messages", "llm.prompts.",
    "llm.completions.", "llm.choices.", "llm.tools.", "llm.request.functions.",
    "llm.prompt_template.variables.", "embedding.embeddings", "retrieval.documents",
    "reranker.input_documents", "reranker.output_documents", "traceloop.prompt.template_variables",
    "mcp.request.argument.", "ai.prompt.", "crewai.task.", "crewai.agent.", "crewai.crew.tasks",
    "crewai.crew.agents", "crewai.crew.result", "crew_tasks", "crew_agents", "crew_inputs",
    "formatted_", "input.value.", "output.value.",
)  # fmt: skip
_STRUCTURE = (
    ".role", ".name", ".id", ".finish_reason", ".type", ".score", ".index", ".key", ".mime_type",
)  # fmt: skip
# Events of the legacy conventions: each is a message, and these say what of.
_MESSAGE_EVENTS = ("gen_ai.content.", "gen_ai.choice", "gen_ai.client.inference.operation.details")
_MESSAGE_SUFFIX = ".message"
_OF_A_MESSAGE = _words("""
    role id name index finish_reason gen_ai.system gen_ai.provider.name gen_ai.operation.name
    gen_ai.conversation.id gen_ai.request.model gen_ai.response.model gen_ai.response.id
    gen_ai.response.finish_reasons event.name session.id gen_ai.agent.name gen_ai.agent.id
    gen_ai.tool.name gen_ai.tool.call.id gen_ai.usage.input_tokens gen_ai.usage.output_tokens
    type
""")
# Of a log's body: what conversations are written in, by whichever framework.
_BODY_MEMBERS = _words("""
    content message messages input output prompt completion tool_calls arguments result parts text
    system_instructions system_instruction contents body
""")


@lru_cache(maxsize=8192)
def is_content(name: str) -> bool:
    if name in _NAMES:
        return True
    return name.startswith(_FAMILIES) and not name.endswith(_STRUCTURE)


def without_content(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not is_content(name)}


def is_message(event: str) -> bool:
    """Whether an event's attributes, or a log's body, are a message of a conversation."""
    if not event.startswith("gen_ai."):
        return False
    return event.endswith(_MESSAGE_SUFFIX) or event.startswith(_MESSAGE_EVENTS)


def of_a_message(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a message's attributes, or of its body, without what it says."""
    return {name: value for name, value in attributes.items() if name in _OF_A_MESSAGE}


def body_without_content(body: Any, event: str) -> Any:
    """A line of a program's log stays as it is: it is no part of a conversation."""
    if event.startswith("gen_ai."):
        return of_a_message(body) if isinstance(body, dict) else None
    if isinstance(body, dict):
        kept = {name: each for name, each in body.items() if name not in _BODY_MEMBERS}
        return without_content(kept)
    return body
