"""The operator's price table."""

from pathlib import Path

import pytest

from freehold.services.runtime.prices import Prices, PricesWrong, TierPrice, read_prices

SAID = Prices(vcpu_hour=0.1, gb_hour=0.01)


def table(folder: Path, text: str) -> Prices:
    file = folder / "prices.toml"
    file.write_text(text)
    return read_prices(file, SAID, tiers_known=("container", "vm"))


def test_a_tier_has_prices_of_its_own_and_the_others_the_platforms(tmp_path: Path) -> None:
    prices = table(tmp_path, 'currency = "EUR"\n[tiers.vm]\nvcpu_hour = 0.2\n')
    assert prices.currency == "EUR"
    assert prices.tiers == {"vm": TierPrice(0.2, 0.01)}
    assert prices.cost("container", 3600, 7200) == pytest.approx(0.12)
    assert prices.cost("vm", 3600, 7200) == pytest.approx(0.22)


def test_what_was_not_measured_has_no_price(tmp_path: Path) -> None:
    assert table(tmp_path, "").cost("container", None, 1.0) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("vcpu_hour = -1", "vcpu_hour = -1"),
        ("vcpu_hour = true", "vcpu_hour = True"),
        ("gb_hour = nan", "gb_hour = nan"),
        ("cpu = 1", "cpu: no such entry"),
        ("[tiers.vm]\ncpu = 1", "tiers.vm.cpu: no such entry"),
        ("tiers = 3", "price table"),
        ("[tiers]\nvm = 3", "tiers.vm: expected a table"),
        ("[tiers.vmm]\nvcpu_hour = 1", "tiers.vmm: there is container, vm"),
        ("= 3", "price table"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_fault(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(PricesWrong, match=r"prices\.toml") as refused:
        table(tmp_path, text)
    assert fault in refused.value.message


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PricesWrong, match="cannot be read"):
        read_prices(tmp_path / "none.toml", SAID, tiers_known=())
