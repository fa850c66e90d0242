"""A text of several Cedar policies, as its single policies, each as it was written."""

import json
import re
from collections.abc import Iterator, Sequence

import cedarpy

from freehold.ports.policies import PolicyRefused, Rule

RULES_MAX = 1000
DEPTH_MAX = 100

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n\r]*|[()\[\]{}]', re.DOTALL)
_LINE_END = re.compile(r"[\n\r]")


def check_depth(text: str) -> None:
    """Raises PolicyRefused. Cedar's parser calls itself for each bracket, and takes the whole
    process with it when the stack is used up: at some 700 of them."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "([{":
            depth += 1
            if depth > DEPTH_MAX:
                line = text.count("\n", 0, token.start()) + 1
                raise PolicyRefused([f"line {line}: more than {DEPTH_MAX} brackets in brackets"])
        elif token[0] in ")]}":
            depth = max(depth - 1, 0)


def split(text: str) -> Sequence[Rule]:
    """Raises PolicyRefused with the line where a policy that cannot be read begins."""
    check_depth(text)
    rules: list[Rule] = []
    problems: list[str] = []
    seen: set[str] = set()
    for line, statement in _statements(text):
        try:
            id = _id(statement) or f"policy{len(rules)}"
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if id in seen:
            problems.append(f"line {line}: two policies have the id {id!r}")
        seen.add(id)
        rules.append(Rule(id=id, statement=statement))
    if len(rules) > RULES_MAX:
        problems.append(f"there are {len(rules)} policies, and may be {RULES_MAX}")
    if problems:
        raise PolicyRefused(problems)
    return rules


def _id(statement: str) -> str:
    """What its annotation says, or nothing. Raises ValueError for what is no static policy."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement))
    except RecursionError:  # its JSON is nested once for each `&&` of a chain
        raise ValueError("the policy is nested too deeply") from None
    if parsed.get("templates"):
        raise ValueError("a policy with ?principal or ?resource is a template, and no policy")
    policies = list(parsed["staticPolicies"].values())
    if len(policies) != 1:
        raise ValueError("expected one policy")
    id = policies[0].get("annotations", {}).get("id") or ""
    if "`" in id:
        raise ValueError("a policy's id must not hold a backtick")
    return str(id)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each with the line of its first word. A semicolon ends a policy, unless it stands in a string
    or a comment; comments before a policy are left out, as they may be about what is above."""
    start, at, line, first = 0, 0, 1, 0
    while at < len(text):
        here = text[at]
        if text.startswith("//", at):
            at = _comment_end(text, at)
            if not first:
                start = at
            continue
        if here == "\n":
            line += 1
        elif not here.isspace() and not first:
            start, first = at, line
        if here == '"':
            closed = _string_end(text, at)
            line += text.count("\n", at, closed)
            at = closed
            continue
        at += 1
        if here == ";":
            yield first, text[start:at]
            start, first = at, 0
    if first:
        yield first, text[start:].rstrip()


def _comment_end(text: str, at: int) -> int:
    end = _LINE_END.search(text, at)
    return end.start() if end else len(text)


def _string_end(text: str, at: int) -> int:
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return min(at + 1, len(text))
