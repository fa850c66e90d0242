"""The network of a session: none, some hosts, or open; through the platform's proxy and no other
way. Real agents in real sandboxes, with the clients that agents use."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from egress_ground import Internet, certificate, run

import agents
from running import Agent, RunningPlatform, new_session, refusal, until

pytestmark = pytest.mark.timeout(300)

REQUIREMENTS = "requests\nhttpx\nboto3\n"


class Ground(NamedTuple):
    platform: RunningPlatform
    plain: Internet
    tls: Internet
    secret: Internet
    """On this machine too, and no operator permitted it."""
    trusted: str


@pytest.fixture(scope="module")
def ground(
    open_directory: Path, platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    trusted, context = certificate(tmp_path_factory.mktemp("tls"))
    state = open_directory / "egress"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    with (
        Internet().serving() as plain,
        Internet(context).serving() as tls,
        Internet().serving() as secret,
        RunningPlatform(
            state, egress_private_hosts=f"localhost:{plain.port}, localhost:{tls.port}"
        ) as running,
    ):
        yield Ground(running, plain, tls, secret, trusted.read_text())


Deploy = Callable[..., Agent]


@pytest.fixture(scope="module")
def deploy(ground: Ground) -> Deploy:
    """An agent with these tags, deployed once for all who ask for the same."""
    known: dict[str, Agent] = {}

    def agent(requirements: str = "", **tags: str) -> Agent:
        name = json.dumps([requirements, tags], sort_keys=True)
        if name not in known:
            files = {**agents.obeying(requirements), "trusted.pem": ground.trusted}
            known[name] = ground.platform.deploy(
                files,
                tags={f"freehold:{k.replace('_', '-')}": v for k, v in tags.items()},
                environmentVariables={
                    "SSL_CERT_FILE": "/var/task/trusted.pem",
                    "REQUESTS_CA_BUNDLE": "/var/task/trusted.pem",
                    "AWS_CA_BUNDLE": "/var/task/trusted.pem",
                },
            )
        return known[name]

    return agent


@pytest.fixture(scope="module")
def listed(ground: Ground, deploy: Deploy) -> Agent:
    hosts = f"localhost:{ground.plain.port} localhost:{ground.tls.port} .example.com"
    return deploy(REQUIREMENTS, egress="hosts", egress_hosts=hosts)


URLLIB = """
import urllib.request
body = data.encode() if data else None
answer = urllib.request.urlopen(url, data=body, timeout=20).read().decode()
"""
REQUESTS = """
import requests
answer = requests.request("POST" if data else "GET", url, data=data or None, timeout=20).text
"""
HTTPX = """
import httpx, ssl
context = ssl.create_default_context(cafile="/var/task/trusted.pem")
with httpx.Client(verify=context) as client:
    answer = client.request("POST" if data else "GET", url, content=data or None, timeout=20).text
"""
CHUNKED = """
import httpx
answer = httpx.post(url, content=iter([b"12345", b"678"]), timeout=20).text
"""
BOTO3 = """
import boto3
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b",
    config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
