"""Another tenant's id: the bar's row "404 on every operation", for every operation there is.

The list of operations is the platform's own: every one that has a handler, AgentCore's and ours. A
second tenant's admin calls each with what the first tenant has, and gets what it would get for
something that was never there. A new operation joins by itself where its members are known; where
they are not, the test fails, and says what to add to the table of its service (in tenant_tables).
S3 has a matrix of its own beside this one.
"""

import collections
import functools
import http.client
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from shape_samples import Samples
from tenant_tables import (
    ACTS_AT_HOME,
    BODIES,
    FILTERS,
    GOOD,
    MARKS,
    NAMELESS,
    NAMES,
    PATHS,
    THINGS,
    forks,
    functions,
    gateways,
    identity,
    memories,
    people,
    policies,
    runtimes,
    traces,
)
from tenant_tables.table import filled

import agents
from freehold.edges.aws import model
from freehold.edges.aws.model import Operation
from running import Agent, RunningPlatform
from without_services import handled_operations, native_operations

pytestmark = pytest.mark.timeout(300)

OPERATIONS = model.operations()
HANDLED = handled_operations()
NATIVE = native_operations()

# Which members are the first tenant's own, and not made up by who calls.
_LOOKS_LIKE_A_NAME = re.compile(r"(Id|Arn|Name|Identifier|name|Token|Uri)$")


class Answer(NamedTuple):
    status: int
    code: str
    text: str


class Theirs(NamedTuple):
    """What the first tenant has. `marks` are what no other tenant may ever read."""

    values: dict[str, str]
    marks: list[str]


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(agents.plain())
    yield agent
    agent.delete()


@pytest.fixture(scope="module")
def theirs(platform: RunningPlatform, stranger: RunningPlatform, agent: Agent) -> Iterator[Theirs]:
    name = f"matrix-{agent.id[-10:]}"
    values = {
        **runtimes.made(platform, agent), **people.made(platform, name),
        **identity.made(platform, stranger, name), **memories.made(platform, name),
        **policies.engine(platform, name), **traces.made(platform, name),
        **forks.made(platform, agent),
    }  # fmt: skip
    functions.make(platform, name)
    values |= gateways.made(platform, name, engine_arn=values["engine_arn"])
    values |= policies.made(platform, values)
    marks = [values[key] for key in MARKS]
    yield Theirs(values, [*marks, f":{platform.account}:", "canary-of-the-first-tenant"])
    for service in (gateways, policies, functions, memories, identity, people):
        service.forget(platform, values)


@pytest.fixture(scope="module")
def absent(theirs: Theirs) -> Theirs:
    """The same names, of things that never were."""
    values = dict(theirs.values)
    for key in THINGS:
        text = values[key]
        end = "".join(c if c == "-" else "2" if c == "1" else "1" for c in text[-8:])
        values[key] = text[:-8] + end
        assert values[key] != text
    values["key"] = "FHIA" + "Z" * 16
    values["account"] = "999900001111"
    # Else the ARN of something absent in the first tenant would be read by a stranger.
    return Theirs(values, theirs.marks)


# -- AgentCore


def inputs(operation: Operation, values: dict[str, str]) -> dict[str, Any]:
    """A valid input that names what is in `values` wherever it names something."""
    params = Samples(1, full=False).structure(operation.input)
    for name, member in operation.input.members.items():
        known = NAMES.get(f"{operation.name}.{name}", NAMES.get(name))
        if known is not None and member.shape.kind == "string":
            params[name] = filled(known, values)
        elif name not in NAMELESS and member.shape.kind == "string":
            needed = name in operation.input.required or _LOOKS_LIKE_A_NAME.search(name)
            assert not needed, (
                f"{operation.id} has the member {name!r}: say in the table of its service what the "
                "first tenant has of that kind (and make it there), or among the nameless that "
                "it names nothing"
            )
    return params | filled(GOOD.get(operation.name, {}), values)


def names_something(operation: Operation) -> bool:
    return any(
        name in operation.input.required and (f"{operation.name}.{name}" in NAMES or name in NAMES)
        for name in operation.input.members
    )


@functools.cache
def client_of(who: RunningPlatform, service: str) -> Any:
    return who.client(service, config={"parameter_validation": False})


def ask(who: RunningPlatform, operation: Operation, params: dict[str, Any]) -> Answer:
    client = client_of(who, operation.service.name)
    try:
        answer = getattr(client, xform_name(operation.name))(**params)
    except ClientError as error:
        response = error.response
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        return Answer(status, response["Error"]["Code"], json.dumps(response, default=str))
    read = {
        name: value.read() if isinstance(value, StreamingBody) else value
        for name, value in answer.items()
        if name != "ResponseMetadata"
    }
    return Answer(answer["ResponseMetadata"]["HTTPStatusCode"], "", json.dumps(read, default=str))


NAMING = [id for id in HANDLED if names_something(OPERATIONS[id]) and
          OPERATIONS[id].name not in ACTS_AT_HOME]  # fmt: skip
LISTING = [id for id in HANDLED if id not in NAMING and OPERATIONS[id].name not in ACTS_AT_HOME]


