"""`freehold policy` against a running platform: a rule's way into force, and out of it."""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gateway_bench import cli_of

from freehold.cli.root import root
from gateway_upstreams import Loop, McpUpstream, Tool
from running import RunningPlatform
from token_issuer import TokenIssuer

EXAMPLE = Path(__file__).parents[2] / "examples" / "policy"
BANK = EXAMPLE / "bank.cedar"
TRANSFER = "accounts___transfer"
AUDIENCE = "https://api.example.test"


@dataclass
class Bench:
    """The bank's gateway and `freehold ...` in this process."""

    environment: dict[str, str | None]
    issuer: TokenIssuer
    gateway: str
    folder: Path

    def __call__(self, *words: object) -> Result:
        return CliRunner().invoke(root, [str(word) for word in words], env=self.environment)

    def out(self, *words: object, code: int = 0) -> str:
        done = self("policy", *words)
        assert done.exit_code == code, done.output
        return done.stdout

    def document(self, *words: object, code: int = 0) -> Any:
        return json.loads(self.out(*words, "--json", code=code))

    def fails(self, *words: object, code: int = 1) -> str:
        done = self("policy", *words)
        assert done.exit_code == code, done.output
        return done.stderr

    def file(self, text: str) -> Path:
        path = self.folder / f"{secrets.token_hex(4)}.cedar"
        path.write_text(text)
        return path

    @property
    def policies(self) -> Path:
        """The example's, of this gateway: by its name."""
        return self.file(BANK.read_text().replace('"bank"', f'"{self.gateway}"'))

    @property
    def lax(self) -> Path:
        return self.file(self.policies.read_text().replace("> 1000", "> 5000"))

    def large(self, limit: int) -> Path:
        text = self.policies.read_text().replace("> 1000", f"> {limit}")
        return self.file(text[text.index('@id("large_transfers")') :])

    def transfer(self, amount: int, **claims: str) -> Result:
        """As somebody with these claims, through the gateway."""
        arguments = json.dumps({"from": "a", "to": "b", "amount": amount})
        return self(
            "gateway", "call", self.gateway, TRANSFER, "--json-args", arguments,
            "--token", self.issuer.token(**claims),
        )  # fmt: skip

    @contextmanager
    def engine(self, *options: object, mode: str = "") -> Iterator[str]:
        """The name of one with the bank's policies; with a mode the gateway asks it."""
        name = f"e{secrets.token_hex(4)}"
        self.out("engine", "create", name, *options)
        self.out("create", name, self.policies)
        if mode:
            self.out("attach", self.gateway, name, mode)
        try:
            yield name
        finally:
            if "refuse" in options:
                self.out("engine", "update", name, "--loosening", "allow")
            if mode:
                self.out("detach", self.gateway, "--yes")
            self.out("engine", "delete", name, "--with-policies", "--yes")


