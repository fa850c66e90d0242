"""How long a search over many tools takes, what it costs to make it possible, and beside what.

    .venv/bin/python benchmarks/search.py [--tools 10000] [--queries 400]

In the same run: the same vectors multiplied by numpy with no text, and Postgres' full text with no
vectors. Every query is a new one, so that no kept vector answers. The local model must be there:
`freehold embeddings fetch --beside-python`.
"""

import argparse
import asyncio
import itertools
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from database_under_test import database, loop_runner

from freehold.adapters.embeddings.local import LocalEmbeddings
from freehold.adapters.embeddings.weights import Weights, beside_python
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.gateway.search import SearchText, ToolIndex, ToolSearch

TENANT, GATEWAY = "123456789012", "gateway-1"
LIMIT = 10
SERVICES = (
    "github", "gitlab", "jira", "slack", "teams", "zendesk", "hubspot", "salesforce",
    "stripe", "paypal", "shopify", "magento", "quickbooks", "xero", "workday", "bamboo",
    "okta", "auth0", "datadog", "grafana", "sentry", "pagerduty", "twilio", "sendgrid",
    "mailchimp", "intercom", "notion", "confluence", "asana", "trello", "monday", "airtable",
    "dropbox", "box", "drive", "s3", "gcs", "snowflake", "bigquery", "redshift", "mongo",
    "postgres", "redis", "kafka", "jenkins", "circleci", "docker", "helm", "cloudflare",
    "fastly", "vercel", "netlify", "zoom", "webex", "calendly", "docusign", "figma",
    "contentful", "segment", "amplitude",
)  # fmt: skip
ENTITIES = {
    "issue": "a problem or a wish that somebody reported", "user": "a person with an account",
    "invoice": "a bill for a customer", "payment": "money that a customer paid",
    "message": "a text in a conversation", "channel": "a room for conversations",
    "file": "a document with content", "folder": "a place for documents",
    "project": "work that belongs together", "task": "a piece of work with an owner",
    "comment": "a remark on something", "event": "an appointment with a time",
    "contact": "a person at a company", "deal": "a sale that may happen",
    "order": "what a customer bought", "product": "a thing that is sold",
    "subscription": "a payment that repeats", "webhook": "a call to a URL when something happens",
    "alert": "a rule that notifies people", "dashboard": "charts on one page",
    "deployment": "a version that was put to work", "pipeline": "steps of a build",
    "role": "what a person may do", "report": "figures about a span of time",
}  # fmt: skip
ACTIONS = {
    "create": "Creates {a}, {what}.", "get": "Returns the details of {a}, {what}.",
    "list": "Lists every {e} with filters and pages; each is {what}.",
    "update": "Changes fields of {a} that exists.", "delete": "Removes {a} for good.",
    "search": "Finds {e} records by text; each is {what}.",
    "archive": "Puts {a} away without deleting it.",
}  # fmt: skip
ASKED = (
    "{verb} the {e} about {topic} in {service}", "I need to {verb} a {e} for {topic}",
    "{service} {e} {topic}", "how can I {verb} {topic} {e} records", "{verb} {service} {e} {topic}",
)  # fmt: skip
TOPICS = (
    "billing", "onboarding", "security", "marketing", "hiring", "travel", "shipping",
    "design", "legal", "support",
)  # fmt: skip
WAYS = {
    "create": "make", "get": "show", "list": "browse", "update": "edit", "delete": "remove",
    "search": "find", "archive": "put away",
}  # fmt: skip


def tools(count: int) -> list[SearchText]:
    found = []
    for service, (entity, what), (action, text) in itertools.islice(
        itertools.product(SERVICES, ENTITIES.items(), ACTIONS.items()), count
    ):
        article = ("an " if entity[0] in "aeiou" else "a ") + entity
        name = f"{service}___{action}_{entity}"
        properties = {
            f"{entity}_id": {"type": "string", "description": f"Which {entity}"},
            "account": {"type": "string", "description": f"Account in {service}"},
            "limit": {"type": "integer", "description": "How many at most"},
        }
        found.append(
            SearchText(
                key=name,
                name=name,
                description=f"{text.format(a=article, e=entity, what=what)} Part of {service}.",
                schema={"type": "object", "properties": properties},
            )
        )
    return found


def queries(count: int) -> list[str]:
    made = random.Random(4)
    found: dict[str, None] = {}
    while len(found) < count:
        found[
            made.choice(ASKED).format(
                verb=made.choice(list(WAYS.values())),
                e=made.choice(list(ENTITIES)),
                topic=f"{made.choice(TOPICS)} {made.randrange(1000)}",
                service=made.choice(SERVICES),
            )
        ] = None
    return list(found)