s3.put_object(Bucket="bucket", Key="key", Body=b"12345")
answer = "put"
"""


@pytest.mark.parametrize("client", [URLLIB, REQUESTS, HTTPX], ids=["urllib", "requests", "httpx"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("data", ["", "x" * 200_000], ids=["get", "post"])
def test_ordinary_clients_reach_a_host_on_the_list(
    ground: Ground, listed: Agent, client: str, scheme: str, data: str
) -> None:
    port = ground.plain.port if scheme == "http" else ground.tls.port
    url = f"{scheme}://localhost:{port}/path?q=1"
    answer = run(listed, WITHOUT_NO_PROXY + client, url=url, data=data)
    assert answer == f"{'POST' if data else 'GET'} /path?q=1 {len(data)}"


# `localhost` is this session's own, and NO_PROXY says so; the tests' servers have no other name.
WITHOUT_NO_PROXY = """
import os
os.environ.pop("NO_PROXY", None), os.environ.pop("no_proxy", None)
"""


def test_a_body_in_chunks_passes(ground: Ground, listed: Agent) -> None:
    url = f"http://localhost:{ground.plain.port}/chunks"
    assert run(listed, WITHOUT_NO_PROXY + CHUNKED, url=url) == "POST /chunks 8"


def test_boto3_passes(ground: Ground, listed: Agent) -> None:
    url = f"https://localhost:{ground.tls.port}"
    assert run(listed, WITHOUT_NO_PROXY + BOTO3, url=url) == "put"
    assert "PUT /bucket/key" in ground.tls.asked


# -- no


STATUS = """
import http.client, os, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
answer = []
for target in targets:
    connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
    try:
        connection.request("CONNECT", target)
        response = connection.getresponse()
        answer.append([response.status, response.read().decode() if response.status >= 300 else ""])
    except OSError as error:
        answer.append([0, repr(error)])
    finally:
        connection.close()
"""


def connect(agent: Agent, *targets: str, session: str | None = None) -> list[tuple[int, str]]:
    answers = run(agent, STATUS, session, targets=list(targets))
    return [(status, words) for status, words in answers]


def test_another_host_is_refused_with_the_way_to_allow_it_and_noted_in_the_log(
    listed: Agent,
) -> None:
    session = new_session()
    [(status, words)] = connect(listed, "evil.test:443", session=session)
    assert status == 403
    assert "egress to evil.test:443 is not allowed" in words
    assert "add evil.test to its tag freehold:egress-hosts" in words
    until(lambda: any("[freehold] egress to evil.test:443" in x for x in listed.log(session)))


def test_an_agent_that_insists_does_not_fill_its_log(listed: Agent) -> None:
    session = new_session()
    connect(listed, *(f"evil{number}.test:443" for number in range(60)), session=session)
    until(lambda: any("evil0.test" in line for line in listed.log(session)))
    connect(listed, "localhost:1", session=session)
    lines = [line for line in listed.log(session) if "[freehold] egress to" in line]
    assert 1 <= len(lines) <= 15


PLACES = [
    "169.254.169.254:80", "169.254.169.254:443", "[::ffff:169.254.169.254]:80",
    "[fd00:ec2::254]:80", "[64:ff9b::a9fe:a9fe]:80", "127.0.0.1:443", "[::1]:443", "0.0.0.0:80",
    "10.0.0.1:443", "192.168.1.1:443", "172.16.0.1:443", "100.100.100.200:80", "localhost:443",
    "168.63.129.16:80",
]  # fmt: skip
NO_NAMES = [
    "2852039166:80", "0251.0376.0251.0376:80", "0xa9fea9fe:80", "0xa9.0xfe.0xa9.0xfe:80",
    "169.254.43518:80", "127.1:443", "0177.0.0.1:443", "localhost@169.254.169.254:80",
    "169.254.169.254%25eth0:80",
]  # fmt: skip


def test_open_egress_leads_to_no_private_place_however_it_is_written(deploy: Deploy) -> None:
    agent = deploy(egress="open")
    for target, (status, words) in zip(PLACES, connect(agent, *PLACES), strict=True):
        assert status == 403, (target, status, words)
    for target, (status, words) in zip(NO_NAMES, connect(agent, *NO_NAMES), strict=True):
        assert status == 400, (target, status, words)


def test_a_tenants_list_does_not_open_what_the_operator_did_not(
    ground: Ground, deploy: Deploy
) -> None:
    port = ground.secret.port
    agent = deploy(egress_hosts=f"localhost:{port} 127.0.0.1:{port} 169.254.169.254")
    targets = [f"localhost:{port}", f"127.0.0.1:{port}", "169.254.169.254:80"]
    for status, words in connect(agent, *targets):
        assert status == 403
        assert "leads" in words
    assert ground.secret.asked == []


def test_open_egress_means_the_ports_of_the_web(ground: Ground, deploy: Deploy) -> None:
    agent = deploy(egress="open")
    [(status, words)] = connect(agent, f"localhost:{ground.plain.port}")
    assert status == 403
    assert "ports 80 and 443" in words
    wider = deploy(egress="open", egress_hosts=f"localhost:{ground.plain.port}")
    assert connect(wider, f"localhost:{ground.plain.port}") == [(200, "")]


@pytest.mark.slow
def test_the_platform_itself_is_never_reached_though_it_be_permitted(
    open_directory: Path, platform: RunningPlatform
) -> None:
    state = open_directory / "egress-own"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    with RunningPlatform(state, egress_private_hosts="localhost, 127.0.0.0/8") as running:
        port = running.endpoint.rpartition(":")[2]
        agent = running.deploy(
            agents.obeying(), tags={"freehold:egress-hosts": f"localhost:{port} 127.0.0.1:{port}"}
        )
        for status, words in connect(agent, f"localhost:{port}", f"127.0.0.1:{port}"):
            assert status == 403
            assert "leads to the platform itself" in words


OTHER_WAYS = """
import errno, socket
answer = {}
def attempt(name, act):
    try:
        answer[name] = repr(act())
    except OSError as error:
        answer[name] = "refused"
