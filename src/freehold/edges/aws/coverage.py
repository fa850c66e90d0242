"""The one visible list of what is implemented, and what answers 501."""

from collections.abc import Collection

from freehold.edges.aws.model import services


def table(handlers: Collection[str]) -> str:
    """Markdown: every operation of the four services. `handlers` are "{service}:{Operation}"."""
    lines = []
    for service in services().values():
        ids = [operation.id for operation in service.operations.values()]
        done = sum(id in handlers for id in ids)
        lines += [f"## {service.name}: {done} of {len(ids)}", ""]
        lines += ["| operation | implemented |", "|---|---|"]
        lines += [
            f"| {operation.name} | {'yes' if operation.id in handlers else 'no'} |"
            for operation in sorted(service.operations.values(), key=lambda one: one.name)
        ]
        lines.append("")
    return "\n".join(lines)
