"""What the operator has said of prices."""

from pathlib import Path

from freehold.services.runtime.prices import Prices, read_prices
from freehold.settings import TIERS, Settings


def prices(settings: Settings) -> Prices:
    """Raises PricesWrong."""
    said = Prices(
        vcpu_hour=settings.price_vcpu_hour,
        gb_hour=settings.price_gb_hour,
        currency=settings.price_currency,
    )
    if settings.price_table is None:
        return said
    return read_prices(Path(settings.price_table), said, tiers_known=TIERS)
