"""What all stand-ins of vendors have in common, and what is in their facts."""

from typing import Any

import pytest

from connector_vendors.facts import VENDORS, facts_of
from connector_vendors.shapes import judge, sample
from vendor_caller import At


def _fitting(shapes: dict[str, Any], part: str, number: int) -> str:
    """A path's part, with something of its shape in place of a parameter."""
    if not part.startswith("{"):
        return part
    shape = str(shapes[part.strip("{}")])
    if shape.startswith("~"):
        return str(sample(shape, part, number))
    return str(number) if shape in ("integer", "digits") else f"x{number}"


@pytest.mark.parametrize("vendor", VENDORS)
class TestEveryVendor:
    def test_has_thirty_operations_each_with_its_source(self, vendor: str) -> None:
        facts = facts_of(vendor)

        assert len(facts.operations) >= 30
        assert all(one.source for one in facts.operations)
        assert facts.about["description"]["source"]
        assert facts.about["description"]["version"]

    def test_has_shapes_that_their_own_samples_fit(self, vendor: str) -> None:
        for one in facts_of(vendor).operations:
            shapes = [one.answer, (one.body or {}).get("members"), one.arguments]
            for shape in [found for found in shapes if found is not None]:
                assert judge(sample(shape, "", 7), shape, one.id) == [], one.id

    def test_has_each_operation_found_by_its_own_path(self, vendor: str) -> None:
        facts = facts_of(vendor)
        for one in facts.operations:
            parts = [_fitting(one.in_path, p, i) for i, p in enumerate(one.parts)]
            found = facts.find(one.method, parts)
            assert isinstance(found, tuple), one.id
            assert found[0].path == one.path

    async def test_refuses_who_brings_no_token(self, vendor: str, at: At) -> None:
        call = await at(vendor)
        call.headers = {"Authorization": "", "User-Agent": "a-test"}
        paths = {
            "salesforce": "/services/data/v60.0/limits", "slack": "/api/users.list",
            "jira": "/ex/jira/c/rest/api/3/myself", "asana": "/api/1.0/users/me",
            "zendesk": "/api/v2/users/me.json", "zoom": "/v2/users/me", "github": "/user",
        }  # fmt: skip

        status, said = await call("GET", paths[vendor])

        assert status == (200 if vendor == "slack" else 401)
        if vendor == "slack":
            assert said == {"ok": False, "error": "not_authed"}

    async def test_says_in_its_own_words_that_it_is_asked_too_often(
        self, vendor: str, at: At
    ) -> None:
        call = await at(vendor)
        call.vendor.limited = 1

        status, _ = await call("GET", "/")

        assert status == (403 if vendor in ("salesforce", "github") else 429)
        if vendor in ("slack", "zendesk", "zoom", "asana", "jira"):
            assert call.answered["Retry-After"]


def test_every_token_endpoint_takes_the_form_of_the_standard() -> None:
    form = "application/x-www-form-urlencoded"

    assert [v for v in VENDORS if form not in facts_of(v).about["oauth"]["content_types"]] == []
