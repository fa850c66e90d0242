"""Strategies with real boto3: of every kind, with their defaults, checks, and changes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from control_memory_ground import REFUSED_TOPIC, TOPIC, ControlGround

from edge_ground import refused
from freehold.kernel.errors import ValidationFailed
from freehold.services.memory import strategies as reading
from freehold.services.memory.memories import memory_of
from freehold.services.memory.model import MEMORY, Memory, Strategy
from freehold.services.memory.namespace_keys import check_keys, check_values

ACTOR = "/strategies/{memoryStrategyId}/actors/{actorId}/"
SESSION = ACTOR + "sessions/{sessionId}/"
PROMPT = {"appendToPrompt": "Only of food.", "modelId": "small"}
OTHER = {"appendToPrompt": "Only of drink.", "modelId": "large"}
INVOCATION = {"topicArn": TOPIC, "payloadDeliveryBucketName": "said-things"}


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlGround]:
    async with ControlGround(await fresh_dsn(), tmp_path_factory.mktemp("strategies")).open() as it:
        yield it


async def made(ground: ControlGround, tenant: str, member: str, **given: Any) -> tuple[str, Any]:
    """The memory's id, and its one strategy as shown."""
    memory = await ground.memory(tenant, memoryStrategies=[{member: {"name": "own", **given}}])
    assert await ground.shown(tenant, memory["id"]) == memory
    (strategy,) = memory["strategies"]
    return memory["id"], strategy


async def refusal(ground: ControlGround, tenant: str, member: str, **given: Any) -> str:
    return await refused(made(ground, tenant, member, **given), "ValidationException")


async def modified(ground: ControlGround, tenant: str, memory_id: str, **given: Any) -> Any:
    (now,) = (await ground.shown(tenant, memory_id))["strategies"]
    answer = await ground.control(tenant).update_memory(
        memoryId=memory_id,
        memoryStrategies={
            "modifyMemoryStrategies": [{"memoryStrategyId": now["strategyId"], **given}]
        },
    )
    (strategy,) = answer["memory"]["strategies"]
    return strategy


async def kept(ground: ControlGround, tenant: str, memory_id: str) -> Strategy:
    """As the other parts of the service get it."""
    (strategy,) = (await ground.loaded.get(tenant, memory_id)).strategies
    return strategy


# -- kinds


@pytest.mark.parametrize(
    ("member", "type", "namespace"),
    [
        ("semanticMemoryStrategy", "SEMANTIC", ACTOR),
        ("summaryMemoryStrategy", "SUMMARIZATION", SESSION),
        ("userPreferenceMemoryStrategy", "USER_PREFERENCE", ACTOR),
        ("episodicMemoryStrategy", "EPISODIC", SESSION),
    ],
)
async def test_a_built_in_strategy_has_its_defaults(
    ground: ControlGround, tenant: str, member: str, type: str, namespace: str
) -> None:
    memory_id, strategy = await made(ground, tenant, member, description="what it is for")
    assert strategy["strategyId"].startswith("own-") and len(strategy["strategyId"]) == 14
    assert strategy["type"] == type and strategy["status"] == "ACTIVE"
    assert strategy["namespaces"] == strategy["namespaceTemplates"] == [namespace]
    assert strategy["description"] == "what it is for"
    assert ("configuration" in strategy) == (type == "EPISODIC")
    own = await kept(ground, tenant, memory_id)
    assert reading.learns_as(own) == type
    assert reading.override(own, "consolidation") is None and reading.self_managed(own) is None


async def test_namespaces_are_taken_by_either_name_and_shown_by_both(
    ground: ControlGround, tenant: str
) -> None:
    for n, name in enumerate(("namespaces", "namespaceTemplates")):
        memory = await ground.memory(
            tenant, f"m{n}",
            memoryStrategies=[
                {"semanticMemoryStrategy": {"name": "own", name: ["food/{actorId}/{strategyId}"]}}
            ],
        )  # fmt: skip
        (strategy,) = memory["strategies"]
        given = ["food/{actorId}/{strategyId}"]
        assert strategy["namespaces"] == strategy["namespaceTemplates"] == given
    message = await refusal(
        ground, tenant, "semanticMemoryStrategy", namespaces=["a"], namespaceTemplates=["b"]
    )
    assert "give one of them" in message


