"""What a target is: from options to AgentCore's TargetConfiguration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.failure import CliError
from freehold.cli.gateway import documents
from freehold.cli.gateway.found import find as found_gateway
from freehold.cli.gateway.found import function_arn
from freehold.cli.options import applied, pairs
from freehold.cli.platform import Platform
from freehold.kernel.own_addresses import OwnAddresses

Given = dict[str, Any]
SOURCES = (
    "openapi", "smithy", "mcp", "function", "runtime", "passthrough", "inference", "connector",
    "configuration",
)  # fmt: skip
_MODEL_PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages",
    "/v1/messages/count_tokens",
)  # fmt: skip

source_options = applied(
    click.option(
        "--openapi", metavar="FILE|URL|s3://...", help="An API by its OpenAPI or Swagger document."
    ),
    click.option("--smithy", metavar="FILE|s3://...", help="A service by its Smithy JSON model."),
    click.option(
        "--mcp", metavar="URL|AGENT|stdio:NAME",
        help="An MCP server over HTTP, an agent of this platform that serves MCP, or one over "
        "standard input and output that the operator listed.",
    ),
    click.option(
        "--dynamic", is_flag=True,
        help="With --mcp: ask the server for each caller, and keep no list of its tools.",
    ),
    click.option(
        "--function", metavar="NAME|ARN", help="A function, of this platform or of AWS Lambda."
    ),
    click.option(
        "--tools", metavar="FILE|s3://...",
        help="With --function (or --mcp): its tools, a JSON list of name, description and "
        "inputSchema.",
    ),
    click.option("--runtime", metavar="NAME|ARN", help="An agent of this platform, called as one."),
    click.option("--qualifier", help="With an agent: its endpoint (default: DEFAULT)."),
    click.option("--passthrough", metavar="URL", help="A service that gets requests as they are."),
    click.option(
        "--protocol", type=click.Choice(["custom", "mcp", "a2a", "inference"]), default="custom",
        show_default=True, help="With --passthrough: what the service speaks.",
    ),
    click.option(
        "--inference", metavar="URL|openai|anthropic|bedrock-mantle",
        help="A model endpoint that speaks OpenAI's or Anthropic's API.",
    ),
    click.option(
        "--model", multiple=True,
        help="With --inference URL: a model it has, such as llama-*. May be given again.",
    ),
    click.option(
        "--connector", metavar="ID", help="A service that is prepared: freehold gateway connectors."
    ),
    click.option(
        "--enable", multiple=True, metavar="OPERATION",
        help="With --connector: only these operations; may be given again.",
    ),
    click.option(
        "--parameter", multiple=True, callback=pairs, metavar="NAME=VALUE",
        help="With --connector: a part of the service's address; may be given again.",
    ),
    click.option("--way", help="With --connector: the way in (default: its first)."),
    click.option(
        "--configuration", metavar="JSON|@FILE",
        help="The targetConfiguration as AWS's API takes it, for all else.",
    ),
)  # fmt: skip


def configuration(platform: Platform, given: Given) -> dict[str, Any] | None:
    """The targetConfiguration; None where no option names a source."""
    named = [name for name in SOURCES if given[name]]
    if len(named) > 1:
        raise click.UsageError(f"--{named[0]} and --{named[1]} exclude each other.")
    for option, needs in (
        ("tools", ("function", "mcp")), ("dynamic", ("mcp",)), ("qualifier", ("runtime", "mcp")),
        ("model", ("inference",)), ("enable", ("connector",)),
        ("parameter", ("connector",)), ("way", ("connector",)), ("client_id", ("connector",)),
    ):  # fmt: skip
        if given[option] and not any(given[name] for name in needs):
            said = option.replace("_", "-")
            raise click.UsageError(f"--{said} goes with --{' or --'.join(needs)}.")
    return _MAKERS[named[0]](platform, given) if named else None


def _openapi(platform: Platform, given: Given) -> dict[str, Any]:
    return {"mcp": {"openApiSchema": documents.source(platform, given["openapi"])}}


def _smithy(platform: Platform, given: Given) -> dict[str, Any]:
    return {"mcp": {"smithyModel": documents.source(platform, given["smithy"])}}


def _mcp(platform: Platform, given: Given) -> dict[str, Any]:
    named = given["mcp"]
    if named.startswith("stdio:"):
        endpoint = named
    else:
        agent = "://" not in named and "." not in named
        endpoint = _agent(platform, given) if agent else _url(named, "--mcp")
    found: dict[str, Any] = {"endpoint": endpoint}
    if given["dynamic"]:
        found["listingMode"] = "DYNAMIC"
    if given["tools"]:
        found["mcpToolSchema"] = documents.source(platform, given["tools"])
    return {"mcp": {"mcpServer": found}}


def _agent(platform: Platform, given: Given) -> str:
    """Where the platform itself says that the agent is."""
    runtime = runtimes.find(platform, given["mcp"])
    which = found_gateway(platform, given["gateway"])
    shown = platform.control.get_gateway(gatewayIdentifier=which.id)
    public_url = shown["gatewayUrl"].partition("/gateway/")[0]
    return OwnAddresses(public_url).of_runtime(runtime.arn, given["qualifier"])


def _function(platform: Platform, given: Given) -> dict[str, Any]:
    if not given["tools"]:
        raise click.UsageError(
            "--function needs --tools FILE: a JSON list of name, description and inputSchema."
        )
    arn = function_arn(platform, given["function"])
    tools = documents.tools(platform, given["tools"])
    return {"mcp": {"lambda": {"lambdaArn": arn, "toolSchema": tools}}}


def _runtime(platform: Platform, given: Given) -> dict[str, Any]:
    found = {"arn": runtimes.find(platform, given["runtime"]).arn}
    if given["qualifier"]:
        found["qualifier"] = given["qualifier"]
    return {"http": {"agentcoreRuntime": found}}


def _passthrough(platform: Platform, given: Given) -> dict[str, Any]:
    endpoint = _url(given["passthrough"], "--passthrough")
    protocol = given["protocol"].upper()
    return {"http": {"passthrough": {"endpoint": endpoint, "protocolType": protocol}}}


def _inference(platform: Platform, given: Given) -> dict[str, Any]:
    if "://" not in given["inference"]:
        if given["model"]:
            raise click.UsageError("--model goes with --inference URL: a connector knows its own.")
        return {"inference": {"connector": {"source": {"connectorId": given["inference"]}}}}
    provider: dict[str, Any] = {"endpoint": given["inference"]}
    if given["model"]:
        models = [{"model": model} for model in given["model"]]
        provider["operations"] = [{"path": path, "models": models} for path in _MODEL_PATHS]
    return {"inference": {"provider": provider}}


def _connector(platform: Platform, given: Given) -> dict[str, Any]:
    found: dict[str, Any] = {"source": {"connectorId": given["connector"]}}
    if given["enable"]:
        found["enabled"] = list(given["enable"])
    if given["parameter"]:
        found["configurations"] = [{"name": "all", "parameterValues": given["parameter"]}]
    return {"mcp": {"connector": found}}


def _configuration(platform: Platform, given: Given) -> dict[str, Any]:
    text = given["configuration"]
    if text.startswith("@"):
        text = documents.read(Path(text[1:]))
    return documents.json_object(text, "--configuration")


_MAKERS: dict[str, Callable[[Platform, Given], dict[str, Any]]] = {
    "openapi": _openapi, "smithy": _smithy, "mcp": _mcp, "function": _function,
    "runtime": _runtime, "passthrough": _passthrough, "inference": _inference,
    "connector": _connector, "configuration": _configuration,
}  # fmt: skip


def _url(text: str, option: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise CliError(f"{option}: {text!r} is no URL: expected https://host/path", code="BadUrl")
    return text
