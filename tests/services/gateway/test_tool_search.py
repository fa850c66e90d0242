"""Search over the tools of a gateway: what is found, by whom, and what happens without vectors."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tool_search_ground import Quality, Request, labelled_set, quality

from embedding_ground import CountingEmbeddings, local_embeddings
from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.embeddings import Embeddings, EmbeddingsUnavailable
from freehold.services.gateway.search import SearchText, ToolIndex, ToolSearch
from freehold.services.gateway.search_index import TextIndex
from freehold.services.gateway.search_text import parameters, stemmed, terms

TOOLS = [
    SearchText(key="a", name="pay___refund_charge", description="Return money to a customer."),
    SearchText(key="b", name="chat___postMessage", description="Send a message to a channel."),
    SearchText(key="c", name="chat___listChannels", description="List channels."),
    SearchText(
        key="d",
        name="ship___track",
        description="Where a parcel is.",
        schema={"properties": {"carrier": {"type": "string", "description": "Such as DHL"}}},
    ),
]
GATEWAY = "gateway-1"


@pytest.fixture
def embeddings() -> CountingEmbeddings:
    return CountingEmbeddings()


@pytest.fixture
async def search(
    database: PostgresDatabase, embeddings: CountingEmbeddings
) -> AsyncIterator[ToolSearch]:
    search = ToolSearch(database, embeddings)
    yield search
    await search.close()


async def _ready(search: ToolSearch, tenant: str, texts: Sequence[SearchText]) -> ToolIndex:
    await search.prepare(tenant, texts)
    return await search.index(tenant, GATEWAY, "v", lambda: texts)


def _keys(found: list[tuple[str, float]]) -> list[str]:
    return [key for key, _ in found]


# What is found


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("refund", "a"),
        ("post message", "b"),
        ("POST-MESSAGES", "b"),
        ("postMessage", "b"),
        ("channel listing", "c"),
        ("carrier", "d"),
        ("dhl", "d"),
    ],
)
async def test_words_of_name_description_and_parameters_find_a_tool(
    database: PostgresDatabase, tenant: str, query: str, key: str
) -> None:
    search = ToolSearch(database, NoEmbeddings())
    index = await _ready(search, tenant, TOOLS)
    assert _keys(await search.find(index, query))[0] == key
    await search.close()


@pytest.mark.parametrize("name", ["chat___listChannels", "listChannels", "list channels"])
async def test_a_name_finds_its_tool_before_all_others(
    search: ToolSearch, tenant: str, name: str
) -> None:
    others = [
        SearchText(key=f"{at}", name=f"chat{at}___list", description="List channels, channels.")
        for at in range(5)
    ]
    index = await _ready(search, tenant, [*others, *TOOLS])
    assert (await search.find(index, name))[0] == ("c", 1.0)


async def test_scores_fall_and_lie_between_zero_and_one(search: ToolSearch, tenant: str) -> None:
    index = await _ready(search, tenant, TOOLS)
    scores = [score for _, score in await search.find(index, "list channels of messages")]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1.001 for score in scores)


async def test_no_more_than_the_limit_are_named(search: ToolSearch, tenant: str) -> None:
    index = await _ready(search, tenant, TOOLS)
    assert len(await search.find(index, "channel message", limit=2)) == 2
    assert await search.find(index, "channel", limit=0) == []


@pytest.mark.parametrize("query", ["", "  \n", "\0"])
async def test_a_query_without_words_finds_nothing_by_text(
    database: PostgresDatabase, tenant: str, query: str
) -> None:
    search = ToolSearch(database, NoEmbeddings())
    index = await search.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert await search.find(index, query) == []
    await search.close()


async def test_a_gateway_without_tools_has_an_empty_answer(search: ToolSearch, tenant: str) -> None:
    index = await _ready(search, tenant, [])
    assert await search.find(index, "anything") == []


# Who may see what


@pytest.fixture(scope="module")
def many() -> list[SearchText]:
    return [
        SearchText(key=f"k{at}", name=f"crm___get_record_{at}", description=f"Read record {at}.")
        for at in range(700)
    ]


async def test_who_may_use_few_tools_still_gets_as_many_as_asked(
    search: ToolSearch, tenant: str, many: list[SearchText]
) -> None:
    index = await _ready(search, tenant, many)
    mine = {"k650", "k651", "k652", "k699"}
    for allowed in (mine, mine.__contains__, frozenset(mine)):
        found = await search.find(index, "read record", limit=4, allowed=allowed)
        assert set(_keys(found)) == mine


@pytest.mark.parametrize("share", [2, 3, 5, 50, 699])
async def test_the_best_of_those_allowed_are_the_best_of_all_that_are_allowed(
    search: ToolSearch, tenant: str, many: list[SearchText], share: int
) -> None:
    index = await _ready(search, tenant, many)
    allowed = {tool.key for tool in many[::share]}
    query = "read the record 42 of a customer"
    everything = await search.find(index, query, limit=len(many))
    expected = [hit for hit in everything if hit[0] in allowed][:7]
    for form in (allowed, list(allowed), allowed.__contains__):
        assert await search.find(index, query, limit=7, allowed=form) == expected


async def test_a_score_says_nothing_about_tools_that_one_may_not_use(
    search: ToolSearch, tenant: str
) -> None:
    index = await _ready(search, tenant, TOOLS)
    alone = await search.find(index, "channel", allowed={"c"})
    among_others = dict(await search.find(index, "channel"))
    assert alone == [("c", among_others["c"])]


async def test_nobody_allowed_is_nothing_found(search: ToolSearch, tenant: str) -> None:
    index = await _ready(search, tenant, TOOLS)
    assert await search.find(index, "channel", allowed=set()) == []


# What is embedded, and when


async def test_a_restart_embeds_nothing_again(
    database: PostgresDatabase, tenant: str, search: ToolSearch
) -> None:
    await _ready(search, tenant, TOOLS)
    after = CountingEmbeddings()
    second = ToolSearch(database, after)
    index = await second.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert _keys(await second.find(index, "refund"))[0] == "a"
    assert after.asked == ["refund"]
    assert second.say_how(index) == "vectors and text"
    await second.close()


async def test_only_what_is_new_is_embedded(
    search: ToolSearch, embeddings: CountingEmbeddings, tenant: str
) -> None:
    assert await search.prepare(tenant, TOOLS[:3]) == 3
    embeddings.asked.clear()
    assert await search.prepare(tenant, TOOLS) == 1
    assert [text.startswith("ship track.") for text in embeddings.asked] == [True]


async def test_tenants_share_no_vectors(
    search: ToolSearch, embeddings: CountingEmbeddings, tenant: str
) -> None:
    await search.prepare(tenant, TOOLS)
    embeddings.asked.clear()
    assert await search.prepare(tenant[::-1], TOOLS) == len(TOOLS)


async def test_vectors_of_another_model_are_not_used(
    database: PostgresDatabase, search: ToolSearch, tenant: str
) -> None:
    await search.prepare(tenant, TOOLS)
    other = CountingEmbeddings()
    other.model = "other"
    assert await ToolSearch(database, other).prepare(tenant, TOOLS) == len(TOOLS)


async def test_tools_not_embedded_yet_are_found_by_text_meanwhile(
    search: ToolSearch, embeddings: CountingEmbeddings, tenant: str
) -> None:
    embeddings.gate = asyncio.Event()
    index = await search.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert search.say_how(index).startswith("vectors and text: 4 of 4 tools are found by text")
    asked = asyncio.create_task(search.find(index, "refund"))
    embeddings.gate.set()
    assert _keys(await asked)[0] == "a"
    async with asyncio.timeout(10):
        while index.missing:
            await asyncio.sleep(0.01)
    assert search.say_how(index) == "vectors and text"


async def test_an_index_is_made_once_for_all_who_ask(search: ToolSearch, tenant: str) -> None:
    made = []

    def texts() -> list[SearchText]:
        made.append(1)
        return TOOLS

    asked = [search.index(tenant, GATEWAY, "v1", texts) for _ in range(5)]
    indexes = await asyncio.gather(*asked)
    assert len(set(map(id, indexes))) == len(made) == 1
    await search.index(tenant, GATEWAY, "v2", texts)
    assert len(made) == 2


async def test_a_failure_to_read_definitions_is_not_kept(search: ToolSearch, tenant: str) -> None:
    def texts() -> list[SearchText]:
        raise LookupError("gone")

    with pytest.raises(LookupError):
        await search.index(tenant, GATEWAY, "v", texts)
    index = await search.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert len(index) == len(TOOLS)


async def test_memory_is_bounded_and_what_was_dropped_is_made_again(
    database: PostgresDatabase, tenant: str, many: list[SearchText]
) -> None:
    search = ToolSearch(database, CountingEmbeddings(), bytes_max=1)
    first = await search.index(tenant, "one", "v", lambda: TOOLS)
    await search.index(tenant, "two", "v", lambda: many)
    again = await search.index(tenant, "one", "v", lambda: TOOLS)
    assert again is not first
    assert await search.index(tenant, "one", "v", lambda: TOOLS) is again
    await search.close()


async def test_vectors_that_nobody_used_for_a_month_are_deleted(
    database: PostgresDatabase, search: ToolSearch, tenant: str
) -> None:
    await search.prepare(tenant, TOOLS)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE gateway_vectors SET used_at = now() - interval '29 days' WHERE tenant = %s",
            (tenant,),
        )
    await search.prepare(tenant, TOOLS[:1])  # used: as good as new
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE gateway_vectors SET used_at = used_at - interval '2 days' WHERE tenant = %s",
            (tenant,),
        )
    await search.sweep()
    assert await search.prepare(tenant, TOOLS) == len(TOOLS) - 1


async def test_a_model_whose_vectors_changed_their_length_is_used_anew(
    database: PostgresDatabase, search: ToolSearch, tenant: str
) -> None:
    await search.prepare(tenant, TOOLS)
    longer = LongerEmbeddings()
    second = ToolSearch(database, longer)
    stale = await second.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert _keys(await second.find(stale, "refund")) == ["a"]  # by text
    index = await second.index(tenant, GATEWAY, "v", lambda: TOOLS)
    async with asyncio.timeout(10):
        while index.missing:
            await asyncio.sleep(0.01)
    assert index.dimensions == longer.dimensions
    assert _keys(await second.find(index, "return money"))[0] == "a"
    await second.close()


class LongerEmbeddings(CountingEmbeddings):
    dimensions = CountingEmbeddings.dimensions + 1

    async def embed(self, texts: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        return np.pad(await super().embed(texts), ((0, 0), (0, 1)))


# Without an embedder


async def test_without_an_embedder_text_finds_and_it_says_so(
    database: PostgresDatabase, tenant: str
) -> None:
    search = ToolSearch(database, NoEmbeddings())
    assert await search.prepare(tenant, TOOLS) == 0
    index = await search.index(tenant, GATEWAY, "v", lambda: TOOLS)
    assert _keys(await search.find(index, "refund a customer"))[0] == "a"
    assert search.say_how(index) == (
        "text alone: embeddings are switched off (FREEHOLD_EMBEDDINGS=off)"
    )
    await search.close()


async def test_an_embedder_that_fails_costs_nobody_an_answer(
    search: ToolSearch, embeddings: CountingEmbeddings, tenant: str
) -> None:
    index = await _ready(search, tenant, TOOLS)
    embeddings.failure = EmbeddingsUnavailable("the endpoint is down")
    assert _keys(await search.find(index, "refund")) == ["a"]
    assert search.say_how(index) == "text alone: the endpoint is down"
    embeddings.failure = None
    await search.find(index, "track")
    assert search.say_how(index).startswith("text alone")  # it is left alone for a while


async def test_an_embedder_that_hangs_keeps_nobody_for_long(
    database: PostgresDatabase, embeddings: CountingEmbeddings, tenant: str
) -> None:
    search = ToolSearch(database, embeddings, query_seconds_max=0.05)
    index = await _ready(search, tenant, TOOLS)
    embeddings.gate = asyncio.Event()
    async with asyncio.timeout(10):
        assert _keys(await search.find(index, "refund")) == ["a"]
    assert search.say_how(index) == "text alone: embeddings took more than 0.05 s"
    async with asyncio.timeout(0.04):  # it is not asked again so soon
        assert _keys(await search.find(index, "tracking")) == ["d"]
    await search.close()


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target___createIssue", ["target", "creat", "issu"]),
        ("listHTTPRoutes2", ["list", "http", "rout", "2"]),
        ("get-open.pull_requests", ["open", "pull", "request"]),
        ("the planning of queries", ["plan", "query"]),
        ("東京 Straße", ["東京", "straße"]),
    ],
)
def test_names_are_split_into_words(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    "words",
    [("message", "messages"), ("create", "creating", "created"), ("query", "queries"),
     ("stop", "stopped", "stopping"), ("address", "addresses")],
)  # fmt: skip
def test_forms_of_a_word_are_one(words: tuple[str, ...]) -> None:
    assert len({stemmed(word) for word in words}) == 1


def test_a_schema_of_any_shape_is_read_to_a_bound() -> None:
    loop: dict[str, Any] = {"properties": {"next": {"description": "The next one"}}}
    loop["properties"]["next"]["properties"] = loop["properties"]
    assert len(list(parameters(loop))) == 3
    wide = {"properties": {f"p{at}": {"type": "string"} for at in range(5000)}}
    assert len(list(parameters(wide))) == 100
    for odd in ({"properties": []}, {"properties": {"a": True}}, {"properties": {"a": None}}):
        list(parameters(odd))


def test_a_rare_word_counts_more_and_a_long_text_less() -> None:
    texts = [
        SearchText(key="rare", name="x", description="zebra"),
        SearchText(key="long", name="x", description="zebra " + "other words here " * 30),
        *(SearchText(key=f"{at}", name="x", description="common") for at in range(9)),
    ]
    scores = TextIndex(texts).scores("zebra common")
    assert scores[0] > scores[1] > 0
    assert scores[0] > scores[2] > 0


# Quality, over the half of the requests that nothing was chosen by


@pytest.fixture(scope="module")
async def local() -> AsyncIterator[Embeddings]:
    embeddings = local_embeddings()
    yield embeddings
    await embeddings.close()


@pytest.fixture(scope="module")
def labelled() -> Iterator[tuple[list[SearchText], list[Request]]]:
    tools, requests = labelled_set()
    yield tools, [request for request in requests if request.held_out]


async def _measured(
    search: ToolSearch, tenant: str, tools: list[SearchText], requests: list[Request]
) -> Quality:
    index = await _ready(search, tenant, tools)
    return quality([_keys(await search.find(index, asked.text)) for asked in requests], requests)


async def test_a_request_finds_its_tool(
    database: PostgresDatabase,
    tenant: str,
    local: Embeddings,
    labelled: tuple[list[SearchText], list[Request]],
) -> None:
    tools, requests = labelled
    fused = ToolSearch(database, local)
    terse = [request for request in requests if request.terse]
    of_agents = await _measured(fused, tenant, tools, terse)
    of_all = await _measured(fused, tenant, tools, requests)
    assert fused.say_how() == "vectors and text"
    assert of_agents.hit5 >= 0.85, of_agents
    assert of_agents.hit1 >= 0.72, of_agents
    assert of_all.hit5 >= 0.72, of_all
    await fused.close()


async def test_vectors_find_much_more_than_text_alone(
    database: PostgresDatabase,
    tenant: str,
    local: Embeddings,
    labelled: tuple[list[SearchText], list[Request]],
) -> None:
    fused, alone = ToolSearch(database, local), ToolSearch(database, NoEmbeddings())
    with_vectors = await _measured(fused, tenant, *labelled)
    by_text = await _measured(alone, tenant, *labelled)
    assert with_vectors.hit5 > by_text.hit5 + 0.2
    assert by_text.hit5 >= 0.35, by_text
    for search in (fused, alone):
        await search.close()
