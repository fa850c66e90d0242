"""What agents cost: their sandboxes as they were metered, and their models as they were priced."""

from datetime import UTC, datetime, timedelta

import msgspec

from freehold.console import filters
from freehold.console.answer import Answer, Page
from freehold.console.filters import Filter
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

_PATH = "/console/costs"
_BY = ("agent", "session", "user")
_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90}
_FILTERS = (
    Filter(
        name="by", label="By", kind="choice", choices=tuple((b, b) for b in _BY), default="agent"
    ),
    filters.since("7d", tuple(_DAYS)),
)


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A value a day of `days`; None: nothing known of it."""

    days: list[str]
    compute: list[float | None]
    models: list[float | None]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Reports as our own API has them. `days` and `model_days` are the same by day; `kinds` is what
    each model cost."""

    by: str
    since: str
    compute: Part
    days: Part
    models: Part
    model_days: Part
    kinds: Part

    @property
    def chart(self) -> Chart:
        return _chart(self.since, _rows(self.days), _rows(self.model_days))


class CostPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [Route(method="GET", path=_PATH, act=self.show, operation="ReportCosts")]

    async def show(self, visit: Visit) -> Answer:
        chosen = filters.values(filters.read(visit, _FILTERS))
        by, since = chosen["by"], chosen["since"]
        own = "/freehold/v1"
        compute, days, models, model_days, kinds = await parts(
            self._platform.get(visit, f"{own}/costs", by=by, since=since),
            self._platform.get(visit, f"{own}/costs", by="day", since=since),
            self._platform.get(visit, f"{own}/model-costs", by=by, since=since),
            self._platform.get(visit, f"{own}/model-costs", by="day", since=since),
            self._platform.get(visit, f"{own}/model-costs", by="model", since=since),
        )
        data = Costs(
            by=by, since=since, compute=compute, days=days, models=models, model_days=model_days,
            kinds=kinds,
        )  # fmt: skip
        return Page(template="costs.html", title="Costs", data=data)


def _rows(part: Part) -> dict[str, float | None]:
    rows = (part.value or {}).get("rows", ())
    return {row["key"][:10]: row["cost"] for row in rows}


def _chart(since: str, compute: dict[str, float | None], models: dict[str, float | None]) -> Chart:
    """Days on which nothing was used stand in it too."""
    last = datetime.now(UTC).date()
    count = _DAYS[since]
    days = [str(last - timedelta(days=count - back)) for back in range(count + 1)]
    if not compute and not models:
        days = []
    return Chart(
        days=days, compute=[compute.get(day, 0.0) for day in days],
        models=[models.get(day, 0.0) for day in days],
    )  # fmt: skip
