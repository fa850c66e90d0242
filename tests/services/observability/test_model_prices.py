"""What tokens cost: never a guess, never 0 for what is not known."""

from pathlib import Path
from typing import Any

import genai_prices
import pytest
from told_spans import PRICES, Trace

from freehold.ports.spans import Facts
from freehold.services.observability.model import Tokens
from freehold.services.observability.model_prices import (
    ModelPricesWrong,
    PriceBook,
    read_model_prices,
)

USED = Tokens(input=3_000, output=200, cache_read=1_000)


@pytest.mark.parametrize(
    ("provider", "model", "bundled", "tokens"),
    [
        ("openai", "gpt-4o", "openai", USED),
        ("anthropic", "claude-sonnet-4-5", "anthropic",
         Tokens(input=3_000, output=200, cache_read=1_000, cache_write=500)),
        ("gcp.gemini", "gemini-2.5-pro", "google", USED),
        # Beyond 200,000 tokens all of them cost more.
        ("gcp.vertex_ai", "gemini-2.5-pro", "google", Tokens(input=300_000, output=200)),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws", USED),
        ("openai", "text-embedding-3-small", "openai", Tokens(input=3_000)),
    ],
)  # fmt: skip
def test_a_known_model_costs_what_the_bundled_prices_say(
    provider: str, model: str, bundled: str, tokens: Tokens
) -> None:
    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )
    theirs = genai_prices.calc_price(usage, model, provider_id=bundled)
    assert PRICES.cost(provider, model, tokens) == pytest.approx(float(theirs.total_price))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("ollama", "gpt-4o"),
        ("a-server-of-ours", "claude-sonnet-4-5"),
        ("", ""),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/unknown.model"),
    ],
)
def test_an_unknown_model_or_provider_has_no_price(provider: str, model: str) -> None:
    assert PRICES.cost(provider, model, USED) is None


def test_a_framework_that_names_itself_leaves_the_model_to_decide() -> None:
    theirs = PRICES.cost("anthropic", "claude-sonnet-4-5", USED)
    assert theirs is not None
    assert PRICES.cost("strands-agents", "claude-sonnet-4-5", USED) == theirs
    assert PRICES.cost("litellm", "anthropic/claude-sonnet-4-5", USED) == theirs


def test_the_operators_prices_win(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        """
        ["gpt-4o"]
        input = 1
        output = 2
        cache_read = 0.5
        ["azure/gpt-4o"]
        input = 10
        output = 20
        ["llama3*"]
        input = 0
        output = 0
        """
    )
    book = PriceBook(read_model_prices(file))
    assert book.cost("openai", "gpt-4o", USED) == pytest.approx(
        (2_000 * 1 + 1_000 * 0.5 + 200 * 2) / 1e6
    )
    assert book.cost("azure", "GPT-4o", USED) == pytest.approx((3_000 * 10 + 200 * 20) / 1e6)
    assert book.cost("ollama", "llama3.1:8b", USED) == 0.0, "somebody said that it costs nothing"
    assert book.cost("ollama", "qwen3", USED) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("gpt = 3", "gpt: expected a table"),
        ("[gpt]\ninput = 1", "gpt.output is missing"),
        ("[gpt]\ninput = -1\noutput = 1", "gpt.input = -1"),
        ('[gpt]\ninput = "1"\noutput = 1', "gpt.input = '1'"),
        ("[gpt]\ninput = 1\noutput = 1\nimages = 1", "gpt.images: no such entry"),
        ("[gpt", "are wrong"),
    ],
)
def test_a_wrong_file_names_its_fault(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ModelPricesWrong, match=fault.replace("[", r"\[")):
        read_model_prices(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelPricesWrong, match=r"nowhere\.toml cannot be read"):
        read_model_prices(tmp_path / "nowhere.toml")


def _facts(**more: Any) -> Facts:
    trace = Trace("1")
    trace.chat(**more)
    return trace.spans[0].facts


def test_a_span_that_comes_in_is_given_its_cost() -> None:
    assert _facts(tokens=(1_000, 100)).cost == pytest.approx(0.0035)
    assert _facts(model="no-such-model").cost is None
    assert _facts(tokens=(0, 0)).cost is None, "nobody told what it took"


def test_the_model_that_answered_is_asked_for_its_price_first() -> None:
    answered = {"gen_ai.response.model": "gpt-4o-mini"}
    small = _facts(tokens=(1_000, 100), attributes=answered)
    assert small.model == "gpt-4o", "lists show what was asked for"
    assert small.cost is not None
    assert small.cost < 0.0035
    unknown = {"gen_ai.response.model": "deployment-7"}
    assert _facts(tokens=(1_000, 100), attributes=unknown).cost == pytest.approx(0.0035)


def test_nobody_but_the_platform_tells_of_decisions() -> None:
    trace = Trace("1")
    said = {"freehold.policy.decision": "allow"}
    trace.span("decide", attributes=said, origin="agent")
    trace.span("decide", attributes=said, origin="platform")
    assert [span.facts.operation for span in trace.spans] == ["", "policy"]