def test_every_operation_is_in_the_matrix() -> None:
    assert len(NAMING) > 20
    for id in HANDLED:
        inputs(OPERATIONS[id], collections.defaultdict(str))
    for id in LISTING:
        assert OPERATIONS[id].name.startswith(("List", "Search")), (
            f"{id} names nothing and lists nothing: say in NAMES what its members name, or in "
            "ACTS_AT_HOME that it acts in the caller's own tenant alone"
        )


@pytest.mark.parametrize("id", NAMING)
def test_another_tenants_resource_is_not_there(
    id: str, platform: RunningPlatform, stranger: RunningPlatform, theirs: Theirs, absent: Theirs
) -> None:
    operation = OPERATIONS[id]
    answer = ask(stranger, operation, inputs(operation, theirs.values))
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException"), answer
    never_was = ask(stranger, operation, inputs(operation, absent.values))
    assert never_was[:2] == answer[:2], "it tells what exists"
    if operation.name.startswith(("Get", "List")) and "Token" not in operation.name:
        mine = ask(platform, operation, inputs(operation, theirs.values))
        assert mine.status != 404 or id.endswith(("AgentCard", "ApiKey")), (
            f"the first tenant itself does not find it: NAMES is wrong ({mine})"
        )


@pytest.mark.parametrize("id", NAMING)
def test_another_tenants_resource_is_not_changed(
    id: str, platform: RunningPlatform, theirs: Theirs
) -> None:
    """After all of them: it stands as it stood."""
    if id != NAMING[-1]:
        return
    control = platform.client("bedrock-agentcore-control")
    name = theirs.values["name"]
    runtime = control.get_agent_runtime(agentRuntimeId=theirs.values["runtime_id"])
    assert (runtime["agentRuntimeVersion"], runtime["status"]) == ("1", "READY")
    assert control.get_resource_policy(resourceArn=theirs.values["runtime_arn"])["policy"]
    tags = control.list_tags_for_resource(resourceArn=theirs.values["runtime_arn"])["tags"]
    assert "a" not in tags
    assert control.get_workload_identity(name=name)["name"] == name
    assert control.get_api_key_credential_provider(name=name)["name"] == name
    assert platform.session(theirs.values["session"])["endedAt"] is None
    health = platform.own(f"/gateways/{theirs.values['gateway']}/status")
    assert [target["status"] for target in health["targets"]] == ["READY", "READY"]


@pytest.mark.parametrize("what", ["gateway_arn", "target_arn", "engine_arn"])
@pytest.mark.parametrize("name", ["ListTagsForResource", "TagResource", "UntagResource"])
def test_another_tenants_tags_are_not_there(
    what: str, name: str, stranger: RunningPlatform, theirs: Theirs, absent: Theirs
) -> None:
    operation = OPERATIONS[f"bedrock-agentcore-control:{name}"]
    params = {"resourceArn": theirs.values[what], **GOOD.get(name, {})}
    answer = ask(stranger, operation, params)
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException"), answer
    assert ask(stranger, operation, params | {"resourceArn": absent.values[what]})[:2] == answer[:2]


@pytest.mark.parametrize("id", LISTING)
def test_another_tenants_resources_are_in_no_list(
    id: str, platform: RunningPlatform, stranger: RunningPlatform, theirs: Theirs
) -> None:
    answer = ask(stranger, OPERATIONS[id], {})
    assert answer.status == 200
    assert not [mark for mark in theirs.marks if mark in answer.text]
    many = id.endswith(("Runtimes", "Gateways"))
    own = ask(platform, OPERATIONS[id], {"maxResults": 20} if many else {})
    assert [mark for mark in theirs.marks if mark in own.text], "the list shows nothing at all"


@pytest.mark.parametrize("id", [id for id in HANDLED if OPERATIONS[id].name in ACTS_AT_HOME])
def test_what_one_tenant_makes_does_not_meet_what_another_has(
    id: str, stranger: RunningPlatform, theirs: Theirs
) -> None:
    operation = OPERATIONS[id]
    answer = ask(stranger, operation, inputs(operation, theirs.values))
    assert answer.status != 409
    seen = [mark for mark in theirs.marks if mark != theirs.values["name"] and mark in answer.text]
    assert not seen


def test_another_tenants_workload_token_is_no_token(
    stranger: RunningPlatform, theirs: Theirs
) -> None:
    for name in ("GetResourceApiKey", "GetResourceOauth2Token"):
        operation = OPERATIONS[f"bedrock-agentcore:{name}"]
        if operation.id not in HANDLED:
            continue
        params = inputs(operation, theirs.values)
        answers = [
            ask(stranger, operation, params | {"workloadIdentityToken": token})[:2]
            for token in (theirs.values["token"], "nonsense")
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] in (400, 401, 403)


