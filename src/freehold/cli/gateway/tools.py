"""`freehold gateway tools`, `call` and `search`: a gateway's tools, as its callers have them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway.found import Gateway
from freehold.cli.options import pairs, platform_options
from freehold.cli.platform import Platform

if TYPE_CHECKING:
    from freehold.cli.mcp_client import McpClient

SEARCH_TOOL = "x_amz_bedrock_agentcore_search"
_UNKNOWN = "JsonRpc-32602"
_CONSENTS_MAX = 5
_HASH_SHOWN = 12
_DESCRIPTION_SHOWN = 80

_token: Callable[[Any], Any] = click.option(
    "--token",
    envvar="FREEHOLD_TOKEN",
    help="A bearer token, for a gateway that is opened by them; better in FREEHOLD_TOKEN.",
)


def _client(platform: Platform, which: Gateway, token: str | None) -> "McpClient":
    # urllib3 and botocore, which `freehold --help` must not wait for.
    from freehold.cli.mcp_client import McpClient

    return McpClient(platform.connection, which.id, token=token, told=platform.output.note)


@click.command()
@click.argument("gateway", required=False)
@click.option("--target", help="Only of this target.")
@click.option("--as-seen", is_flag=True, help="As a client sees them: ask the gateway over MCP.")
@_token
@platform_options
def tools(
    platform: Platform, *, gateway: str | None, target: str | None, as_seen: bool, token: str | None
) -> None:
    """List the tools of GATEWAY and their state; of all gateways where none is named.

    `in force` can be called; `changed` and `new` wait for approval; `rejected` is blocked;
    `removed` is not offered any more; `shadowed` has another one's name.
    """
    if as_seen:
        if gateway is None or target:
            raise click.UsageError("--as-seen goes with a GATEWAY, and shows all of it.")
        which = found.find_to_call(platform, gateway)
        _show_seen(platform, list(_client(platform, which, token).tools()))
        return
    rows = []
    for which in [found.find(platform, gateway)] if gateway else found.every(platform):
        only = found.find_target(platform, which, target).id if target else None
        listed = platform.own.get("gateways", which.id, "tools", targetId=only)["tools"]
        rows += [{"gateway": which.name, **tool} for tool in listed]
    if platform.output.as_json:
        platform.output.document({"tools": rows})
        return
    if not rows:
        platform.output.note(
            "No tools yet: freehold gateway target add GATEWAY NAME --openapi FILE"
        )
        return
    several = gateway is None
    platform.output.table(
        (*(("GATEWAY",) if several else ()), "NAME", "KIND", "TARGET", "STATE", "HASH"),
        [
            (
                *((row["gateway"],) if several else ()),
                row["name"],
                row["kind"],
                row["target"],
                row["state"],
                (row["hash"] or "-")[:_HASH_SHOWN],
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["state"] == "shadowed":
            platform.output.note(f"{row['name']}: {row['why']}")


@click.command()
@click.argument("gateway")
@click.argument("tool")
@click.option(
    "--arg", "given", multiple=True, callback=pairs, metavar="NAME=VALUE",
    help="An argument, read as the tool's schema wants it; may be given again.",
)  # fmt: skip
@click.option(
    "--json-args", metavar="JSON|@FILE|-", help="All arguments as a JSON object, file or stdin."
)
@_token
@platform_options
def call(
    platform: Platform,
    *,
    gateway: str,
    tool: str,
    given: dict[str, str],
    json_args: str | None,
    token: str | None,
) -> int:
    """Call TOOL through GATEWAY, as an agent would, and show what it answers.

    TOOL is the name that `freehold gateway tools` shows. When the tool fails, the exit status is 1.

    \b
    Examples:
      freehold gateway call tools pets___getPet --arg id=7
      freehold gateway call tools pets___addPet --json-args '{"name": "Rex", "tags": ["good"]}'
    """
    if given and json_args is not None:
        raise click.UsageError("--arg and --json-args exclude each other.")
    which = found.find_to_call(platform, gateway)
    client = _client(platform, which, token)
    arguments = _typed(client, tool, given) if given else _json_arguments(json_args)
    try:
        result = _called(platform, client, tool, arguments)
    except CliError as error:
        if error.code == _UNKNOWN:
            error.hint = f"Its tools: freehold gateway tools {which.name} --as-seen"
        raise
    if platform.output.as_json:
        platform.output.document(result)
        return 1 if result.get("isError") else 0
    text = _text(result)
    if result.get("isError"):
        raise CliError(text or "The tool failed and said nothing.", code="ToolFailed")
    platform.output.say(text)
    return 0


@click.command()
@click.argument("gateway")
@click.argument("words")
@_token
@platform_options
def search(platform: Platform, *, gateway: str, words: str, token: str | None) -> None:
    """Find tools of GATEWAY by what they do, among those that you may use. WORDS say it.

    \b
    Example:
      freehold gateway search tools "refund a customer"
    """
    which = found.find_to_call(platform, gateway)
    try:
        result = _client(platform, which, token).call(SEARCH_TOOL, {"query": words})
    except CliError as error:
        if error.code == _UNKNOWN:
            error.hint = f"Has it a search? freehold gateway update {which.name} --search"
        raise
    if result.get("isError"):
        raise CliError(_text(result), code="ToolFailed")
    hits = (result.get("structuredContent") or {}).get("tools") or []
    how = (result.get("_meta") or {}).get("freehold/search")
    if platform.output.as_json:
        platform.output.document({"tools": hits, "searchedBy": how})
        return
    _show_seen(platform, hits)
    if how:
        platform.output.note(f"Searched by {how}.")


def _called(platform: Platform, client: "McpClient", tool: str, arguments: dict[str, Any]) -> Any:
    """Where a person has to agree first, and sits here, the call is made again when they have."""
    for _ in range(_CONSENTS_MAX):
        result = client.call(tool, arguments)
        if result.get("resultType") != "input_required":
            return result
        asked = [each.get("params") or {} for each in (result.get("inputRequests") or {}).values()]
        pages = [each for each in asked if each.get("mode") == "url"]
        if not pages or len(pages) < len(asked):
            raise CliError(
                "The tool asks its user something, which this command cannot answer.",
                code="InputRequired",
            )
        if platform.output.as_json or not sys.stdin.isatty():
            raise CliError(
                pages[0].get("message") or "Somebody has to agree first.",
                code="ConsentNeeded",
                hint=f"Open {pages[0]['url']} and agree; then call again.",
            )
        for page in pages:
            platform.output.note(f"{page.get('message', '')}\n{page['url']}")
        click.prompt("Press Enter when you have agreed", default="", show_default=False, err=True)
    raise CliError("It is still not agreed to.", code="ConsentNeeded")


def _json_arguments(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise CliError(f"The arguments are no JSON: {error}", code="BadArguments") from None
    if not isinstance(arguments, dict):
        raise CliError("The arguments are no JSON object.", code="BadArguments")
    return arguments


def _typed(client: "McpClient", name: str, given: dict[str, str]) -> dict[str, Any]:
    """Texts as they are where the schema wants texts; else JSON, where it is any."""
    schema = (client.tool(name) or {}).get("inputSchema") or {}
    properties = schema.get("properties") or {}
    return {key: _value(text, properties.get(key)) for key, text in given.items()}


def _value(text: str, schema: Any) -> Any:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    takes_text = isinstance(kind, list) and "string" in kind
    return text if takes_text and isinstance(value, int | float) else value


def _text(result: dict[str, Any]) -> str:
    """The content for people; the structured form where there is no other."""
    parts = [_part(each) for each in result.get("content") or ()]
    if not parts and "structuredContent" in result:
        parts = [json.dumps(result["structuredContent"], ensure_ascii=False, indent=2)]
    return "\n".join(parts)


def _part(content: dict[str, Any]) -> str:
    if content.get("type") == "text":
        return str(content.get("text", ""))
    if content.get("type") == "resource_link":
        return f"[{content.get('uri')}]"
    if content.get("type") == "resource":
        resource = content.get("resource") or {}
        return str(resource.get("text") or f"[{resource.get('uri')}]")
    size = len(str(content.get("data", ""))) * 3 // 4
    return f"[{content.get('type')} {content.get('mimeType', '')}, {size} bytes: see --json]"


def _show_seen(platform: Platform, listed: list[dict[str, Any]]) -> None:
    if platform.output.as_json:
        platform.output.document({"tools": listed})
    elif not listed:
        platform.output.note("No tools that you may use.")
    else:
        platform.output.table(
            ("NAME", "DESCRIPTION"), [(tool["name"], _shortened(tool)) for tool in listed]
        )


def _shortened(tool: dict[str, Any]) -> str:
    line = str(tool.get("description") or tool.get("title") or "-").strip().partition("\n")[0]
    if len(line) <= _DESCRIPTION_SHOWN:
        return line
    return f"{line[: _DESCRIPTION_SHOWN - 3]}..."