attempt("tcp", lambda: socket.create_connection(("1.1.1.1", 443), timeout=5))
attempt("host", lambda: socket.create_connection(("127.0.0.1", port), timeout=5))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempt("dns", lambda: udp.sendto(b"x" * 30, ("8.8.8.8", 53)))
attempt("dns-tcp", lambda: socket.create_connection(("8.8.8.8", 53), timeout=5))
attempt("ipv6", lambda: socket.create_connection(("2606:4700::1111", 443), timeout=5))
attempt("name", lambda: socket.getaddrinfo("example.com", 443))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("metadata", lambda: socket.create_connection(("169.254.169.254", 80), timeout=5))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0freehold"))
"""


@pytest.mark.parametrize("reach", ["none", "open"])
def test_there_is_no_other_way_out(ground: Ground, deploy: Deploy, reach: str) -> None:
    port = int(ground.platform.endpoint.rpartition(":")[2])
    answer = run(deploy(egress=reach), OTHER_WAYS, port=port)
    assert answer == dict.fromkeys(answer, "refused")
    assert len(answer) == 10


def test_a_session_without_a_network_has_no_proxy_at_all(deploy: Deploy) -> None:
    source = """
import os, socket
with socket.socket() as probe:
    answer = [k for k in os.environ if k.lower().endswith("_proxy") and k.lower() != "no_proxy"]
    answer.append(probe.connect_ex(("127.0.0.1", 7401)) == 0)
"""
    assert run(deploy(), source) == [False]


SMUGGLED = """
import os, socket, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
with socket.create_connection((proxy.hostname, proxy.port), timeout=20) as sock:
    sock.sendall(request.encode("latin-1"))
    answer = sock.makefile("rb").read().decode("latin-1")