@pytest.mark.parametrize("place", ["ws", "ws/shells"])
def test_another_tenants_sockets_do_not_open(
    place: str, stranger: RunningPlatform, theirs: Theirs
) -> None:
    arn = quote(theirs.values["runtime_arn"], safe="")
    url = f"{stranger.endpoint}/runtimes/{arn}/{place}"
    request = AWSRequest("GET", url)
    credentials = Credentials(stranger.access_key_id, stranger.secret_access_key)
    SigV4Auth(credentials, "bedrock-agentcore", stranger.region).add_auth(request)
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", urlsplit(url).path, headers=dict(request.headers) | upgrade)
        assert connection.getresponse().status == 404
    finally:
        connection.close()


# -- our own API

# A list that never ends has a test of its own.
ENDLESS = {"FollowAudit", "WatchTraces"}
# A person may have roles in many tenants: who knows their id (random, 96 bits) lets them in.
INVITES = {"SetPersonRoles"}
# For the admins of the platform's first account alone, whatever is asked for.
FIRST_ACCOUNTS = {"ChangeTenant"}
# What they show is the caller's own calls, with what it asked for.
RECORDS = {"ExportAudit", "ListAudit", "ListSpans", "ListTraces"}


def ask_own(who: RunningPlatform, operation: Any, values: dict[str, str], **query: str) -> Answer:
    path = operation.path
    for parameter in re.findall(r"\{(\w+)\}", operation.path):
        assert parameter in PATHS, (
            f"{operation.name} has {parameter!r} in its path: say in PATHS what the first tenant "
            "has of that kind"
        )
        path = path.replace("{" + parameter + "}", quote(filled(PATHS[parameter], values), safe=""))
    body = None
    if operation.body is not None:
        assert operation.name in BODIES, f"give {operation.name} a valid body in BODIES"
        body = filled(BODIES[operation.name], values)
    with who.open(operation.method, path, body=body, **query) as answer:
        text = answer.read().decode()
        code = json.loads(text)["error"]["code"] if answer.status >= 400 else ""
        return Answer(answer.status, code, text)


OWN_NAMING = [o for o in NATIVE if "{" in o.path and o.name not in INVITES]
OWN_OTHERS = [o for o in NATIVE if "{" not in o.path and o.name not in {*ENDLESS, "SignOut"}]


@pytest.mark.parametrize("operation", OWN_NAMING, ids=lambda o: o.name)
def test_another_tenants_things_are_not_in_our_own_api(
    operation: Any, stranger: RunningPlatform, theirs: Theirs, absent: Theirs
) -> None:
    answer = ask_own(stranger, operation, theirs.values)
    never_was = ask_own(stranger, operation, absent.values)
    assert answer.status == (403 if operation.name in FIRST_ACCOUNTS else 404), answer
    assert never_was[:2] == answer[:2], "it tells what exists"


@pytest.mark.parametrize("operation", OWN_OTHERS, ids=lambda o: o.name)
def test_our_own_api_shows_nothing_of_another_tenant(
    operation: Any, stranger: RunningPlatform, theirs: Theirs
) -> None:
    for filters in [{}, *FILTERS.get(operation.name, [])]:
        query = filled(filters, theirs.values)
        answer = ask_own(stranger, operation, theirs.values, **query)
        marks = [theirs.values["principal"]] if operation.name in RECORDS else theirs.marks
        named = json.dumps(filled(BODIES.get(operation.name, {}), theirs.values))
        assert answer.status == 404 or not [m for m in theirs.marks if m in named], answer
        said = {*query.values(), named}
        assert not [m for m in marks if m in answer.text and not any(m in s for s in said)]


@pytest.mark.parametrize(
    "operation",
    [o for o in NATIVE if any(p.name == "platform" for p in o.parameters)],
    ids=lambda o: o.name,
)
def test_what_is_the_platforms_own_is_for_its_first_account(
    operation: Any, stranger: RunningPlatform, theirs: Theirs
) -> None:
    assert ask_own(stranger, operation, theirs.values, platform="true").status == 403


def test_who_follows_the_audit_hears_of_its_own_calls_alone(
    platform: RunningPlatform, stranger: RunningPlatform, theirs: Theirs
) -> None:
    with stranger.following("/audit/follow") as lines:
        platform.own("/sessions")
        stranger.own("/costs")
        for line in lines:
            assert theirs.values["principal"] not in json.dumps(line)
            if "ReportCosts" in json.dumps(line):
                return


def test_the_filters_name_what_there_is(platform: RunningPlatform, theirs: Theirs) -> None:
    for operation in OWN_OTHERS:
        for filters in FILTERS.get(operation.name, []):
            query = filled(filters, theirs.values)
            answer = ask_own(platform, operation, theirs.values, **query)
            assert [m for m in theirs.marks if m in answer.text], (operation.name, query)


def test_the_tables_name_only_what_there_is() -> None:
    """Or they would grow and say nothing."""
    members = set(itertools.chain(*(OPERATIONS[id].input.members for id in OPERATIONS)))
    assert {name.rpartition(".")[2] for name in NAMES} <= members
    assert members >= NAMELESS
    names = {operation.name for operation in OPERATIONS.values()}
    assert {*ACTS_AT_HOME, *GOOD} <= names
    own = {operation.name for operation in NATIVE}
    assert {*BODIES, *FILTERS, *ENDLESS} <= own
