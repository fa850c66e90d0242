"""What was created at a stand-in, so that it can be got, listed, changed and deleted."""

from typing import Any

from connector_vendors.facts import Operation
from connector_vendors.shapes import Shape, judge, sample

Json = dict[str, Any]
_NAMES = ("id", "number", "gid", "key", "Id", "sha")


class Store:
    """Documents by the path that they are got at."""

    def __init__(self) -> None:
        self._kept: dict[str, Json] = {}
        self._under: dict[str, list[str]] = {}
        self.gone: set[str] = set()
        self._last = 1000

    def number(self) -> int:
        self._last += 1
        return self._last

    def keep(self, collection: str, document: Json, also_at: str = "") -> None:
        places = [also_at] if also_at else []
        places += [f"{collection}/{document[n]}" for n in _NAMES if n in document]
        for place in places:
            self._kept[place] = document
            self.gone.discard(place)
        self._under.setdefault(collection, []).append(places[0] if places else "")

    def got(self, path: str) -> Json | None:
        return self._kept.get(path)

    def change(self, path: str, members: Json) -> Json:
        document = self._kept.setdefault(path, {})
        document.update(members)
        return document

    def delete(self, path: str) -> None:
        document = self._kept.pop(path, None)
        self.gone.add(path)
        for place in [p for p, kept in self._kept.items() if kept is document]:
            del self._kept[place]
            self.gone.add(place)

    def listed(self, collection: str) -> list[Json]:
        places = self._under.get(collection, [])
        return [self._kept[place] for place in places if place in self._kept]

    def of_kind(self, kind: str) -> list[Json]:
        """All in collections of that last name."""
        ends = [name for name in self._under if name.rsplit("/", 1)[-1] == kind]
        return [document for name in ends for document in self.listed(name)]


def fitting(shape: Shape, members: Json) -> Json:
    """The members that the shape has too, and that are of its kind."""
    if not isinstance(shape, dict):
        return {}
    return {
        name: value
        for name, value in members.items()
        if name in shape and not judge(value, shape[name], name)
    }


def answered(
    operation: Operation, path: str, wrap: str, sent: Json, store: Store
) -> tuple[Any, Json | None]:
    """The body of the answer, and the document in it where the operation is about one."""
    shape = operation.answer
    if shape is None:
        return None, None
    inner = shape[wrap] if wrap else shape
    if isinstance(inner, dict) and not _lists(inner):
        document = sample(inner, operation.id, store.number())
        document |= fitting(inner, sent) | fitting(inner, store.got(path) or {})
        whole = {**sample(shape, "", store.number()), wrap: document} if wrap else document
        return whole, document
    whole = sample(shape, "", store.number())
    kept = store.listed(path)
    if kept:
        _put(whole, kept, shape)
    return whole, None


def _lists(shape: Json) -> bool:
    return any(isinstance(inner, list) for inner in shape.values()) and not (
        shape.keys() & {"id", "gid", "Id"}
    )


def _put(whole: Any, kept: list[Json], shape: Shape) -> None:
    """The kept documents in place of the made-up one, in the first list that there is."""
    if isinstance(whole, list):
        whole[:] = [{**sample(shape[0], "", 1), **fitting(shape[0], one)} for one in kept]
        return
    for name, inner in whole.items():
        if isinstance(inner, list):
            item = shape[name][0]
            made = sample(item, "", 1) if isinstance(item, dict) else {}
            whole[name] = [{**made, **one} for one in kept]
            return
