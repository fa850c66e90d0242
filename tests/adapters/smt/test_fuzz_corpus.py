"""Policies as people write them: the prover can tell, and says of each what a person would."""

import json
from collections import defaultdict

import cedarpy
from cedar_corpus import Entry, corpus, pools_of, shop
from cedar_judge import Judge
from cedar_requests import Requests

from freehold.adapters.smt import proofs
from freehold.ports.reasoning import Property

UNSUPPORTED_MAX = 0.05
OF_THE_SET = frozenset({Property.REDUNDANT, Property.SHADOWED})
"""Not of a policy by itself: a forbid that is alone is redundant."""


def findings_of(entries: list[Entry]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        analysis = proofs.analyse([entry.rule], entry.schema)
        for finding in analysis.findings:
            if finding.policy == entry.rule.id and finding.property not in OF_THE_SET:
                found[entry.rule.id].add(finding.property.value)
    return found


def test_the_prover_says_of_each_policy_what_a_person_would() -> None:
    entries = corpus()
    assert len(entries) >= 120
    found = findings_of(entries)
    untold = {id: what for id, what in found.items() if what & {"UNSUPPORTED", "UNDECIDED"}}
    assert len(untold) <= UNSUPPORTED_MAX * len(entries), untold
    said = {
        entry.rule.id: (entry.expect, found[entry.rule.id])
        for entry in entries
        if entry.rule.id not in untold
    }
    others = {id: pair for id, pair in said.items() if pair[1] != ({pair[0]} - {"fine"})}
    assert not others


def test_the_corpus_names_each_finding_several_times() -> None:
    expected = [entry.expect for entry in corpus()]
    for name in (
        "fine",
        "ALLOW_ALL",
        "ALLOW_NONE",
        "DENY_ALL",
        "DENY_NONE",
        "INVALID",
        "MAY_ERROR",
    ):
        assert expected.count(name) >= 3, name
    assert len({entry.rule.id for entry in corpus()}) == len(expected)


def test_the_engine_contradicts_no_expectation_of_the_corpus() -> None:
    worlds = {name: shop(name) for name in ("OAuthUser", "IamEntity")}
    schemas = {
        name: cedarpy.Schema.from_json_str(json.dumps(world.schema()))
        for name, world in worlds.items()
    }
    for entry in corpus():
        if entry.expect == "INVALID":
            continue
        kind = "IamEntity" if entry.rule.id.startswith("iam_") else "OAuthUser"
        world = worlds[kind]
        judge = Judge([entry.rule], schemas[kind])
        requests = Requests(world, pools_of(entry.rule.statement), 1)
        for _ in range(12):
            request, entities = requests.any()
            verdict = judge.of(request, entities)
            assert entry.expect not in ("ALLOW_NONE", "DENY_NONE") or not verdict.satisfied, entry
            assert entry.expect == "MAY_ERROR" or not verdict.erred, entry
