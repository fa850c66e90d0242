"""What tells OpenTelemetry inside a session where its spans go, whose they are, and what may be in
them. It is there for every agent, and only those read it that bring OpenTelemetry along.

As AgentCore does it, with its switch: DISABLE_ADOT_OBSERVABILITY=true, and none of it is set.
"""

from collections.abc import Mapping

from freehold.ports.placement import Launch

OFF_SWITCH = "DISABLE_ADOT_OBSERVABILITY"

_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_ANY_ENDPOINT = "DEFAULT"  # of a sandbox that waits for sessions of whichever endpoint

_BATCH_MS = 500
"""So that a session that is frozen soon after its answer has sent its spans by then."""

_ALWAYS = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_BSP_SCHEDULE_DELAY": str(_BATCH_MS),
    "OTEL_BLRP_SCHEDULE_DELAY": str(_BATCH_MS),
    "OTEL_PROPAGATORS": "tracecontext,baggage",
    "OTEL_PYTHON_EXCLUDED_URLS": "/ping$",  # the platform asks all the time
    # AWS's distribution: as in AgentCore, but to the endpoint that is set.
    "AGENT_OBSERVABILITY_ENABLED": "true",
    "OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",  # its own, to its makers
    "OTEL_INSTRUMENTATION_A2A_SDK_ENABLED": "false",  # a span for each step of its queues
}
_CONVENTIONS = ("gen_ai_latest_experimental", "gen_ai_tool_definitions")

# Nobody has the same switch for it. What a switch is missed for, the platform drops when it comes.
_WITH_CONTENT = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": ",".join((*_CONVENTIONS, "gen_ai_span_attributes_only")),
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS": "true",
    "ENABLE_SENSITIVE_DATA": "true",  # Microsoft Agent Framework
    "TRACELOOP_TRACE_CONTENT": "true",
}
_WITHOUT_CONTENT = {
    # Strands: of what is sensitive, nothing.
    "OTEL_SEMCONV_STABILITY_OPT_IN": ",".join((*_CONVENTIONS, "gen_ai_unredacted_attributes=")),
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT",
    "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS": "false",
    "ENABLE_SENSITIVE_DATA": "false",
    "TRACELOOP_TRACE_CONTENT": "false",
    "OPENINFERENCE_HIDE_INPUTS": "true",
    "OPENINFERENCE_HIDE_OUTPUTS": "true",
}


def telemetry_environment(
    launch: Launch, doorway: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """To be put over a session's other variables. `doorway`: what leads a session to the platform;
    `given`: the customer's own variables, those of an image among them. What they set stays; of
    resource attributes theirs stand behind ours, where they count.
    """
    if given.get(OFF_SWITCH, "").lower() == "true":
        return {}
    variables = {
        **{name: value for name, value in doorway.items() if is_telemetry(name)},
        **_ALWAYS,
        **(_WITH_CONTENT if launch.captures_content else _WITHOUT_CONTENT),
        "OTEL_SERVICE_NAME": _service(launch),
    }
    attributes = ",".join(filter(None, (_resource(launch), given.get(_ATTRIBUTES))))
    ours = {name: value for name, value in variables.items() if name not in given}
    return {**ours, _ATTRIBUTES: attributes}


def is_telemetry(name: str) -> bool:
    return name.startswith("OTEL_")


def _resource(launch: Launch) -> str:
    endpoint = launch.key.endpoint or _ANY_ENDPOINT
    log_group = f"/aws/bedrock-agentcore/runtimes/{launch.key.runtime_id}-{endpoint}"
    attributes = {
        "service.name": _service(launch),
        "service.version": str(launch.version),
        "cloud.resource_id": launch.runtime_arn,
        "aws.log.group.names": log_group,
        "aws.service.type": "gen_ai_agent",
    }
    return ",".join(f"{name}={value}" for name, value in attributes.items())


def _service(launch: Launch) -> str:
    return f"{launch.runtime_name}.{launch.key.endpoint or _ANY_ENDPOINT}"
