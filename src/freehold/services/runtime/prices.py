"""What usage costs: a price for CPU and memory, which a tier may have of its own."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.kernel.errors import PlatformFailed


class TierPrice(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """For one hour of one CPU, and of one GB (10^9 bytes) of memory."""

    vcpu_hour: float
    gb_hour: float

    def cost(self, cpu_seconds: float, memory_gb_seconds: float) -> float:
        return cpu_seconds / 3600 * self.vcpu_hour + memory_gb_seconds / 3600 * self.gb_hour


class Prices(msgspec.Struct, frozen=True, rename="camel"):
    """AgentCore's by default. `tiers` holds those that differ."""

    vcpu_hour: float
    gb_hour: float
    currency: str = "USD"
    tiers: dict[str, TierPrice] = {}

    def cost(
        self, tier: str, cpu_seconds: float | None, memory_gb_seconds: float | None
    ) -> float | None:
        if cpu_seconds is None or memory_gb_seconds is None:
            return None
        price = self.tiers.get(tier) or TierPrice(self.vcpu_hour, self.gb_hour)
        return round(price.cost(cpu_seconds, memory_gb_seconds), 9)


class PricesWrong(PlatformFailed):
    """The operator's price table cannot be used. The message names the file and the fault."""


def read_prices(file: Path, otherwise: Prices, *, tiers_known: Sequence[str]) -> Prices:
    """From TOML: `currency`, `vcpu_hour`, `gb_hour`, and tables `[tiers.NAME]` with both prices.
    What it leaves out is as in `otherwise`.
    """
    try:
        given = tomllib.loads(file.read_text())
        tiers = {
            str(name): _tier_price(name, table, otherwise)
            for name, table in dict(given.pop("tiers", {})).items()
        }
        if unknown := sorted(set(tiers) - set(tiers_known)):
            raise ValueError(f"tiers.{unknown[0]}: there is {', '.join(tiers_known)}")
        wrong = sorted(set(given) - {"currency", "vcpu_hour", "gb_hour"})
        if wrong:
            raise ValueError(f"{wrong[0]}: no such entry")
        return Prices(
            vcpu_hour=_price(given, "vcpu_hour", otherwise.vcpu_hour),
            gb_hour=_price(given, "gb_hour", otherwise.gb_hour),
            currency=str(given.get("currency", otherwise.currency)),
            tiers=tiers,
        )
    except OSError as error:
        raise PricesWrong(f"the price table {file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise PricesWrong(f"the price table {file} is wrong: {error}") from error


def _tier_price(name: str, table: Any, otherwise: Prices) -> TierPrice:
    if not isinstance(table, dict):
        raise ValueError(f"tiers.{name}: expected a table")
    wrong = sorted(set(table) - {"vcpu_hour", "gb_hour"})
    if wrong:
        raise ValueError(f"tiers.{name}.{wrong[0]}: no such entry")
    return TierPrice(
        _price(table, "vcpu_hour", otherwise.vcpu_hour), _price(table, "gb_hour", otherwise.gb_hour)
    )


def _price(table: dict[str, Any], name: str, otherwise: float) -> float:
    value = table.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise ValueError(f"{name} = {value!r}: expected a price of 0 or more")
    return float(value)
