"""A LangGraph agent that remembers with langgraph-checkpoint-aws, as it is: what a caller asks it
to do is `payload["do"]`. The graph's thread is the checkpointer's, what was said goes to the store,
and a prompt is answered with what the store finds for it."""

import asyncio
import hashlib
import operator
import os
from typing import Annotated, TypedDict

from bedrock_agentcore import BedrockAgentCoreApp
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt
from langgraph_checkpoint_aws import AgentCoreMemorySaver, AgentCoreMemoryStore
from langgraph_store import RecordStore

app = BedrockAgentCoreApp()


# -- a chat that remembers


def chat(memory: str):
    model = ChatOpenAI(model=os.environ["OPENAI_MODEL"])

    async def think(state, config, *, store):
        actor, thread = (config["configurable"][name] for name in ("actor_id", "thread_id"))
        said = state["messages"][-1]
        where = config["configurable"]["where"]
        found = await store.asearch(where, query=said.text, limit=3) if where else []
        await store.aput((actor, thread), said.id, {"message": said})
        asked = [*state["messages"]]
        if found:
            known = "\n".join(item.value["content"] for item in found)
            asked[-1] = HumanMessage(f"<remembered>{known}</remembered>\n{said.text}")
        answer = await model.ainvoke(asked)
        await store.aput((actor, thread), answer.id, {"message": answer})
        return {"messages": [answer]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    return graph.compile(
        checkpointer=AgentCoreMemorySaver(memory), store=AgentCoreMemoryStore(memory_id=memory)
    )


async def ask(memory, actor, thread, prompt, where=()):
    configured = {"actor_id": actor, "thread_id": thread, "where": tuple(where)}
    state = await chat(memory).ainvoke(
        {"messages": [("user", prompt)]}, {"configurable": configured}
    )
    return [message.text for message in state["messages"]]


async def search(memory, where, query, exactly=False, limit=5):
    store = AgentCoreMemoryStore(memory_id=memory, hierarchical_search=not exactly)
    found = await store.asearch(tuple(where), query=query, limit=limit)
    again = [await store.aget(tuple(where), item.key) for item in found]
    assert [item.value for item in again] == [item.value for item in found]
    return [item.value["content"] for item in found]


# -- LangChain's own agent


@tool
async def recall(query: str, runtime: ToolRuntime) -> str:
    """Look up what was said in earlier conversations."""
    actor = runtime.config["configurable"]["actor_id"]
    found = await runtime.store.asearch(("turns", "actors", actor), query=query, limit=1)
    return "\n".join(item.value["content"] for item in found) or "nothing"


async def assist(memory, actor, thread, prompt):
    agent = create_agent(
        ChatOpenAI(model=os.environ["OPENAI_MODEL"]),
        [recall],
        checkpointer=AgentCoreMemorySaver(memory),
        store=AgentCoreMemoryStore(memory_id=memory),
    )
    configured = {"configurable": {"actor_id": actor, "thread_id": thread}}
    state = await agent.ainvoke({"messages": [("user", prompt)]}, configured)
    return [[message.type, message.text] for message in state["messages"]]


# -- a graph that stops to ask


class State(TypedDict):
    n: int
    log: Annotated[list, operator.add]
    blob: str


def asking(saver):
    graph = StateGraph(State)
    graph.add_node("one", lambda state: {"n": state["n"] + 1, "log": ["one"]})
    graph.add_node("ask", lambda state: {"log": [f"said {interrupt(state['n'])}"]})
    graph.add_node("two", lambda state: {"n": state["n"] * 10, "log": ["two"]})
    graph.add_edge(START, "one").add_edge("one", "ask").add_edge("ask", "two")
    return graph.compile(checkpointer=saver)


def thread(id, actor="anna"):
    return {"configurable": {"thread_id": id, "actor_id": actor}}


def savers(memory, kind):
    """Each call a new one, as after a restart; the one that forgets when it goes, for comparison,
    is the same."""
    if kind == "in memory":
        one = InMemorySaver()
        return lambda: one
    return lambda: AgentCoreMemorySaver(memory, checkpoint_format=kind)


async def begin(memory, kind, id, blob_bytes=0):
    state = {"n": 1, "log": [], "blob": "x" * blob_bytes}
    answer = await asking(savers(memory, kind)()).ainvoke(state, thread(id))
    return [each.value for each in answer["__interrupt__"]]


async def resume(memory, kind, id, value):
    graph = asking(savers(memory, kind)())
    waiting = await graph.aget_state(thread(id))
    state = await graph.ainvoke(Command(resume=value), thread(id))
    size = len(state["blob"])
    digest = hashlib.sha256(state.pop("blob").encode()).hexdigest()
    history = [each async for each in graph.aget_state_history(thread(id))]
    return {
        "waited for": waiting.next, **state, "blob": [size, digest],
        "history": [each.values.get("n") for each in history],
    }  # fmt: skip


async def forget(memory, kind, id):
    saver = savers(memory, kind)()
    await saver.adelete_thread(id, "anna")
    left = await asking(saver).aget_state(thread(id))
    return {"values": left.values, "history": [each async for each in saver.alist(thread(id))]}


def travel(memory, kind):
    """Back to an earlier state and on from there, another way, and what the history is then."""
    make, at = savers(memory, kind), thread(f"travel-{kind}")
    graph = asking(make())
    graph.invoke({"n": 1, "log": []}, at)
    graph.invoke(Command(resume="yes"), at)
    before = next(each for each in graph.get_state_history(at) if each.next == ("ask",))
    replayed = asking(make()).invoke(None, before.config)
    branch = graph.update_state(before.config, {"n": 7})
    graph.invoke(None, branch)
    branched = asking(make()).invoke(Command(resume="else"), at)
    history = list(asking(make()).get_state_history(at))
    return {
        "replayed": [replayed["n"], replayed["log"]],
        "branched": [branched["n"], branched["log"]],
        "history": [[each.values.get("n"), each.next] for each in history],
        "updates": len(list(graph.get_state_history(at, filter={"source": "update"}))),
        "before": len(list(graph.get_state_history(at, before=history[2].config))),
        "limited": len(list(graph.get_state_history(at, limit=2))),
        "of old": graph.get_state(history[3].config).values,
    }


def work(memory, kind):
    """Twenty tasks at once of which one fails: it runs again, and what others wrote is kept."""
    ran: list[int] = []

    def one(state):
        ran.append(state["n"])
        if state["n"] == 3 and ran.count(3) == 1:
            raise RuntimeError("the first time")
        return {"log": [state["n"]]}

    graph = StateGraph(State)
    graph.add_node("spread", lambda state: {})
    graph.add_node("one", one)
    graph.add_edge(START, "spread")
    graph.add_conditional_edges(
        "spread", lambda _: [Send("one", {"n": n}) for n in range(20)], ["one"]
    )
    make, at = savers(memory, kind), thread(f"work-{kind}")
    try:
        graph.compile(checkpointer=make()).invoke({"n": 0, "log": []}, at)
    except RuntimeError:
        first = len(ran)
    state = graph.compile(checkpointer=make()).invoke(None, at)
    return {"log": sorted(state["log"]), "runs again": 3 in ran[first:]}


def inner(memory, kind):
    """A graph within a graph stops to ask."""
    within = StateGraph(State)
    within.add_node("ask", lambda _: {"log": [f"said {interrupt('so?')}"]})
    within.add_edge(START, "ask")
    graph = StateGraph(State)
    graph.add_node("inner", within.compile())
    graph.add_edge(START, "inner")
    make, at = savers(memory, kind), thread(f"inner-{kind}")
    graph.compile(checkpointer=make()).invoke({"n": 0, "log": []}, at)
    stopped = graph.compile(checkpointer=make()).get_state(at, subgraphs=True)
    state = graph.compile(checkpointer=make()).invoke(Command(resume="ok"), at)
    return {"stopped in": stopped.tasks[0].state.next, "log": state["log"]}


# -- documents in a store


def documents(memory, root=None):
    """The same of a store in a memory, and of the one that LangGraph keeps in its process."""
    store = RecordStore(memory, root=root) if root else InMemoryStore()
    store.put(("users", "anna"), "likes", {"text": "tea", "cups": 2, "of": {"milk": True}})
    store.put(("users", "anna"), "likes", {"text": "green tea", "cups": 3, "of": {"milk": False}})
    store.put(("users", "anna", "of old"), "a/b _-é", {"text": "coffee", "cups": 1})
    store.put(("users", "ann"), "likes", {"text": "milk", "cups": 5})
    store.put(("users", "ben"), "gone", {"text": "tea"})
    store.delete(("users", "ben"), "gone")
    store.delete(("users", "ben"), "never there")

    def shown(items):
        return sorted([item.namespace, item.key, item.value] for item in items)

    got = store.get(("users", "anna"), "likes")
    old = store.get(("users", "anna", "of old"), "a/b _-é")
    return {
        "got": shown([got, old]),
        "in order": got.created_at <= got.updated_at,
        "absent": [store.get(("users", "ben"), "gone"), store.get(("users",), "anna")],
        "all": shown(store.search(())),
        "below": shown(store.search(("users", "anna"))),
        "filtered": shown(store.search(("users",), filter={"cups": {"$gte": 3, "$ne": 5}})),
        "equal": shown(store.search(("users",), filter={"of": {"milk": False}})),
        "pages": [len(store.search(("users",), limit=2, offset=n)) for n in range(4)],
        "namespaces": store.list_namespaces(),
        "shallow": store.list_namespaces(prefix=("users", "*"), max_depth=2),
        "ends": store.list_namespaces(suffix=("of old",)),
    }


async def look_up(memory, root, query):
    """Each with its score, in another process than the one that put it."""
    store = RecordStore(memory, root=root)
    await store.aput(("more",), "x", {"text": "a violin"})
    found = await store.asearch(("users",), query=query, limit=2)
    assert all(0 < item.score <= 1 for item in found)
    return [item.value["text"] for item in found]


# -- LangGraph's own checks of a checkpointer


class OfOneActor(AgentCoreMemorySaver):
    """The checks know no actors, which every thread of AgentCore's has."""

    def _of(self, config):
        return {**config, "configurable": {"actor_id": "checks", **config["configurable"]}}

    def get_tuple(self, config):
        return super().get_tuple(self._of(config))

    def list(self, config, **more):
        return super().list(self._of(config), **more)

    def put(self, config, *more):
        return super().put(self._of(config), *more)

    def put_writes(self, config, *more, **named):
        return super().put_writes(self._of(config), *more, **named)

    async def adelete_thread(self, thread_id):
        await super().adelete_thread(thread_id, "checks")


async def checks(memory, kind):
    @checkpointer_test(name=kind)
    async def saver():
        yield OfOneActor(memory, checkpoint_format=kind)

    report = await validate(saver)
    found = {name: result for name, result in report.results.items() if result.detected}
    return {
        "passed": {name: result.tests_passed for name, result in found.items()},
        "failed": [each.partition(":")[0] for one in found.values() for each in one.failures],
    }


ASYNCHRONOUS = {
    "ask": ask, "assist": assist, "search": search, "begin": begin, "resume": resume,
    "forget": forget, "checks": checks, "look_up": look_up,
}  # fmt: skip
OTHERS = {"travel": travel, "work": work, "inner": inner, "documents": documents}


@app.entrypoint
async def answer(payload):
    do = payload.pop("do")
    if do in OTHERS:
        return {"answer": await asyncio.to_thread(OTHERS[do], **payload)}
    return {"answer": await ASYNCHRONOUS[do](**payload)}


if __name__ == "__main__":
    app.run()
