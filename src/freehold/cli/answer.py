"""An agent's answer on a terminal: server-sent events piece by piece, JSON, or plain text."""

import codecs
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from freehold.cli.failure import CliError


class NotText(ValueError):
    """The bytes are no UTF-8 text."""


def show_answer(content_type: str, chunks: Iterable[bytes]) -> None:
    """Print the answer as it comes. Raises CliError when the agent failed in mid-stream."""
    kind = _media_type(content_type)
    if kind == "text/event-stream":
        _show_events(chunks)
    elif kind == "application/json" or kind.endswith("+json"):
        value = _json(b"".join(chunks).decode(errors="replace"))
        click.echo(value if isinstance(value, str) else _pretty(value))
    else:
        _show_text(chunks)


def pieces(content_type: str, chunks: Iterable[bytes]) -> dict[str, Any]:
    """The same for programs: `events` of a stream, else `response`."""
    if _media_type(content_type) == "text/event-stream":
        return {"events": [_failed_or(_json(data)) for data in events(chunks)]}
    return {"response": _json(b"".join(chunks).decode(errors="replace"))}


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event (the HTML standard's rules; names and ids are not kept).

    A last event without its blank line counts: an agent that ends there has said it.
    """
    data: list[str] = []
    for line in _lines(chunks):
        if line == "":
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line == "data":
            data.append("")
    if data:
        yield "\n".join(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines end with LF, CR LF or CR; a piece may end anywhere, even inside a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    for chunk in chunks:
        pending += decoder.decode(chunk)
        # A CR at the very end may be half of a CR LF.
        held = "\r" if pending.endswith("\r") else ""
        text = pending[: len(pending) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        *whole, pending = text.split("\n")
        pending += held
        yield from whole
    if rest := pending + decoder.decode(b"", final=True):
        yield from rest.rstrip("\r").split("\n")


def _show_events(chunks: Iterable[bytes]) -> None:
    """Strings run together, as tokens do; anything else has a line of its own."""
    in_line = False
    for data in events(chunks):
        value = _json(data)
        try:
            _failed_or(value)
        except CliError:
            if in_line:
                click.echo()
            raise
        if isinstance(value, str):
            sys.stdout.write(value)
            sys.stdout.flush()
            in_line = not value.endswith("\n") if value else in_line
            continue
        if in_line:
            click.echo()
        click.echo(json.dumps(value, ensure_ascii=False))
        in_line = False
    if in_line:
        click.echo()


def _show_text(chunks: Iterable[bytes]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    last = ""
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text or last
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotText from error
    if last and not last.endswith("\n"):
        click.echo()


def _failed_or(value: Any) -> Any:
    """The value, unless it is what the agent's SDK sends when the agent fails in mid-stream."""
    if isinstance(value, dict) and {"error", "error_type"} <= value.keys():
        raise CliError(
            f"The agent failed while it answered: {value['error_type']}: {value['error']}",
            code="AgentFailed",
        )
    return value


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json(text: str) -> Any:
    """What the text says, or the text itself when it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
