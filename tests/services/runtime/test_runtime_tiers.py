"""Which tier a session has: chosen by its runtime, within what the operator allows."""

import shutil
from pathlib import Path

import pytest

import agents
from freehold.adapters.sandbox import kvm
from freehold.settings import Settings, SettingsError, allowed_tiers, load
from running import Agent, RunningPlatform, new_session, refusal, until

pytestmark = pytest.mark.timeout(300)

needs_gvisor = pytest.mark.skipif(
    shutil.which("runsc") is None, reason="gVisor's runsc is not installed here"
)


def settled(**settings: str) -> Settings:
    return load({f"FREEHOLD_{name.upper()}": value for name, value in settings.items()})


# -- what an operator allows


def test_a_minimum_leaves_out_what_is_weaker() -> None:
    assert allowed_tiers(settled()) == ("container", "gvisor", "vm")
    assert allowed_tiers(settled(allow_process_tier="true"))[0] == "process"
    assert allowed_tiers(settled(sandbox_tier_min="gvisor")) == ("gvisor", "vm")
    strict = settled(sandbox_tier_min="container", allow_process_tier="true")
    assert "process" not in allowed_tiers(strict)


def test_a_default_below_the_minimum_is_refused() -> None:
    with pytest.raises(SettingsError, match="below FREEHOLD_SANDBOX_TIER_MIN=gvisor"):
        settled(sandbox_tier="container", sandbox_tier_min="gvisor")


# -- what a runtime gets


def started_tier(agent: Agent, session: str) -> str:
    until(lambda: agent.platform.session(session)["status"] != "STARTING")
    return str(agent.platform.session(session)["tier"])


@needs_gvisor
def test_a_runtime_chooses_its_tier_and_the_record_says_which(platform: RunningPlatform) -> None:
    agent = platform.deploy(agents.plain(), tags={"freehold:tier": "gvisor"})
    session = new_session()
    said = agent.invoke(session=session)
    assert said["pid"] < 3, "gVisor's kernel counts from one"
    assert started_tier(agent, session) == "gvisor"

    def restored() -> bool:
        later = new_session()
        agent.invoke(session=later)
        until(lambda: platform.session(later)["status"] != "STARTING")
        start = platform.session(later)["start"]
        agent.stop(later)
        return bool(start == "restored")

    until(restored, seconds_max=120, every=1)
    agent.delete()


def test_a_tier_that_this_machine_lacks_is_refused_by_name(platform: RunningPlatform) -> None:
    if kvm.problem() is None:
        pytest.skip("this machine has hardware KVM")
    agent = platform.deploy(agents.plain(), tags={"freehold:tier": "vm"})
    refused = agent.refusal()
    assert refused.message.startswith("tier vm is not available here: ")
    assert platform.own("/sessions", runtimeId=agent.id, status="all")["sessions"] == []
    agent.delete()


@needs_gvisor
def test_auto_takes_the_fastest_that_is_strong_enough(open_directory: Path) -> None:
    with RunningPlatform(open_directory / "strict", sandbox_tier_min="gvisor") as strict:
        assert strict.facts["tier"] == "gvisor"
        refused = refusal(
            lambda: strict.create(agents.plain(), tags={"freehold:tier": "container"})
        )
        assert refused.code == "ValidationException"
        assert "expected gvisor, vm" in refused.message
        agent = strict.deploy(agents.plain())
        session = new_session()
        agent.invoke(session=session)
        assert started_tier(agent, session) == "gvisor"
