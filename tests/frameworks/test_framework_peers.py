"""An agent of one framework asks an agent of another over A2A, from inside its session."""

from collections.abc import Callable

import pytest
from framework_ground import Deployed, ask, deploy, newly_rolled, rolled, wire_of

from running import RunningPlatform, new_session
from served_model import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SERVING = ("google_adk", "strands_a2a")


@pytest.fixture(scope="module")
def serving(
    frameworks: RunningPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Deployed]:
    done: dict[str, Deployed] = {}

    def deployed(folder: str) -> Deployed:
        if folder not in done:
            done[folder] = deploy(frameworks, folder, tmp_path_factory.mktemp(folder))
        return done[folder]

    return deployed


@pytest.mark.parametrize("folder", SERVING)
def test_a_langgraph_agent_asks_another_frameworks_agent(
    frameworks: RunningPlatform,
    dice_model: ServedModel,
    serving: Callable[[str], Deployed],
    tmp_path_factory: pytest.TempPathFactory,
    folder: str,
) -> None:
    """The other agent's own tool rolls: its log has the number, and ours has none."""
    dice = serving(folder)
    asking = deploy(
        frameworks,
        "langgraph_over_a2a",
        tmp_path_factory.mktemp("asking"),
        {"DICE_AGENT_ARN": dice.agent.arn},
    )
    dice_model.model.requests.clear()
    before = rolled(dice.agent)
    answer = ask(asking, new_session())
    [number] = newly_rolled(dice.agent, before)
    assert answer == f"You rolled {number}."
    assert rolled(asking.agent) == []
    ours, theirs, _, ours_again = (wire_of(r.path) for r in dice_model.model.requests)
    assert ours == ours_again != theirs  # each asked its model over its own wire


@pytest.mark.parametrize("folder", SERVING)
def test_its_card_is_had_from_the_platform(serving: Callable[[str], Deployed], folder: str) -> None:
    """GetAgentCard: the framework's own card, its JSON-RPC interface at the platform."""
    dice = serving(folder)
    platform = dice.agent.platform
    card = dice.agent.data.get_agent_card(
        agentRuntimeArn=dice.agent.arn, runtimeSessionId=new_session()
    )["agentCard"]
    urls = [card[name] for name in ("url",) if name in card]
    urls += [interface["url"] for interface in card.get("supportedInterfaces", ())]
    assert card["name"] == "dice"
    assert urls
    assert all(url.startswith(platform.endpoint) and "0.0.0.0" not in url for url in urls)
