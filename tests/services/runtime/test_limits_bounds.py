"""What tags make of a session's bounds, and how a limit that was hit is told."""

import pytest

from freehold.ports.egress import Destination, SessionEgress
from freehold.ports.sandbox import Limits
from freehold.services.runtime.bounds import SessionBounds, host_list
from freehold.services.runtime.exceeded import explained

MIB = 1 << 20
BOUNDS = SessionBounds(
    usual=Limits(memory_bytes_max=256 * MIB, cpus_max=1.0), most=Limits(memory_bytes_max=512 * MIB)
)


def said(bounds: SessionBounds = BOUNDS, **tags: str) -> dict[str, object]:
    readers = bounds.readers()
    named = {name.replace("_", "-"): value for name, value in tags.items()}
    return {name: readers[name](value) for name, value in named.items()}


def test_who_says_nothing_gets_what_is_usual() -> None:
    assert BOUNDS.limits({}, memory_mib_min=0) == BOUNDS.usual
    assert BOUNDS.egress({}) == SessionEgress()


def test_each_tag_sets_its_own_limit() -> None:
    tags = said(memory_mib="64", cpus="0.5", processes="20", open_files="100", scratch_mib="8")
    assert BOUNDS.limits(tags, memory_mib_min=0) == Limits(
        memory_bytes_max=64 * MIB, cpus_max=0.5, processes_max=20, open_files_max=100,
        scratch_bytes_max=8 * MIB,
    )  # fmt: skip


def test_the_models_own_minimum_of_memory_raises_a_smaller_wish() -> None:
    assert BOUNDS.limits(said(memory_mib="64"), memory_mib_min=128).memory_bytes_max == 128 * MIB


def test_a_whole_number_of_cpus_is_as_good_as_a_decimal() -> None:
    assert BOUNDS.limits(said(cpus="2"), memory_mib_min=0).cpus_max == 2.0


def test_an_operators_small_most_can_still_be_asked_for() -> None:
    tiny = SessionBounds(most=Limits(memory_bytes_max=16 * MIB))
    assert said(tiny, memory_mib="16") == {"memory-mib": 16}


def test_hosts_alone_mean_those_hosts_also_where_more_is_usual() -> None:
    generous = SessionBounds(reach="open")
    assert generous.egress({}).reach == "open"
    only = SessionEgress(reach="hosts", destinations=(Destination("a.test", 1),))
    assert generous.egress(said(generous, egress_hosts="a.test:1")) == only
    assert generous.egress(said(generous, egress="none", egress_hosts="a.test:1")).reach == "none"


def test_lists_of_several_tags_are_one_list() -> None:
    found = BOUNDS.egress(said(egress_hosts="a.test:1 a.test:1", egress_hosts_9="b.test:2"))
    assert found.destinations == (Destination("a.test", 1), Destination("b.test", 2))


@pytest.mark.parametrize(
    ("reach_max", "asked", "expected"),
    [
        ("hosts", {"egress": "open"}, "none or hosts on this platform; see FREEHOLD_SESSION_EG"),
        ("none", {"egress": "hosts"}, "none on this platform"),
        ("none", {"egress_hosts": "a.test"}, "no hosts on this platform"),
    ],
)
def test_more_network_than_the_operator_permits_is_refused(
    reach_max: str, asked: dict[str, str], expected: str
) -> None:
    bounds = SessionBounds(reach_max=reach_max)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=expected):
        said(bounds, **asked)


def test_hosts_are_read() -> None:
    assert host_list("API.example.com .Example.org:8443 93.184.216.34:80") == (
        Destination("api.example.com", 443), Destination("api.example.com", 80),
        Destination("*.example.org", 8443), Destination("93.184.216.34", 80),
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["*.test", "a..b", "-a.test", "a.test:", "a.test:x", "a.test/x", "a@b", "0x7f.1", "::1", ".",
     "a" * 64, "2130706433"],
)  # fmt: skip
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host names|a port"):
        host_list(text)


@pytest.mark.parametrize(
    ("words", "tag"),
    [
        ("the agent ended: ran out of memory (limit 256 MiB)", "memory-mib"),
        ('{"error": "MemoryError: "}', "memory-mib"),
        ("RuntimeError: can't start new thread", "processes"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "processes"),
        ("spawn /bin/x EAGAIN", "processes"),
        ("OSError: [Errno 24] Too many open files: 'x'", "open-files"),
        ("Error: ENOSPC: no space left on device, write", "scratch-mib"),
    ],
)
def test_a_limit_that_was_hit_is_told_with_its_tag(words: str, tag: str) -> None:
    assert explained(words).startswith(words)
    assert f"tag freehold:{tag}" in explained(words)


def test_other_failures_are_left_as_they_are() -> None:
    words = "the agent answered HTTP 500: ValueError: no memory of that"
    assert explained(words) == words
