"""`freehold policy check`, `diff` and `schema`: proofs, at a platform or on this machine alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from freehold.cli.gateway import found as gateway_found
from freehold.cli.options import applied, platform_options
from freehold.cli.output import Output
from freehold.cli.platform import Platform
from freehold.cli.policy import found, shown

AUTHORIZERS = {
    "iam": "AWS_IAM", "jwt": "CUSTOM_JWT", "none": "NONE", "authenticate-only": "AUTHENTICATE_ONLY",
}  # fmt: skip
_FINDINGS = (
    "ALLOW_ALL", "ALLOW_NONE", "DENY_ALL", "DENY_NONE", "INVALID", "MAY_ERROR", "REDUNDANT",
    "SHADOWED", "UNSUPPORTED", "UNDECIDED",
)  # fmt: skip
_FILE = click.Path(path_type=Path, allow_dash=True)
SECONDS_MAX = 30.0

_place = applied(
    click.option("--gateway", metavar="NAME", help="At this gateway of the platform."),
    click.option(
        "--tools", type=_FILE, metavar="FILE",
        help="At the tools of this file, as MCP's tools/list has them; needs no platform.",
    ),
    click.option("--engine", metavar="NAME", help="At the gateways that ask this policy engine."),
    click.option(
        "--auth", type=click.Choice(list(AUTHORIZERS)),
        help="With --tools: who gets in at the gateway. Default: what the file says, else jwt.",
    ),
    click.option(
        "--gateway-arn", metavar="ARN",
        help="With --tools: whose they are. Default: what the file says, else the gateway that the "
        "policies name.",
    ),
    click.option(
        "--seconds", type=click.FloatRange(min=0.1, max=45), default=SECONDS_MAX,
        show_default=True, help="How long to look for proofs; then it says what is undecided.",
    ),
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, type=_FILE)
@_place
@click.option("--with-log-only", is_flag=True, help="Of --engine alone: its LOG_ONLY ones, too.")
@click.option(
    "--allow", "allowed", multiple=True, type=click.Choice(_FINDINGS), metavar="FINDING",
    help="Not a failure, though CreatePolicy would refuse it; may be given again.",
)  # fmt: skip
@click.option(
    "--fail-on", "failing", multiple=True, type=click.Choice(_FINDINGS), metavar="FINDING",
    help="A failure, though it is only noted otherwise, such as UNDECIDED; may be given again.",
)  # fmt: skip
@platform_options
def check(
    platform: Platform,
    /,
    *,
    files: tuple[Path, ...],
    with_log_only: bool,
    allowed: tuple[str, ...],
    failing: tuple[str, ...],
    **place: Any,
) -> int:
    """Prove what the policies of FILES always or never do, with a request that shows it.

    Without FILES those of --engine that are in force. Exits with 1 on a finding for which
    CreatePolicy would refuse a policy: ALLOW_ALL, ALLOW_NONE, DENY_ALL, DENY_NONE, INVALID, and
    MAY_ERROR of a forbid.

    \b
    Examples:
      freehold policy check bank.cedar --gateway bank
      freehold policy check bank.cedar --tools tools.json
      freehold policy check --engine bank --fail-on UNDECIDED
    """
    if not files and not place["engine"]:
        raise click.UsageError("Name FILES, or an --engine whose policies to check.")
    _check_place(place, needed=bool(files))
    sources = _sources(files)
    with platform.output.progress("Proving ..."):
        if place["tools"]:
            from freehold.cli.policy import offline

            document = offline.check(sources, _tools(place), place["seconds"])
        else:
            body = _body(platform, place)
            if sources:
                body["policies"] = found.resolved(platform, _joined(sources))
            elif with_log_only:
                body["logOnly"] = True
            document = platform.own.post("policies", "check", body=body)
    return _check_outcome(platform.output, document, allowed, failing)


def _check_outcome(
    output: Output, document: Any, allowed: Sequence[str], failing: Sequence[str]
) -> int:
    bad = [
        finding
        for gateway in document["gateways"]
        for finding in gateway["findings"]
        if finding["property"] in failing
        or (finding["counts"] and finding["property"] not in allowed)
    ]
    if output.as_json:
        output.document({**document, "failing": len(bad)})
    else:
        shown.check(output, document, bad)
    return 1 if bad else 0


@click.command()
@click.argument("files", nargs=-1, type=_FILE, metavar="[OLD] NEW")
@_place
@click.option("--policy", metavar="NAME", help="NEW is the text of this policy of --engine alone.")
@click.option("--add", is_flag=True, help="NEW is put beside the policies of --engine.")
@click.option("--without", metavar="NAME", help="The policies of --engine without this one.")
@click.option("--allow-loosening", is_flag=True, help="Exit with 0 though it allows more.")
@platform_options
def diff(
    platform: Platform,
    /,
    *,
    files: tuple[Path, ...],
    policy: str | None,
    add: bool,
    without: str | None,
    allow_loosening: bool,
    **place: Any,
) -> int:
    """Prove what NEW allows and denies that OLD did not, each with a request that shows it.

    With --engine, OLD is what is in force there. Exits with 1 where NEW allows a call more, or
    where that cannot be told.

    \b
    Examples:
      freehold policy diff old.cedar new.cedar --tools tools.json
      freehold policy diff --engine bank new.cedar
      freehold policy diff --engine bank --policy transfers transfers.cedar
    """
    _check_place(place, needed=not place["engine"])
    wanted = 0 if without else 1 if place["engine"] else 2
    if len(files) != wanted:
        raise click.UsageError(f"Name {('no file', 'NEW', 'OLD and NEW')[wanted]}.")
    if sum(map(bool, (policy, add, without))) > 1:
        raise click.UsageError("Choose one of --policy, --add and --without.")
    if (policy or add or without) and not place["engine"]:
        raise click.UsageError("--policy, --add and --without go with --engine.")
    with platform.output.progress("Proving ..."):
        if place["tools"] and not place["engine"]:
            from freehold.cli.policy import offline

            old, new = _sources(files[:1]), _sources(files[1:])
            document = offline.diff(old, new, _tools(place), place["seconds"])
        else:
            body = _body(platform, place)
            if place["engine"]:
                which = found.find(platform, place["engine"])
                body |= change_of(platform, which, files, policy or without, add=add)
            else:
                body |= {"old": _text(platform, files[0]), "new": _text(platform, files[1])}
            document = platform.own.post("policies", "diff", body=body)
    if platform.output.as_json:
        platform.output.document(document)
    else:
        shown.diff(platform.output, document)
    return 1 if document["loosens"] and not allow_loosening else 0


def change_of(
    platform: Platform,
    engine: found.Engine,
    files: Sequence[Path],
    named: str | None,
    *,
    add: bool,
) -> dict[str, Any]:
    """`new`, or `changes` of the engine's policies. `named`: of that one, without a file its
    removal."""
    if not named and not add:
        return {"new": _text(platform, files[0])}
    change: dict[str, Any] = {}
    if named:
        change["policyId"] = found.find_policy(platform, engine, named).id
    if files:
        change["statement"] = _text(platform, files[0])
    return {"changes": [change]}


def _text(platform: Platform, path: Path) -> str:
    return found.resolved(platform, found.read(path))


@click.command()
@click.argument("gateway")
@platform_options
def schema(platform: Platform, gateway: str) -> None:
    """Show what policies can say of GATEWAY's tools, as Cedar's schema.

    With --json also in Cedar's JSON format, with its version and what was left out.
    """
    which = gateway_found.find(platform, gateway)
    document = platform.own.get("gateways", which.id, "policy-schema")
    if platform.output.as_json:
        platform.output.document(document)
        return
    platform.output.say(document["cedar"].rstrip("\n"))
    for row in document["leftOut"]:
        place = f"{row['tool']} {row['path']}".strip()
        platform.output.note(f"No policy can speak of {place}: {row['why']}")


def _check_place(place: Mapping[str, Any], *, needed: bool) -> None:
    given = [name for name in ("gateway", "tools") if place[name]]
    if len(given) > 1:
        raise click.UsageError("Choose one of --gateway and --tools.")
    if needed and not given and not place["engine"]:
        raise click.UsageError("Say at what: --gateway NAME, --tools FILE or --engine NAME.")
    if (place["auth"] or place["gateway_arn"]) and not place["tools"]:
        raise click.UsageError("--auth and --gateway-arn go with --tools.")


def _tools(place: Mapping[str, Any]) -> Any:
    from freehold.cli.policy import offline

    return offline.tools_of(place["tools"], _authorizer(place), place["gateway_arn"])


def _body(platform: Platform, place: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"secondsMax": place["seconds"]}
    if place["engine"]:
        body["engineId"] = found.find(platform, place["engine"]).id
    if place["gateway"]:
        body["gatewayId"] = gateway_found.find(platform, place["gateway"]).id
    if place["tools"]:
        tools = _tools(place)
        body["tools"] = [
            {"name": tool.name, "target": tool.target, "inputSchema": tool.input_schema}
            for tool in tools.tools
        ]
        body["authorizerType"] = tools.authorizer_type
        body["gatewayArn"] = tools.gateway_arn or None
    return body


def _authorizer(place: Mapping[str, Any]) -> Any:
    return AUTHORIZERS[place["auth"]] if place["auth"] else None


def _sources(files: Sequence[Path]) -> list[tuple[str, str]]:
    return [(str(path), found.read(path)) for path in files]


def _joined(sources: Sequence[tuple[str, str]]) -> str:
    """Of several files what cannot be read is said by file and line, which a platform that is sent
    one text cannot."""
    if len(sources) > 1:
        from freehold.cli.policy import offline

        offline.rules_of(sources)
    return "\n".join(text for _, text in sources)