OVERRIDES = {
    "semanticOverride": ("SEMANTIC", ("extraction", "consolidation"), ACTOR),
    "summaryOverride": ("SUMMARIZATION", ("consolidation",), SESSION),
    "userPreferenceOverride": ("USER_PREFERENCE", ("extraction", "consolidation"), ACTOR),
    "episodicOverride": ("EPISODIC", ("extraction", "consolidation", "reflection"), SESSION),
}


@pytest.mark.parametrize("kind", OVERRIDES)
async def test_each_step_can_be_overridden_and_is_shown_by_the_names_of_answers(
    ground: ControlGround, tenant: str, kind: str
) -> None:
    learns, steps, namespace = OVERRIDES[kind]
    given = {kind: dict.fromkeys(steps, PROMPT)}
    memory_id, strategy = await made(ground, tenant, "customMemoryStrategy", configuration=given)
    assert strategy["type"] == "CUSTOM" and strategy["namespaces"] == [namespace]
    configuration = strategy["configuration"]
    prefix = kind.removesuffix("Override")
    assert configuration["type"] == {
        "userPreference": "USER_PREFERENCE_OVERRIDE",
        "summary": "SUMMARY_OVERRIDE",
    }.get(prefix, f"{prefix.upper()}_OVERRIDE")
    own = await kept(ground, tenant, memory_id)
    assert reading.learns_as(own) == learns
    for step in steps:
        shown = configuration[step][f"custom{step.capitalize()}Configuration"]
        found = shown[f"{prefix}{step.capitalize()}Override"]
        assert {name: found[name] for name in PROMPT} == PROMPT
        assert reading.override(own, step) == reading.Override(
            prompt="Only of food.", model_id="small"
        )
    for step in {"extraction", "consolidation", "reflection"} - set(steps):
        assert reading.override(own, step) is None


async def test_a_custom_strategy_says_what_it_overrides(ground: ControlGround, tenant: str) -> None:
    assert "needs a configuration" in await refusal(ground, tenant, "customMemoryStrategy")


async def test_a_self_managed_strategy_has_all_its_settings(
    ground: ControlGround, tenant: str
) -> None:
    given = {"selfManagedConfiguration": {"invocationConfiguration": INVOCATION}}
    memory_id, strategy = await made(ground, tenant, "customMemoryStrategy", configuration=given)
    assert strategy["configuration"]["type"] == "SELF_MANAGED"
    own = strategy["configuration"]["selfManagedConfiguration"]
    kinds = [kind for trigger in own["triggerConditions"] for kind in trigger]
    assert sorted(kinds) == ["messageBasedTrigger", "timeBasedTrigger", "tokenBasedTrigger"]
    assert own["historicalContextWindowSize"] == 4
    assert own["invocationConfiguration"] == INVOCATION
    assert reading.self_managed(await kept(ground, tenant, memory_id)) == own
    assert reading.learns_as(await kept(ground, tenant, memory_id)) == "SELF_MANAGED"
    memory = await ground.loaded.get(tenant, memory_id)
    assert ground.memories.waiting(memory) == [], "it needs no model of ours"

    triggers = [{"messageBasedTrigger": {"messageCount": 2}}]
    changed = await modified(
        ground, tenant, memory_id,
        configuration={
            "selfManagedConfiguration": {
                "triggerConditions": triggers, "historicalContextWindowSize": 0,
                "invocationConfiguration": {"payloadDeliveryBucketName": "other-things"},
            }
        },
    )  # fmt: skip
    assert changed["configuration"]["selfManagedConfiguration"] == {
        "triggerConditions": triggers,
        "historicalContextWindowSize": 0,
        "invocationConfiguration": {"topicArn": TOPIC, "payloadDeliveryBucketName": "other-things"},
    }


