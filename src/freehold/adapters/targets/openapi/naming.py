"""Names that MCP and the models take, of names that an API made."""

import re

_NOT_TOOL = re.compile(r"[^A-Za-z0-9_.-]+")
_NOT_ARGUMENT = re.compile(r"[^A-Za-z0-9_.-]+")
_TOOL_MAX = 128
_ARGUMENT_MAX = 64


class Names:
    """Each given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def tool(self, operation_id: str, method: str, path: str) -> str:
        base = _NOT_TOOL.sub("_", operation_id).strip("_")
        if not base:
            base = _NOT_TOOL.sub("_", f"{method}_{path}".replace("{", "").replace("}", ""))
            base = re.sub(r"_+", "_", base.replace("/", "_")).strip("_")
        return self._free(base[:_TOOL_MAX], _TOOL_MAX)

    def argument(self, name: str, place: str) -> str:
        """What comes second under a name says where it goes: `id`, `id_query`."""
        base = self.shortened(name)
        if base in self._taken:
            base = f"{base[: _ARGUMENT_MAX - len(place) - 1]}_{place}"
        return self._free(base, _ARGUMENT_MAX)

    def shortened(self, name: str) -> str:
        return _NOT_ARGUMENT.sub("_", name).strip("_")[:_ARGUMENT_MAX] or "value"

    def free(self, name: str) -> bool:
        return name not in self._taken

    def _free(self, base: str, length_max: int) -> str:
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base[: length_max - len(str(number)) - 1]}_{number}"
        self._taken.add(name)
        return name
