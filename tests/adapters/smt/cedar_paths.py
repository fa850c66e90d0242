"""What the conditions of a policy can name, and how Cedar writes values down."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cedar_requests import datetime_text, decimal_text
from cedar_worlds import STRING, Field, Type, World

_STEPS_MAX = 3


@dataclass(frozen=True)
class Path:
    """A value that a condition can name, and what must be asked first, in this order."""

    text: str
    type: Type
    guards: tuple[str, ...]


def quoted(text: str) -> str:
    """A string of Cedar's."""
    out = []
    for sign in text:
        if sign in '"\\':
            out.append("\\" + sign)
        elif sign.isprintable():
            out.append(sign)
        else:
            out.append(f"\\u{{{ord(sign):x}}}")
    return f'"{"".join(out)}"'


def entity_text(kind: str, id: str) -> str:
    return f"{kind}::{quoted(id)}"


def action_text(world: World, name: str) -> str:
    return entity_text(f"{world.namespace}::Action", name)


class Names:
    """The paths of a policy whose scope leaves these actions, and these types of entities."""

    def __init__(
        self,
        world: World,
        pick: random.Random,
        actions: list[str],
        kinds: dict[str, tuple[str, ...]],
        tag_keys: list[str],
    ) -> None:
        self.world = world
        self._random = pick
        self._actions, self._kinds, self._keys = actions, kinds, tag_keys

    def all(self) -> list[Path]:
        found = [*self._entity_paths(), *self._context_paths(), *self._named_paths()]
        return found + self._tags_by_value(found)

    def _entity_paths(self) -> Iterator[Path]:
        for var, kinds in self._kinds.items():
            for kind in kinds:
                guards = () if len(kinds) == 1 else (f"{var} is {kind}",)
                yield from self._walk(Path(var, Type("Entity", entity=kind), guards), _STEPS_MAX)

    def _context_paths(self) -> Iterator[Path]:
        names = self._actions
        for name in names:
            context = self.world.actions[name].context
            alike = all(self.world.actions[other].context == context for other in names)
            guards = () if alike else (f"action == {action_text(self.world, name)}",)
            yield from self._walk(Path("context", context, guards), _STEPS_MAX)
            if alike:
                return

    def _named_paths(self) -> Iterator[Path]:
        """What some entity that the policy names has."""
        kind = self._random.choice(list(self.world.entities))
        uid = entity_text(kind, self._random.choice(self.world.entities[kind].ids))
        path = Path(uid, Type("Entity", entity=kind), ())
        yield from list(self._walk(path, 1))[1:]

    def _tags_by_value(self, paths: list[Path]) -> list[Path]:
        """Tags whose key is not constant."""
        keys = [path for path in paths if path.type == STRING]
        found = []
        for path in paths:
            tags = self.world.entities[path.type.entity].tags if path.type.entity else None
            if tags is not None and keys and self._random.random() < 0.3:
                key = self._random.choice(keys)
                guards = unique((*path.guards, *key.guards, f"{path.text}.hasTag({key.text})"))
                found.append(Path(f"{path.text}.getTag({key.text})", tags, guards))
        return found

    def _walk(self, path: Path, steps: int) -> Iterator[Path]:
        yield path
        if not steps:
            return
        fields = path.type.fields
        if path.type.kind == "Entity":
            kind = self.world.entities[path.type.entity]
            fields = kind.fields
            if kind.tags is not None:
                key = self._tag_key()
                guard = f"{path.text}.hasTag({key})"
                tag = Path(f"{path.text}.getTag({key})", kind.tags, (*path.guards, guard))
                yield from self._walk(tag, 0)
        for each in fields:
            yield from self._walk(self._member(path, each), steps - 1)

    def _member(self, path: Path, each: Field) -> Path:
        plain = each.name.isidentifier()
        step = (
            f".{each.name}" if plain and self._random.random() < 0.9 else f"[{quoted(each.name)}]"
        )
        guard = f"{path.text} has {each.name if plain else quoted(each.name)}"
        guards = path.guards if each.required else (*path.guards, guard)
        return Path(path.text + step, each.type, guards)

    def _tag_key(self) -> str:
        return quoted(self._random.choice(self._keys))


def literal_text(kind: str, value: int | str) -> str:
    if kind == "String":
        return quoted(str(value))
    if kind == "Long":
        return str(value)
    if kind == "decimal":
        return f'decimal("{decimal_text(int(value))}")'
    if kind == "datetime":
        return f'datetime("{datetime_text(int(value))}")'
    if kind == "duration":
        return f'duration("{value}ms")'
    return f'ip("{value}")'


def unique(each: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each))