async def test_a_trigger_without_a_number_has_the_usual_one(
    ground: ControlGround, tenant: str
) -> None:
    given: dict[str, Any] = {
        "invocationConfiguration": INVOCATION,
        "triggerConditions": [{"tokenBasedTrigger": {}}, {"timeBasedTrigger": {}}],
    }
    memory_id, strategy = await made(
        ground, tenant, "customMemoryStrategy", configuration={"selfManagedConfiguration": given}
    )
    own = strategy["configuration"]["selfManagedConfiguration"]
    assert own["triggerConditions"] == [
        {"tokenBasedTrigger": {"tokenCount": 5000}},
        {"timeBasedTrigger": {"idleSessionTimeout": 20}},
    ]
    changed = await modified(
        ground, tenant, memory_id,
        configuration={
            "selfManagedConfiguration": {"triggerConditions": [{"messageBasedTrigger": {}}]}
        },
    )  # fmt: skip
    own = changed["configuration"]["selfManagedConfiguration"]
    assert own["triggerConditions"] == [{"messageBasedTrigger": {"messageCount": 6}}]


async def test_a_self_managed_strategy_is_told_somewhere_that_exists(
    ground: ControlGround, tenant: str
) -> None:
    nobody = {"invocationConfiguration": {**INVOCATION, "topicArn": REFUSED_TOPIC}}
    message = await refusal(
        ground, tenant, "customMemoryStrategy", configuration={"selfManagedConfiguration": nobody}
    )
    assert "nobody can be told there" in message
    twice = [{"messageBasedTrigger": {"messageCount": n}} for n in (1, 2)]
    message = await refusal(
        ground, tenant, "customMemoryStrategy",
        configuration={
            "selfManagedConfiguration": {
                "invocationConfiguration": INVOCATION, "triggerConditions": twice
            }
        },
    )  # fmt: skip
    assert "one of each kind" in message


# -- reflections


@pytest.mark.parametrize(
    ("episodes", "reflections"),
    [
        (None, ACTOR),
        ("/strategies/{strategyId}/actors/{actorId}/sessions/{sessionId}", ACTOR),
        ("trips/{actorId}/{sessionId}/", "trips/{actorId}/"),
        ("{sessionId}", "/"),
        ("/trips/{actorId}/", "/trips/{actorId}/"),
    ],
)
async def test_reflections_stand_above_the_sessions_unless_said_otherwise(
    ground: ControlGround, tenant: str, episodes: str | None, reflections: str
) -> None:
    given = {"namespaceTemplates": [episodes]} if episodes else {}
    memory_id, strategy = await made(ground, tenant, "episodicMemoryStrategy", **given)
    shown = strategy["configuration"]["reflection"]["episodicReflectionConfiguration"]
    assert shown == {"namespaces": [reflections], "namespaceTemplates": [reflections]}
    assert reading.reflection(await kept(ground, tenant, memory_id)) == reading.Reflection(
        namespaces=(reflections,)
    )


async def test_reflections_begin_as_their_episodes_do(ground: ControlGround, tenant: str) -> None:
    message = await refusal(
        ground, tenant, "episodicMemoryStrategy",
        namespaceTemplates=["/trips/{actorId}/{sessionId}/"],
        reflectionConfiguration={"namespaceTemplates": ["/insights/{actorId}/"]},
    )  # fmt: skip
    assert "is not the beginning" in message
    # Half of a name is no beginning of it.
    await refusal(
        ground, tenant, "episodicMemoryStrategy",
        namespaceTemplates=["/trips/{actorId}/"],
        reflectionConfiguration={"namespaces": ["/tri"]},
    )  # fmt: skip
    memory_id, _ = await made(
        ground, tenant, "episodicMemoryStrategy",
        namespaceTemplates=["/trips/{actorId}/{sessionId}/"],
        reflectionConfiguration={"namespaces": ["trips"]},
    )  # fmt: skip
    with pytest.raises(Exception, match="is not the beginning"):
        await modified(ground, tenant, memory_id, namespaces=["/journeys/{actorId}/{sessionId}/"])


