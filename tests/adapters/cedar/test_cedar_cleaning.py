"""What stands around a Cedar policy is taken off, and what it means stays."""

import json

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.adapters.cedar.cleaning import CedarCleaning
from freehold.ports.policies import PolicyRefused, Uid

GATEWAY = 'AgentCore::Gateway::"arn:aws:x"'
PLAIN = f'permit (principal, action == AgentCore::Action::"T___x", resource == {GATEWAY})'


def meaning(text: str) -> object:
    (policy,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    return {name: value for name, value in policy.items() if name != "annotations"}


@pytest.mark.parametrize(
    "before",
    [
        '@id("x")\n',
        '@reason("it says \\"no\\" // twice")',
        "@bare @also\n",
        '// @id("y")\n@id("z") // and more\n',
        '@ id ( "spaced" )\n',
        '@permit("an annotation may be called so")\n',
    ],
)
def test_annotations_and_comments_go_and_the_policy_stays(before: str) -> None:
    text = f'{before}{PLAIN} when {{ // why\n context.input.url like "http://*" }};'
    cleaned = CedarCleaning().clean(text)
    assert cleaned.text.startswith("permit (") and "why" not in cleaned.text
    assert 'like "http://*"' in cleaned.text
    assert meaning(cleaned.text) == meaning(text)


def test_what_an_annotation_said_is_told() -> None:
    cleaned = CedarCleaning().clean(f'@id("x")\n@bare\n@reason("a \\"b\\"")\n{PLAIN};')
    assert cleaned.annotations == {"id": "x", "bare": "", "reason": 'a "b"'}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_whatever_stands_in_strings_and_comments_the_meaning_is_the_same(words: str) -> None:
    quoted = "".join(f"\\u{{{ord(character):x}}}" for character in words)
    plain = "".join(c for c in words if c.isprintable() and c not in '"\\')
    line = " ".join(words.split())
    text = (
        f'@reason("{quoted}") // {line}\n{PLAIN} when {{ context.input.a == "{plain}" // {line}\n'
        f'&& context.input.b == "{quoted}" }};'
    )
    cleaned = CedarCleaning().clean(text)
    assert meaning(cleaned.text) == meaning(text)
    assert cleaned.annotations == {"reason": words}


def test_all_that_a_policy_names_is_told_wherever_it_stands() -> None:
    cleaned = CedarCleaning().clean(
        'permit (principal in AgentCore::Team::"a", action in [AgentCore::Action::"b"], resource) '
        'when { {type: "t", id: "i"} == context.input.r } '
        'unless { principal == AgentCore::OAuthUser::"c" || '
        'resource in [AgentCore::Gateway::"d"] };'
    )
    assert cleaned.named == {
        Uid("AgentCore::Team", "a"),
        Uid("AgentCore::Action", "b"),
        Uid("AgentCore::OAuthUser", "c"),
        Uid("AgentCore::Gateway", "d"),
    }
    assert cleaned.statement.resource is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "// nothing",
        f"{PLAIN}; {PLAIN};",
        "permit (principal == ?principal, action, resource);",
        "permit (principal, action, resource)",
        f"{PLAIN} when {{ {'(' * 500}true{')' * 500} }};",
        f"{PLAIN} when {{ {' && '.join(['true'] * 1500)} }};",
        f"{PLAIN} when {{ context{'.a' * 3000} == 1 }};",
        "\ud800",
    ],
)
def test_what_is_not_one_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyRefused):
        CedarCleaning().clean(text)