"""


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Host: localhost:{port}\r\nHost: evil.test\r\n", ""),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("X: a\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: a\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;\n\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-1\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n1234567\r\n0\r\n\r\n"),
        ("X: " + "a" * 70_000 + "\r\n", ""),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(
    ground: Ground, listed: Agent, head: str, body: str
) -> None:
    before = list(ground.plain.asked)
    port = ground.plain.port
    request = f"POST http://localhost:{port}/smuggled HTTP/1.1\r\n{head}\r\n{body}"
    answer = run(listed, SMUGGLED, request=request.replace("{port}", str(port)))
    assert answer.startswith("HTTP/1.1 400 ")
    assert ground.plain.asked == before


def test_a_second_request_in_the_first_ones_body_stays_body(ground: Ground, listed: Agent) -> None:
    port = ground.plain.port
    inner = f"GET http://localhost:{port}/inner HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = f"POST http://localhost:{port}/outer HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc{inner}"
    answer = run(listed, SMUGGLED, request=request)
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.endswith("POST /outer 3")
    assert "GET /inner" not in ground.plain.asked


# -- settings


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"egress": "everything"}, "none or hosts or open"),
        ({"egress-hosts": "bad_host-.example"}, "is none"),
        ({"egress-hosts": "host:0"}, "a port from 1 to 65535"),
        ({"egress-hosts": "host:70000"}, "a port from 1 to 65535"),
        ({"egress-hosts": "127.1"}, "is none"),
        ({"egress-hosts": "http://example.com"}, "port"),
        ({"egress-hosts-10": "example.com"}, "no such setting"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_what_can(
    ground: Ground, tags: dict[str, str], words: str
) -> None:
    said = {f"freehold:{name}": value for name, value in tags.items()}
    refused = refusal(lambda: ground.platform.create(agents.obeying(), tags=said))
    assert refused.code == "ValidationException"
    assert words in refused.message


def test_a_long_list_goes_on_in_further_tags(ground: Ground, deploy: Deploy) -> None:
    many = " ".join(f"host{number}.example" for number in range(14))
    agent = deploy(egress_hosts=many, egress_hosts_2=f"localhost:{ground.plain.port}")
    assert connect(agent, f"localhost:{ground.plain.port}") == [(200, "")]


def test_a_change_holds_for_the_next_session(ground: Ground, deploy: Deploy) -> None:
    agent = ground.platform.deploy(agents.obeying())
    tag = agent.control.tag_resource
    target = f"localhost:{ground.plain.port}"
    tag(resourceArn=agent.arn, tags={"freehold:egress-hosts": target})
    assert connect(agent, target) == [(200, "")]
    tag(resourceArn=agent.arn, tags={"freehold:egress": "none"})
    source = "import os; answer = os.environ.get('HTTPS_PROXY')"
    assert run(agent, source) is None


def test_the_proxy_is_started_again_when_it_dies(ground: Ground, listed: Agent) -> None:
    session = new_session()
    target = f"localhost:{ground.plain.port}"
    assert connect(listed, target, session=session) == [(200, "")]
    [pid] = ground.platform.pids("egress")
    os.kill(pid, signal.SIGKILL)
    until(lambda: connect(listed, target, session=session) == [(200, "")])
    assert ground.platform.pids("egress") != [pid]


def test_a_session_that_outlives_its_node_keeps_its_network(ground: Ground, listed: Agent) -> None:
    session = new_session()
    target = f"localhost:{ground.plain.port}"
    assert connect(listed, target, session=session) == [(200, "")]
    [pid] = ground.platform.pids("node")
    os.kill(pid, signal.SIGKILL)
    until(lambda: connect(listed, target, "evil.test:443", session=session)[0] == (200, ""))
    assert connect(listed, "evil.test:443", session=session)[0][0] == 403


# -- in every tier, and however a session came to be


@pytest.mark.parametrize("tier", ["container", pytest.param("gvisor", marks=pytest.mark.slow)])
def test_every_tier_has_the_same_way_out_and_no_other(
    ground: Ground, deploy: Deploy, tier: str
) -> None:
    port = ground.plain.port
    agent = deploy(egress_hosts=f"localhost:{port}", tier=tier)
    sessions = [new_session()]
    allowed, refused = f"localhost:{port}", "169.254.169.254:80"

    def started(how: str) -> bool:
        """A session that came to be like that, in the end."""
        sessions.append(new_session())
        assert [s for s, _ in connect(agent, allowed, refused, session=sessions[-1])] == [200, 403]
        return bool(until(lambda: ground.platform.session(sessions[-1])["start"]) == how)

    until(lambda: started({"container": "forked", "gvisor": "restored"}[tier]), every=0.5)
    assert ground.platform.session(sessions[-1])["tier"] == tier
    for session in (sessions[1], sessions[-1]):
        answer = run(agent, OTHER_WAYS, session, port=port)
        assert answer == dict.fromkeys(answer, "refused")