async def test_a_reflection_that_is_changed_stays_where_it_was(
    ground: ControlGround, tenant: str
) -> None:
    steps = {"reflection": {**PROMPT, "namespaceTemplates": ["/trips/"]}}
    memory_id, _ = await made(
        ground, tenant, "customMemoryStrategy", namespaces=["/trips/{actorId}/{sessionId}/"],
        configuration={"episodicOverride": steps},
    )  # fmt: skip
    override = {"customReflectionConfiguration": {"episodicReflectionOverride": OTHER}}
    strategy = await modified(ground, tenant, memory_id, configuration={"reflection": override})
    shown = strategy["configuration"]["reflection"]["customReflectionConfiguration"]
    assert shown["episodicReflectionOverride"] == {
        **OTHER, "namespaces": ["/trips/"], "namespaceTemplates": ["/trips/"],
    }  # fmt: skip


# -- together


async def test_a_memory_has_six_strategies_of_different_names(
    ground: ControlGround, tenant: str
) -> None:
    many = [{"semanticMemoryStrategy": {"name": f"s{n}"}} for n in range(7)]
    await refused(ground.memory(tenant, memoryStrategies=many), "ServiceQuotaExceededException")
    twins = [
        {kind: {"name": "own"}} for kind in ("semanticMemoryStrategy", "summaryMemoryStrategy")
    ]
    message = await refused(ground.memory(tenant, memoryStrategies=twins), "ValidationException")
    assert "'own'" in message
    memory = await ground.memory(tenant, memoryStrategies=many[:6])
    gone = [{"memoryStrategyId": memory["strategies"][2]["strategyId"]}]
    answer = await ground.control(tenant).update_memory(
        memoryId=memory["id"],
        memoryStrategies={"deleteMemoryStrategies": gone, "addMemoryStrategies": many[6:]},
    )
    names = [strategy["name"] for strategy in answer["memory"]["strategies"]]
    assert names == ["s0", "s1", "s3", "s4", "s5", "s6"]


async def test_what_is_not_there_cannot_be_changed(ground: ControlGround, tenant: str) -> None:
    memory_id, _ = await made(ground, tenant, "semanticMemoryStrategy")
    before = await ground.shown(tenant, memory_id)
    for change in ("modifyMemoryStrategies", "deleteMemoryStrategies"):
        message = await refused(
            ground.control(tenant).update_memory(
                memoryId=memory_id, description="new",
                memoryStrategies={change: [{"memoryStrategyId": "own-0000000000"}]},
            ),
            "ValidationException",
        )  # fmt: skip
        assert "no strategy 'own-0000000000'" in message
    assert await ground.shown(tenant, memory_id) == before


async def test_templates_name_only_what_something_fills_in(
    ground: ControlGround, tenant: str
) -> None:
    place = {"name": "own", "namespaceTemplates": ["/{team}/{actorId}/"]}
    strategies = [{"semanticMemoryStrategy": place}]
    message = await refused(
        ground.memory(tenant, memoryStrategies=strategies), "ValidationException"
    )
    assert "nothing fills in {team}" in message and "namespaceKeys" in message
    memory = await ground.memory(
        tenant, memoryStrategies=strategies, namespaceKeys=[{"key": "team"}, {"key": "stage"}]
    )
    control = ground.control(tenant)
    # What is left out of the list is gone, unless a template needs it.
    await refused(
        control.update_memory(memoryId=memory["id"], namespaceKeys=[]), "ValidationException"
    )
    answer = await control.update_memory(memoryId=memory["id"], namespaceKeys=[{"key": "team"}])
    assert answer["memory"]["namespaceKeys"] == [{"key": "team"}]
    message = await refusal(ground, tenant, "semanticMemoryStrategy", namespaces=["turns/x"])
    assert "choose another namespace" in message


