"""The stand-ins of Salesforce and Zendesk, asked as the vendors' documentation asks."""

import base64
from urllib.parse import quote, urlencode

from vendor_caller import At


class TestZendesk:
    def _basic(self, user: str, secret: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}

    async def test_creates_a_ticket_that_can_be_updated_with_a_comment(self, at: At) -> None:
        call = await at("zendesk")
        ticket = {
            "subject": "My printer is on fire!",
            "comment": {"body": "The smoke is colorful."},
        }
        solved = {"status": "solved", "comment": {"body": "Thanks.", "public": False}}

        status, made = await call("POST", "/api/v2/tickets.json", json={"ticket": ticket})
        path = f"/api/v2/tickets/{made['ticket']['id']}"
        _, changed = await call("PUT", path, json={"ticket": solved})
        _, got = await call("GET", path + ".json")

        assert (status, made["ticket"]["subject"]) == (201, "My printer is on fire!")
        assert changed["ticket"]["status"] == got["ticket"]["status"] == "solved"
        assert call.vendor.findings == []

    async def test_takes_the_agents_address_with_token_behind_it(self, at: At) -> None:
        call = await at("zendesk")
        call.vendor.password("jdoe@example.com/token", "6wiIBWbGkBMo1mRDMuVwkw1EPsNkeUj95PIz2akv")
        secret = "6wiIBWbGkBMo1mRDMuVwkw1EPsNkeUj95PIz2akv"
        path = "/api/v2/users/me"

        right = await call("GET", path, headers=self._basic("jdoe@example.com/token", secret))
        bare = await call("GET", path, headers=self._basic("jdoe@example.com", secret))

        assert (right[0], bare[0]) == (200, 401)
        assert bare[1] == {"error": "Couldn't authenticate you"}

    async def test_wants_a_comment_in_a_new_ticket(self, at: At) -> None:
        call = await at("zendesk")

        status, said = await call("POST", "/api/v2/tickets", json={"ticket": {"subject": "x"}})
        flat, _ = await call("POST", "/api/v2/tickets", json={"subject": "x"})

        assert (status, said["error"]) == (422, "RecordInvalid")
        assert flat == 400

    async def test_searches_with_a_query(self, at: At) -> None:
        call = await at("zendesk")
        query = quote("type:ticket status:open")

        assert (await call("GET", f"/api/v2/search.json?query={query}&sort_by=created_at"))[
            0
        ] == 200
        assert (await call("GET", "/api/v2/search.json"))[0] == 400

    async def test_grants_reading_without_writing(self, at: At) -> None:
        call = await at("zendesk")
        reads = call.vendor.token("read")

        assert (await call("GET", "/api/v2/tickets/1", token=reads))[0] == 200
        assert (await call("DELETE", "/api/v2/tickets/1", token=reads))[0] == 403


class TestSalesforce:
    async def test_creates_a_record_that_can_be_got_and_found(self, at: At) -> None:
        call = await at("salesforce")
        base = "/services/data/v60.0"
        query = quote("SELECT Id, Name FROM Account WHERE Name LIKE 'Express%' LIMIT 5")

        status, made = await call(
            "POST", base + "/sobjects/Account/", json={"Name": "Express Logistics"}
        )
        _, got = await call("GET", f"{base}/sobjects/Account/{made['id']}?fields=Name")
        _, found = await call("GET", f"{base}/query/?q={query}")

        assert (status, made["success"], made["errors"]) == (201, True, [])
        assert got["Name"] == "Express Logistics"
        assert [one["Id"] for one in found["records"]] == [made["id"]]

    async def test_says_in_a_list_which_fields_are_missing(self, at: At) -> None:
        call = await at("salesforce")

        status, said = await call(
            "POST", "/services/data/v60.0/sobjects/Contact", json={"FirstName": "A"}
        )

        assert status == 400
        assert said[0]["errorCode"] == "REQUIRED_FIELD_MISSING"
        assert said[0]["fields"] == ["LastName"]

    async def test_tells_a_relationship_from_an_external_id(self, at: At) -> None:
        call = await at("salesforce")
        base = "/services/data/v60.0/sobjects/Account"

        await call("GET", f"{base}/001D000000IqhSLIAZ/Contacts")
        await call("GET", f"{base}/AccountNumber__c/A-1")

        assert [one.operation for one in call.vendor.seen] == ["relationship", "getByExternalId"]

    async def test_takes_no_id_in_a_record(self, at: At) -> None:
        call = await at("salesforce")
        body = {"id": "001D000000IqhSLIAZ", "Name": "Express Donuts and Pies"}

        status, said = await call("POST", "/services/data/v60.0/sobjects/Account", json=body)

        assert (status, said[0]["errorCode"]) == (400, "INVALID_FIELD")

    async def test_reads_no_sql_that_is_not_soql(self, at: At) -> None:
        call = await at("salesforce")
        base = "/services/data/v60.0/query?"

        status, said = await call("GET", base + urlencode({"q": "FETCH Account"}))
        missing, _ = await call("GET", base)

        assert (status, said[0]["errorCode"]) == (400, "MALFORMED_QUERY")
        assert missing == 400

    async def test_has_versions_in_the_path_of_which_old_ones_are_retired(self, at: At) -> None:
        call = await at("salesforce")

        asked = [await call("GET", f"/services/data/{v}/limits") for v in ("v60.0", "v30.0", "60")]

        assert [status for status, _ in asked] == [200, 410, 404]

    async def test_changes_and_deletes_without_a_body_in_the_answer(self, at: At) -> None:
        call = await at("salesforce")
        path = "/services/data/v60.0/sobjects/Account/001D000000IqhSLIAZ"

        assert await call("PATCH", path, json={"BillingCity": "San Francisco"}) == (204, "")
        assert await call("DELETE", path) == (204, "")
        assert (await call("GET", path))[0] == 404