@pytest.fixture(scope="module")
def bench(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("policies")
    cli = cli_of(platform, folder)
    tools = [
        Tool(tool["name"].partition("___")[2], schema=tool["inputSchema"])
        for tool in json.loads((EXAMPLE / "tools.json").read_text())["tools"]
    ]
    with (
        Loop() as loop,
        McpUpstream(loop, *tools) as upstream,
        TokenIssuer() as issuer,
        cli.gateway("--discovery-url", issuer.discovery_url, "--audience", AUDIENCE) as gateway,
    ):
        cli.out("target", "add", gateway, "accounts", "--mcp", upstream.endpoint)
        yield Bench(cli.environment, issuer, gateway, folder)


def test_a_rule_is_watched_and_then_enforced(bench: Bench) -> None:
    assert "nothing to put right" in bench.out("check", bench.policies, "--gateway", bench.gateway)
    with bench.engine(mode="--log-only") as name:
        assert bench.transfer(2000, role="clerk", sub="watched").exit_code == 0
        (line,) = bench.document(
            "decisions", "--engine", name, "--denied", "--tool", TRANSFER
        )["decisions"]  # fmt: skip
        assert (line["mode"], line["principal"]) == ("LOG_ONLY", "watched")
        assert "denied (log only)" in bench.out("decisions", "--engine", name, "--denied")
        bench.out("attach", bench.gateway, name, "--enforce")
        refused = bench.transfer(2000, role="clerk")
        assert refused.exit_code == 1
        assert re.search(
            r"large_transfers-\w+: Transfers over 1000 need a manager's approval\.", refused.stderr
        )
        assert bench.transfer(1000, role="clerk").exit_code == 0
        assert bench.transfer(2000, role="clerk", manager_approval="true").exit_code == 0
        assert "asked by the gateway" in bench.out("engine", "show", name)


def test_each_policy_of_a_file_is_one_of_the_engine_called_by_its_id(bench: Bench) -> None:
    with bench.engine() as name:
        rows = bench.document("list", name)["policies"]
        assert {row["name"] for row in rows} == {"balances", "transfers", "large_transfers"}
        shown = bench.out("show", name, "large_transfers")
        assert "large_transfers is ACTIVE, mode ACTIVE" in shown
        assert f":gateway/{bench.gateway}-" in shown, "the gateway's ARN in its name's place"
        bench.out("mode", name, "large_transfers", "--log-only")
        assert "mode LOG_ONLY" in bench.out("show", name, "large_transfers")
        assert "--yes" in bench.fails("delete", name, "balances")
        bench.out("delete", name, "balances", "--yes")
        assert "balances" in bench.fails("show", name, "balances")


def test_where_a_forbid_is_not_taken_nothing_is_permitted(bench: Bench) -> None:
    text = bench.policies.read_text().replace("> 1000", "* 10 > 1000")
    name = f"e{secrets.token_hex(4)}"
    bench.out("engine", "create", name)
    done = bench("policy", "create", name, bench.file(text))
    assert done.exit_code == 1
    assert "large_transfers is CREATE_FAILED" in done.stdout
    assert "MAY_ERROR" in done.stdout
    assert "balances, transfers" in done.stderr
    bench.out("create", name, bench.file(text), "--ignore-findings", code=1)  # the name is taken
    bench.out("engine", "delete", name, "--with-policies", "--yes")


def test_a_change_is_compared_tried_and_explained_before_it_is_made(bench: Bench) -> None:
    with bench.engine(mode="--enforce") as name:
        assert bench.transfer(2000, role="clerk", sub="tried").exit_code == 1
        difference = bench.out("diff", "--engine", name, bench.lax, code=1)
        assert (
            "newly allowed for 1 action" in difference or "newly allowed for 1 tool" in difference
        )
        alone = ("--engine", name, "--policy", "large_transfers")
        assert "newly allowed" in bench.out("diff", *alone, bench.large(5000), code=1)
        assert "newly denied" in bench.out("diff", "--engine", name, "--without", "transfers")
        tried = bench.out("try", bench.large(5000), *alone, "--since", "1h")
        assert "newly allowed" in tried
        assert re.search(r"1 +newly allowed\n +0 +newly denied", tried)
        lines = bench.out(
            "try", bench.large(5000), *alone, "--json", "--fail-on", "newly-allowed", code=1
        )
        assert "summary" in json.loads(lines.splitlines()[-1])
        call = ("--gateway", bench.gateway, "--tool", TRANSFER, "--claim", "role=clerk")
        told = bench.out(
            "explain", *call, "--input", '{"from": "a", "to": "b", "amount": 2000}', code=1
        )
        assert "forbid  large_transfers: fulfilled  (decided)" in told
        bench.out("explain", *call, "--input", '{"from": "a", "to": "b", "amount": 5}')
        (line,) = bench.document("decisions", "--engine", name, "--principal", "tried")["decisions"]
        bench.out("update", name, "large_transfers", bench.large(5000))
        explained = bench.document("explain", line["id"])
        assert (explained["allowed"], explained["recorded"]["allowed"]) == (True, False)
        assert explained["recorded"]["changed"]


def test_a_loosening_waits_until_somebody_acknowledged_it(bench: Bench) -> None:
    with bench.engine("--loosening", "refuse", mode="--enforce") as name:
        change = ("update", name, "large_transfers", bench.large(5000))
        said = bench.fails(*change)
        assert "newly allow" in said
        found = re.search(r"freehold policy acknowledge \S+ ([0-9a-f]+)", said)
        assert found is not None
        assert "digest" in bench.fails("acknowledge", name, "0000")
        bench.out("acknowledge", name, found[1])
        assert "large_transfers is ACTIVE" in bench.out(*change)
        assert bench.fails("update", name, "large_transfers", bench.large(9000))
        bench.out("update", name, "large_transfers", bench.large(10))


def test_the_log_shows_what_it_may(bench: Bench) -> None:
    with bench.engine(mode="--enforce") as name:
        bench.transfer(777, role="clerk", sub="seen")
        query = ("decisions", "--engine", name, "--inputs", "--principal", "seen")
        masked = bench.out(*query)
        assert "777" not in masked
        assert "input.amount" in masked.partition("not shown")[2]
        bench.out("view", "set", name, "--reveal", "input.amount")
        assert "amount = 777" in bench.out(*query)
        assert "reveal: input.amount" in bench.out("view", "show", name)


def test_the_schema_is_shown_in_cedars_words(bench: Bench) -> None:
    assert f'action "{TRANSFER}" in ["accounts"]' in bench.out("schema", bench.gateway)
    document = bench.document("schema", bench.gateway)
    assert TRANSFER in document["schema"]["AgentCore"]["actions"]


def test_what_is_attached_is_kept_and_checked_again_when_tools_changed(bench: Bench) -> None:
    bench("gateway", "update", bench.gateway, "--instructions", "Ask.")
    with bench.engine(mode="--log-only") as name:
        said = bench.fails("engine", "delete", name, "--with-policies", "--yes")
        assert f"freehold policy detach {bench.gateway}" in said
        assert len(bench.document("list", name)["policies"]) == 3, "and loses none of its policies"
        shown = json.loads(bench("gateway", "show", bench.gateway, "--json").stdout)
        assert shown["protocolConfiguration"]["mcp"]["instructions"] == "Ask.", "it stays"
        bench("gateway", "update", bench.gateway, "--instructions", "Ask twice.")
        again = json.loads(bench("gateway", "show", bench.gateway, "--json").stdout)
        assert again["policyEngineConfiguration"] == shown["policyEngineConfiguration"]
        document = bench.document("check", "--engine", name)
        assert [gateway["policies"] for gateway in document["gateways"]] == [3]
        assert not document["fails"]
    assert name not in bench.out("engine", "list")
    assert "No policy engine called" in bench.fails("list", name)