def test_an_events_variables_are_checked_by_the_memorys_rules() -> None:
    rules = check_keys(
        [
            {"key": "team", "validation": {"allowedValues": ["a", "b"], "regexPattern": "[a-z]"}},
            {"key": "stage"},
        ]
    )
    memory = Memory(
        tenant="1" * 12, id="m-0123456789", arn="", name="m", status="ACTIVE", expiry_days=3,
        namespace_keys={entry["key"]: entry.get("validation") or {} for entry in rules},
    )  # fmt: skip
    check_values(memory, {"team": "a", "stage": "anything"})
    for wrong in ({"team": "c"}, {"other": "x"}):
        with pytest.raises(ValidationFailed):
            check_values(memory, wrong)


@pytest.mark.parametrize(
    "pattern", [r"(a+|\\)*", "(a|a){9}", "a*a*a*a*a*", r"(a)\1", "(?=a)", "(?P<x>a)", "((a+))+"]
)
def test_patterns_that_could_run_for_hours_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationFailed, match="regexPattern"):
        check_keys([{"key": "team", "validation": {"regexPattern": pattern}}])


@pytest.mark.parametrize(
    "pattern", ["^(dev|prod)(-[a-z]+)?$", "[]a-z*+]{2,9}[^]]", r"\(*x", "(?:a)b"]
)
def test_plain_patterns_are_fine(pattern: str) -> None:
    check_keys([{"key": "team", "validation": {"regexPattern": pattern}}])


# -- metadata and expiry


def _llm(**validation: Any) -> dict[str, Any]:
    return {"llmExtractionConfig": {"definition": "what it is", "validation": validation}}


async def test_a_schema_of_metadata_is_kept_and_replaced(
    ground: ControlGround, tenant: str
) -> None:
    schema = {
        "metadataSchema": [
            {
                "key": "cost", "type": "NUMBER", "extractionType": "LLM_INFERRED",
                "extractionConfig": _llm(numberValidation={"minValue": 0.0, "maxValue": 9.5}),
            },
            {"key": "topic", "extractionType": "STRICTLY_CONSISTENT"},
        ]
    }  # fmt: skip
    memory_id, strategy = await made(
        ground, tenant, "semanticMemoryStrategy", memoryRecordSchema=schema
    )
    assert strategy["memoryRecordSchema"] == schema
    assert (await kept(ground, tenant, memory_id)).schema == schema
    other = {"metadataSchema": [{"key": "topic"}]}
    assert (await modified(ground, tenant, memory_id, memoryRecordSchema=other))[
        "memoryRecordSchema"
    ] == other


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([{"key": "a"}, {"key": "a"}], "twice"),
        (
            [{"key": "a", "type": "NUMBER", "extractionConfig": _llm(
                stringValidation={"allowedValues": ["x"]})}],
            "has stringValidation",
        ),
        (
            [{"key": "a", "type": "NUMBER", "extractionConfig": _llm(
                numberValidation={"minValue": 2.0, "maxValue": 1.0})}],
            "minValue is above",
        ),
        (
            [{"key": "a", "extractionType": "STRICTLY_CONSISTENT", "extractionConfig": _llm(
                stringValidation={"allowedValues": ["x"]})}],
            "no extractionConfig",
        ),
    ],
)  # fmt: skip
async def test_a_schema_that_contradicts_itself_is_refused(
    ground: ControlGround, tenant: str, entries: list[Any], why: str
) -> None:
    schema = {"metadataSchema": entries}
    for given in (
        {"memoryRecordSchema": schema},
        {"reflectionConfiguration": {"memoryRecordSchema": schema}},
    ):
        assert why in await refusal(ground, tenant, "episodicMemoryStrategy", **given)