def own_mib() -> float:
    """Memory of this process that no other shares."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


Find = Callable[[str], Awaitable[list[str]]]


async def timed(find: Find, asked: list[str], at_once: int) -> list[float]:
    """Milliseconds of each."""
    waiting, took = iter(asked), []

    async def ask() -> None:
        for query in waiting:
            began = time.perf_counter()
            await find(query)
            took.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(ask() for _ in range(at_once)))
    return took


async def report(name: str, find: Find, asked: list[str]) -> None:
    half = len(asked) // 2
    for query in asked[:5]:
        await find(query + " first")
    cells = []
    for at_once, some in ((1, asked[:half]), (8, asked[half:])):
        before = time.process_time()
        took = await timed(find, some, at_once)
        cpu = (time.process_time() - before) / len(some) * 1e3
        edges = statistics.quantiles(took, n=100)
        cells.append(f"{edges[49]:.1f} | {edges[94]:.1f} | {cpu:.1f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


async def full_text(pool: PostgresDatabase, given: list[SearchText]) -> Find:
    async with pool.connection() as connection:
        await connection.execute(
            "CREATE TABLE bench_tools (key text, words tsvector);"
            "CREATE INDEX ON bench_tools USING gin (words)"
        )
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO bench_tools VALUES (%s, setweight(to_tsvector('english', %s), 'A')"
                " || to_tsvector('english', %s))",
                [(t.key, t.name.replace("_", " "), t.embedded()) for t in given],
            )
        await connection.execute("ANALYZE bench_tools")

    async def find(query: str) -> list[str]:
        async with pool.connection() as connection:
            # Any of the words: with all of them most requests would find nothing.
            rows = await connection.execute(
                "SELECT key FROM bench_tools, (SELECT replace(plainto_tsquery('english', %s)::text,"
                " '&', '|')::tsquery AS q) asked WHERE words @@ q"
                " ORDER BY ts_rank(words, q) DESC LIMIT %s",
                (query, LIMIT),
            )
            return [row[0] for row in await rows.fetchall()]

    return find


async def vectors_alone(embeddings: LocalEmbeddings, matrix: np.ndarray) -> Find:
    async def find(query: str) -> list[str]:
        vector = (await embeddings.embed([query]))[0]
        scores = np.vecdot(matrix, vector)
        best = np.argpartition(-scores, LIMIT)[:LIMIT]
        return [str(at) for at in best[np.argsort(-scores[best])]]

    return find


async def lateness(seconds: float) -> list[float]:
    """How many ms late the event loop woke, again and again."""
    found, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        found.append((time.perf_counter() - began - 0.001) * 1e3)
    return found


async def beside_others(search: ToolSearch, given: list[SearchText]) -> None:
    """How the event loop does while 1,000 tools are embedded."""
    quiet = await lateness(3)
    work = asyncio.create_task(search.prepare("999999999999", given[:1000]))
    busy: list[float] = []
    while not work.done():
        busy += await lateness(0.2)
    for name, late in (("with nothing to do", quiet), ("while 1,000 tools are embedded", busy)):
        edges = statistics.quantiles(late, n=1000)
        print(f"the event loop {name}: late by {edges[499]:.2f} ms (p50), {edges[989]:.2f} (p99)")


async def indexed(
    search: ToolSearch, embeddings: LocalEmbeddings, pool: PostgresDatabase, given: list[SearchText]
) -> tuple[ToolSearch, ToolIndex]:
    began, cpu = time.perf_counter(), time.process_time()
    await search.prepare(TENANT, given)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    each = took / len(given) * 1e3
    print(f"embedded and stored once: {took:.0f} s, {each:.1f} ms a tool, {cpu:.0f} s of CPU")
    again, before = ToolSearch(pool, embeddings), own_mib()
    began = time.perf_counter()
    index = await again.index(TENANT, GATEWAY, "v", lambda: given)
    took = time.perf_counter() - began
    assert not index.missing
    print(
        f"index from what is stored: {took:.2f} s; {index.bytes / 2**20:.0f} MiB by its own count, "
        f"{own_mib() - before:.0f} MiB more in the process"
    )
    return again, index


async def main(count: int, asked: int) -> None:
    given = tools(count)
    embeddings = LocalEmbeddings(Weights([beside_python()]))
    before = own_mib()
    await embeddings.embed(["first"])
    took = own_mib() - before
    print(f"{len(given)} tools, {os.cpu_count()} cores; the model: {took:.0f} MiB of its own")
    async with database() as (_, pool):
        search, index = await indexed(ToolSearch(pool, embeddings), embeddings, pool, given)

        async def fused(query: str) -> list[str]:
            return [key for key, _ in await search.find(index, query, LIMIT)]

        allowed = {tool.key for tool in given[::100]}

        async def by_few(query: str) -> list[str]:
            return [key for key, _ in await search.find(index, query, LIMIT, allowed)]

        texts = queries(asked * 4)
        matrix = await embeddings.embed([tool.embedded() for tool in given[:64]])
        matrix = np.repeat(matrix, len(given) // 64 + 1, axis=0)[: len(given)]
        print("\n| search | p50 at 1 | p95 | CPU | p50 at 8 | p95 | CPU |")
        print("|---|---|---|---|---|---|---|")
        await report("vectors fused with text", fused, texts[:asked])
        await report("the same, 1 tool in 100 allowed", by_few, texts[asked : 2 * asked])
        alone = await vectors_alone(embeddings, matrix)
        await report("numpy over the vectors alone", alone, texts[2 * asked : 3 * asked])
        words = await full_text(pool, given)
        await report("Postgres' full text alone", words, texts[3 * asked :])
        print()
        await beside_others(search, given)
        await search.close()
    await embeddings.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=400)
    arguments = parser.parse_args()
    loop_runner()(main(arguments.tools, arguments.queries))
