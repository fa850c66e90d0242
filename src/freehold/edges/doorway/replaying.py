"""Model calls of a session that is a fork: answered from the record, or made with its change."""

from freehold.edges.doorway.passage import Passage
from freehold.edges.doorway.reply import Reply
from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.ports.exchanges import changed, wire_of_operation
from freehold.ports.replay import (
    FORK_ID,
    REPLAY,
    REPLAY_CHANGED,
    REPLAY_DIFFERS,
    LiveModel,
    ModelAnswer,
    Replays,
    is_fork,
)


class Replaying:
    def __init__(self, replays: Replays | None) -> None:
        self._replays = replays

    def concerns(self, passage: Passage) -> bool:
        return self._replays is not None and is_fork(passage.session.session_id)

    async def answered(self, passage: Passage, reply: Reply) -> bool:
        """Whether it was. Else the passage is what is to go to the provider.

        Raises Conflict where it is to go nowhere, ValidationFailed where it cannot be changed.
        """
        assert self._replays is not None, "asked of what concerns it"
        body = await passage.body.read()
        passage.body.replace(body)
        fork = {FORK_ID: passage.session.session_id}
        try:
            found = await self._replays.model(
                passage.session,
                operation=passage.target.operation,
                model=passage.target.model or passage.body.model,
                body=body,
            )
        except Conflict:
            passage.replayed(fork)
            raise
        if isinstance(found, ModelAnswer):
            differs = {REPLAY_DIFFERS: True} if found.differs else {}
            passage.replayed({**fork, REPLAY: "recorded", **differs})
            await _answer(found, passage, reply)
            return True
        if found is not None:
            passage.replayed({**fork, REPLAY: "live"})
            _change(found, passage, body)
        return False


async def _answer(found: ModelAnswer, passage: Passage, reply: Reply) -> None:
    passage.answering(found.content_type)
    passage.heard(found.body)
    await reply.whole(200, found.body, found.content_type)


def _change(live: LiveModel, passage: Passage, body: bytes) -> None:
    """Of calls that have words alone: lists of models and embeddings stay as they are."""
    wire = wire_of_operation(passage.target.operation)
    if not (wire or passage.target.operation == "FimCompletions"):
        return
    if not (live.model or live.system or live.prompt):
        return
    if live.model:
        try:
            passage.target = passage.wire.naming(passage.target, live.model)
        except NotFound:
            raise ValidationFailed(f"{live.model!r} is no name of a model here") from None
    passage.body.replace(
        changed(wire, body, model=live.model, system=live.system, prompt=live.prompt)
    )
    passage.replayed({REPLAY_CHANGED: True})
