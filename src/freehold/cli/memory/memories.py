"""`freehold memory list`, `create`, `show` and `delete`: the memories themselves."""

from typing import Any

import click

from freehold.cli.memory import found, shown
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.output import when
from freehold.cli.platform import Platform

TURNS_TAG = "freehold:turns"
EXPIRY_DAYS_DEFAULT = 90
# What people call a strategy, AWS's member for it, and the name that it gets.
_KINDS = {
    "semantic": ("semanticMemoryStrategy", "facts"),
    "summary": ("summaryMemoryStrategy", "summaries"),
    "preference": ("userPreferenceMemoryStrategy", "preferences"),
    "episodic": ("episodicMemoryStrategy", "episodes"),
}
_LEARNS = {
    "SEMANTIC": "semantic: facts worth knowing later",
    "SUMMARIZATION": "summary: each session, by topic",
    "USER_PREFERENCE": "preference: what people like, and how they want to be served",
    "EPISODIC": "episodic: what was tried, what came of it, and lessons from that",
    "SELF_MANAGED": "self-managed: what is said is handed to a program of yours",
}


@click.command("list")
@platform_options
def list_memories(platform: Platform) -> None:
    """List the memories of the account."""
    rows = sorted(found.every(platform), key=lambda row: str(row["id"]))
    output = platform.output
    if output.as_json:
        output.document({"memories": rows})
    elif not rows:
        output.note("No memories yet: freehold memory create NAME --strategy semantic --turns")
    else:
        output.table(
            ("MEMORY", "STATUS", "UPDATED"),
            [(row["id"], row["status"], when(row["updatedAt"])) for row in rows],
        )


@click.command()
@click.argument("name")
@click.option(
    "--strategy", "kinds", multiple=True, type=click.Choice(list(_KINDS)),
    help="What is learned from conversations; may be given again. Needs a model.",
)  # fmt: skip
@click.option(
    "--turns", is_flag=True, help="What is said stays searchable as it was said. Needs no model."
)
@click.option(
    "--expiry-days", type=click.IntRange(3, 3650), default=EXPIRY_DAYS_DEFAULT, show_default=True,
    help="So long what was said is kept. What was learned from it stays.",
)  # fmt: skip
@click.option("--description", help="What it is for.")
@platform_options
def create(
    platform: Platform,
    *,
    name: str,
    kinds: tuple[str, ...],
    turns: bool,
    expiry_days: int,
    description: str | None,
) -> None:
    """Make the memory NAME: letters, digits and underscores."""
    request: dict[str, Any] = {"name": name, "eventExpiryDuration": expiry_days}
    if kinds:
        chosen = [_KINDS[kind] for kind in dict.fromkeys(kinds)]
        request["memoryStrategies"] = [{member: {"name": called}} for member, called in chosen]
    if description:
        request["description"] = description
    if turns:
        request["tags"] = {TURNS_TAG: "on"}
    answer: Any = platform.control.create_memory(**request)
    made, output = answer["memory"], platform.output
    if output.as_json:
        output.document(made)
        return
    output.say(f"{made['name']} is {made['status']}")
    output.say(made["id"])
    output.say(made["arn"])
    if notice := found.notice_of(answer):
        shown.remark(output, notice)
    if not kinds and not turns:
        shown.remark(
            output,
            "It keeps what is said and learns nothing from it; only records that are put there"
            " are found. --strategy and --turns change that.",
        )


@click.command()
@click.argument("memory")
@platform_options
def show(platform: Platform, memory: str) -> None:
    """Show MEMORY, its strategies, and what waits.

    With the namespaces that its strategies write to.
    """
    which = found.find(platform, memory)
    answer: Any = platform.control.get_memory(memoryId=which.id)
    document = answer["memory"]
    if document["status"] == "DELETING":
        # Nothing of it is found where it is used, and so it has no more to say.
        status: dict[str, Any] = {"turns": False, "strategies": [], "waiting": []}
        tags: dict[str, str] = {}
    else:
        status = platform.own.get("memories", which.id, "status")
        tags = platform.control.list_tags_for_resource(resourceArn=document["arn"]).get("tags", {})
    if platform.output.as_json:
        platform.output.document(
            {**document, "tags": tags, "turns": status["turns"], "waiting": status["waiting"]}
        )
        return
    _tell(platform, document, status, tags)


def _tell(
    platform: Platform, document: dict[str, Any], status: dict[str, Any], tags: dict[str, str]
) -> None:
    output = platform.output
    output.say(f"{document['name']} is {document['status']}")
    output.say(document["id"])
    output.say(document["arn"])
    if document.get("description"):
        shown.paragraph(output, document["description"])
    output.say(f"What is said is kept for {document['eventExpiryDuration']} days.")
    if status["turns"]:
        output.say("It stays searchable as it was said, in /turns/actors/{actorId}/.")
    else:
        output.say(f"It is not searchable as it was said: the tag {TURNS_TAG}=on makes it so.")
    for key in document.get("indexedKeys") or ():
        output.say(f"Filters may name the metadata {key['key']} ({key['type']}).")
    for key in document.get("namespaceKeys") or ():
        output.say(f"Namespaces may hold {{{key['key']}}} of an event.")
    for key, value in sorted(tags.items()):
        if key != TURNS_TAG:
            output.say(f"{key} = {value}")
    _tell_strategies(platform, document, status)
    for text in status["waiting"]:
        output.say("")
        shown.paragraph(output, text, first=click.style("Waits: ", fg="yellow"))


def _tell_strategies(platform: Platform, document: dict[str, Any], status: dict[str, Any]) -> None:
    output = platform.output
    learns = {each["strategyId"]: each["learns"] for each in status["strategies"]}
    for each in document.get("strategies") or ():
        id = each["strategyId"]
        kind = learns.get(id, each["type"])
        custom = " (custom)" if each["type"] == "CUSTOM" else ""
        state = "" if each["status"] == "ACTIVE" else f", {each['status']}"
        output.say("")
        name = click.style(each["name"], bold=True)
        shown.paragraph(output, _LEARNS[kind], first=f"{name}{custom}{state}, ")
        shown.dim(output, id)
        for template in each["namespaces"]:
            shown.dim(output, template.replace("{memoryStrategyId}", id))
    if not document.get("strategies"):
        output.say("")
        output.say("It has no strategies: nothing is learned from what is said.")


@click.command()
@click.argument("memory")
@yes_option
@platform_options
def delete(platform: Platform, memory: str, yes: bool) -> None:
    """Delete MEMORY with all that it remembers."""
    which = found.find(platform, memory)
    question = f"Delete the memory {which.name} ({which.id}) with everything that it remembers?"
    confirm(platform, question, yes=yes)
    answer: Any = platform.control.delete_memory(memoryId=which.id)
    if platform.output.as_json:
        platform.output.document(found.plain(answer))
        return
    platform.output.say(f"{which.name} is gone; what it held is being cleared away.")