async def test_records_expire_when_the_strategy_says_so(ground: ControlGround, tenant: str) -> None:
    memory_id, strategy = await made(
        ground, tenant, "semanticMemoryStrategy",
        recordExpirySpecification={"recordExpiryDurationDays": 31},
    )  # fmt: skip
    assert strategy["recordExpiryDurationDays"] == 31
    assert (await modified(ground, tenant, memory_id, description="x"))[
        "recordExpiryDurationDays"
    ] == 31
    changed = await modified(
        ground, tenant, memory_id, recordExpirySpecification={"action": "REMOVE"}
    )
    assert "recordExpiryDurationDays" not in changed
    message = await refusal(
        ground, tenant, "semanticMemoryStrategy", recordExpirySpecification={"action": "REMOVE"}
    )
    assert "none to REMOVE" in message


# -- changes


async def test_a_change_of_one_step_leaves_the_others(ground: ControlGround, tenant: str) -> None:
    memory_id, before = await made(
        ground, tenant, "customMemoryStrategy", description="old",
        configuration={"semanticOverride": {"extraction": PROMPT, "consolidation": PROMPT}},
    )  # fmt: skip
    extraction = {"customExtractionConfiguration": {"semanticExtractionOverride": OTHER}}
    after = await modified(
        ground, tenant, memory_id, configuration={"extraction": extraction}, namespaces=["/x/"]
    )
    assert after["configuration"] == {**before["configuration"], "extraction": extraction}
    assert after["namespaceTemplates"] == ["/x/"] and after["description"] == "old"
    assert after["strategyId"] == before["strategyId"]
    assert after["createdAt"] == before["createdAt"] and after["updatedAt"] > before["updatedAt"]
    ((_, told),) = [change for change in ground.told.of(memory_id) if change[0] is not None]
    assert reading.override(told.strategies[0], "extraction") == reading.Override(
        prompt="Only of drink.", model_id="large"
    )


@pytest.mark.parametrize(
    ("member", "given", "change"),
    [
        (
            "semanticMemoryStrategy",
            {},
            {
                "extraction": {
                    "customExtractionConfiguration": {"semanticExtractionOverride": OTHER}
                }
            },
        ),
        (
            "customMemoryStrategy",
            {"configuration": {"summaryOverride": {"consolidation": PROMPT}}},
            {
                "extraction": {
                    "customExtractionConfiguration": {"semanticExtractionOverride": OTHER}
                }
            },
        ),
        (
            "customMemoryStrategy",
            {"configuration": {"semanticOverride": {"extraction": PROMPT}}},
            {
                "extraction": {
                    "customExtractionConfiguration": {"episodicExtractionOverride": OTHER}
                }
            },
        ),
        (
            "episodicMemoryStrategy",
            {},
            {"selfManagedConfiguration": {"historicalContextWindowSize": 1}},
        ),
        (
            "summaryMemoryStrategy",
            {},
            {"reflection": {"episodicReflectionConfiguration": {"namespaces": ["/"]}}},
        ),
    ],
)
async def test_a_strategy_is_only_changed_in_what_it_has(
    ground: ControlGround, tenant: str, member: str, given: Any, change: Any
) -> None:
    memory_id, before = await made(ground, tenant, member, **given)
    with pytest.raises(Exception, match="what can be changed of"):
        await modified(ground, tenant, memory_id, configuration=change)
    (after,) = (await ground.shown(tenant, memory_id))["strategies"]
    assert after == before


async def test_a_strategy_reads_the_same_from_the_store(ground: ControlGround, tenant: str) -> None:
    at = datetime.now(UTC)
    given = {"episodicOverride": {"reflection": {**PROMPT, "namespaces": ["/"]}}}
    strategy = reading.made({"customMemoryStrategy": {"name": "own", "configuration": given}}, at)
    assert (strategy.created_at, strategy.status) == (at, "ACTIVE")
    memory_id, _ = await made(ground, tenant, "customMemoryStrategy", configuration=given)
    stored = memory_of(await ground.resources.get(tenant, MEMORY, memory_id)).strategies[0]
    assert stored.configuration == strategy.configuration
    assert stored.created_at is not None and stored.created_at.tzinfo is not None
