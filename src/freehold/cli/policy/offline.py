"""Proofs on this machine, with no platform anywhere: what `freehold policy check` and `diff` use
with `--tools`. Slow to import, with Cedar and a solver."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.smt.reasoning import SmtReasoning
from freehold.cli.failure import CliError
from freehold.cli.policy.found import read
from freehold.kernel.errors import FreeholdError
from freehold.ports.enforcement import GovernedGateway
from freehold.ports.policies import PolicyRefused, Rule
from freehold.services.policy.native import CheckAnswer, DiffAnswer
from freehold.services.policy.proving import Authorizer, Proofs, ToolGiven
from freehold.services.policy.schema import OWN_IDS, SAME

Source = tuple[str, str]
"""A file's name and its text."""


class ToolsFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As MCP's tools/list answers; the gateway's own facts where they matter."""

    tools: list[ToolGiven]
    gateway_arn: str = ""
    authorizer_type: Authorizer = "CUSTOM_JWT"


def rules_of(sources: Sequence[Source]) -> Sequence[Rule]:
    """Of all files together. Raises CliError with the file and the line."""
    engine = CedarEngine()
    problems = []
    for name, text in sources:
        try:
            engine.split(text)
        except PolicyRefused as refused:
            problems += [f"{name}, {problem}" for problem in refused.problems]
    if problems:
        raise CliError("; ".join(problems), code="BadPolicy")
    try:
        return engine.split("\n".join(text for _, text in sources))
    except PolicyRefused as refused:
        raise CliError("; ".join(refused.problems), code="BadPolicy") from None


def forbids(statement: str) -> bool:
    return CedarStatements().read(statement).effect == "forbid"


def tools_of(path: Path, authorizer: Authorizer | None, gateway_arn: str | None) -> ToolsFile:
    """What the command says counts before what the file says."""
    text = read(path)
    try:
        document = json.loads(text)
        if isinstance(document, list):
            document = {"tools": document}
        found = msgspec.convert(document, ToolsFile)
    except (ValueError, msgspec.ValidationError) as error:
        raise CliError(
            f"{path}: {error}",
            code="BadFile",
            hint='Expected {"tools": [{"name", "inputSchema"}, ...]}, as MCP\'s tools/list has it, '
            "or that list alone.",
        ) from None
    return ToolsFile(
        tools=found.tools,
        gateway_arn=gateway_arn or found.gateway_arn,
        authorizer_type=authorizer or found.authorizer_type,
    )


def check(sources: Sequence[Source], tools: ToolsFile, seconds_max: float) -> Any:
    """The document that CheckPolicies answers."""
    rules = rules_of(sources)

    async def proven(proofs: Proofs) -> CheckAnswer:
        gateway = _gateway(proofs, tools, rules)
        found = await proofs.check(gateway, rules, seconds_max=seconds_max)
        return CheckAnswer(fails=found.fails, gateways=[found])

    return _proven(proven)


def diff(old: Sequence[Source], new: Sequence[Source], tools: ToolsFile, seconds_max: float) -> Any:
    """The document that DiffPolicies answers."""
    before, after = rules_of(old), rules_of(new)

    async def proven(proofs: Proofs) -> DiffAnswer:
        gateway = _gateway(proofs, tools, [*before, *after])
        found = await proofs.diff(gateway, before, after, seconds_max=seconds_max)
        return DiffAnswer(equivalent=found.equivalent, loosens=found.loosens, gateways=[found])

    return _proven(proven)


def _gateway(proofs: Proofs, tools: ToolsFile, rules: Sequence[Rule]) -> GovernedGateway:
    return proofs.stand_in(
        tools.tools, rules, arn=tools.gateway_arn, authorizer=tools.authorizer_type
    )


def _proven(act: Callable[[Proofs], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        reasoning = SmtReasoning(quiet=True, own_ids=OWN_IDS, same=SAME)
        try:
            return await act(Proofs(CedarEngine(), CedarStatements(), reasoning))
        finally:
            await reasoning.close()

    try:
        return msgspec.to_builtins(asyncio.run(run()))
    except FreeholdError as error:
        raise CliError(error.message, code=error.code) from None
