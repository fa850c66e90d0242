"""A rule in plain English, made into assets: statements with what was found out about each."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from freehold.kernel.errors import Unavailable
from freehold.ports.enforcement import GovernedGateway
from freehold.ports.policies import PolicyRefused
from freehold.services.policy.generation_author import Author, GenerationFailed
from freehold.services.policy.generation_brief import brief
from freehold.services.policy.generation_checking import Checking, Finding
from freehold.services.policy.generation_prompt import (
    CANDIDATES_MAX,
    Brief,
    Candidate,
    Unreadable,
    plain,
)
from freehold.services.policy.generation_text import Span, find, sentences
from freehold.services.policy.schema import SchemaTooLarge, gateway_schema

CORRECTIONS_MAX = 3
_PROBLEMS_SHOWN = 3
_NOBODY_WROTE_IT = (
    "`fragment` is not in the rule: it must be words of the rule, copied letter by letter"
)
_NOTHING_PROPOSED = "The model proposed nothing for this."

Told = Callable[[str], Awaitable[None]]
"""Hears what is being worked at."""


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """`statement` is "" where there is none to make a policy of. `fragment` are words of the rule
    as they were written, never the model's."""

    id: str
    fragment: str
    statement: str
    findings: Sequence[Finding]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    span: Span
    statement: str
    findings: Sequence[Finding]


class Translating:
    def __init__(self, *, author: Author, checking: Checking) -> None:
        self._author, self._checking = author, checking

    async def translate(
        self, gateway: GovernedGateway, rule: str, *, seed: str, told: Told
    ) -> tuple[list[Asset], list[str]]:
        """The assets in the rule's order, and remarks on the whole. The ids come from `seed`: who
        does it again makes no second set. Raises GenerationFailed."""
        try:
            schema = gateway_schema(gateway)
        except SchemaTooLarge as error:
            raise GenerationFailed(str(error)) from None
        asked = brief(gateway, schema, rule)
        await told("the model is asked")
        proposed = await self._author.propose(asked)
        remarks = _remarks(asked, proposed)
        parts: list[_Part] = []
        for number, candidate in enumerate(proposed[:CANDIDATES_MAX], 1):
            shown = min(len(proposed), CANDIDATES_MAX)
            await told(f"part {number} of {shown} is checked: {plain(candidate.fragment)[:100]}")
            part = await self._part(asked, schema.document, candidate)
            if part is not None and part not in parts:
                parts.append(part)
        whole = [*parts, *_left_over(rule, parts)]
        whole.sort(key=lambda part: part.span)
        return [_asset(seed, rule, number, part) for number, part in enumerate(whole)], remarks

    async def _part(
        self, asked: Brief, schema: Mapping[str, Any], candidate: Candidate
    ) -> _Part | None:
        span, problems = find(asked.rule, candidate.fragment), [_NOBODY_WROTE_IT]
        for left in range(CORRECTIONS_MAX, -1, -1):
            if not candidate.statement:
                return _not_translatable(span, candidate)
            if span is not None:
                try:
                    checked = await self._checking.check(
                        candidate.statement, asked.gateway_arn, schema
                    )
                    findings = _with_remark(checked.findings, candidate.remark)
                    return _Part(span=span, statement=checked.statement, findings=findings)
                except PolicyRefused as refused:
                    problems = list(refused.problems)
                except Unavailable as error:
                    raise GenerationFailed(
                        f"a statement could not be analysed: {error.message}"
                    ) from None
            if left:
                try:
                    candidate = await self._author.correct(asked, candidate, problems)
                except Unreadable as error:
                    problems = [*problems, f"Your answer could not be used: {error}"]
                # Words that were found stay: a correction is of the statement.
                span = span or find(asked.rule, candidate.fragment)
        return _invalid(span or Span(0, len(asked.rule)), problems)


def _with_remark(findings: Sequence[Finding], remark: str) -> Sequence[Finding]:
    """What the model had to assume. Its words stand where nothing is wrong, and as its words."""
    return [
        Finding(each.type, f"{each.description} The model says: {remark}")
        if remark and each.type == "VALID"
        else each
        for each in findings
    ]


def _not_translatable(span: Span | None, candidate: Candidate) -> _Part | None:
    """What is about no words of the rule is about nothing."""
    if span is None:
        return None
    said = candidate.remark or "The model found no policy that says this."
    return _Part(span=span, statement="", findings=[Finding("NOT_TRANSLATABLE", said)])


def _invalid(span: Span, problems: Sequence[str]) -> _Part:
    said = "; ".join(plain(problem) for problem in problems[:_PROBLEMS_SHOWN])
    return _Part(
        span=span,
        statement="",
        findings=[Finding("INVALID", f"No statement of the model's could be used: {said}")],
    )


def _left_over(rule: str, parts: Sequence[_Part]) -> list[_Part]:
    """Nothing that was written goes missing without a word."""
    return [
        _Part(span=span, statement="", findings=[Finding("NOT_TRANSLATABLE", _NOTHING_PROPOSED)])
        for span in sentences(rule)
        if not any(span.touches(part.span) for part in parts)
    ]


def _remarks(asked: Brief, proposed: Sequence[Candidate]) -> list[str]:
    remarks = []
    if asked.tools_left_out:
        remarks.append(
            f"{asked.tools_left_out} tools, whose names have the least to do with the text, did "
            "not fit in what the model was told."
        )
    if len(proposed) > CANDIDATES_MAX:
        remarks.append(
            f"The model proposed {len(proposed)} policies; the first {CANDIDATES_MAX} were taken."
        )
    return remarks


def _asset(seed: str, rule: str, number: int, part: _Part) -> Asset:
    digest = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:10]
    return Asset(
        id=f"asset-{digest}",
        fragment=rule[part.span.start : part.span.end],
        statement=part.statement,
        findings=part.findings,
    )
