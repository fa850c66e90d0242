"""Verification: the chain computed again from the entries, beside what was stored."""

import hashlib
from collections.abc import Iterator

import msgspec

from freehold.ports.audit import AuditEvent
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.audit.linker import checkpoint_context
from freehold.services.audit.model import Fault, Link

FAULTS_MAX = 100
_CHECKPOINT_GAP_MAX = 10_000

_decode = msgspec.json.Decoder(AuditEvent).decode


class ChainCheck:
    """Fed with links in order, from the one after `sequence`, whose hash is `hash`.

    After a break it goes on from the stored hash, so that each fault is told where it is.
    """

    def __init__(
        self, tenant: str, sequence: int, hash: bytes, checkpoints: dict[int, bytes], sealer: Sealer
    ) -> None:
        self._tenant = tenant
        self.sequence = self._sealed_at = sequence
        self.hash = hash
        self._unsealed = checkpoints
        self._sealer = sealer
        self.checked = 0
        self.checkpoints = 0
        self.faults: list[Fault] = []

    def fault(self, kind: str, sequence: int, message: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(kind, sequence, message))

    def feed(self, links: list[Link]) -> None:
        for link in links:
            for fault in self._faults_of(link):
                self.fault(*fault)
            self.sequence, self.hash = link.sequence, link.hash
            self.checked += 1
            sealed = self._unsealed.pop(link.sequence, None)
            if sealed is not None:
                self._check_seal(link, sealed)

    def _faults_of(self, link: Link) -> Iterator[tuple[str, int, str]]:
        whole = link.sequence == self.sequence + 1
        if not whole:
            first, last = self.sequence + 1, link.sequence - 1
            yield "removed", first, f"the entries {first} to {last} are gone"
        if link.text is None:
            yield "removed", link.sequence, "the entry is gone"
            return
        computed = hashlib.sha256(self.hash + link.text.encode()).digest()
        if whole and computed != link.hash:
            yield (
                "changed", link.sequence,
                "the entry is not the one that was linked here: changed, moved or inserted",
            )  # fmt: skip
            return
        try:
            event = _decode(link.text)
        except msgspec.DecodeError:
            yield "changed", link.sequence, "the entry cannot be read"
            return
        if (event.tenant, event.at) != (link.tenant, link.at) or event.tenant != self._tenant:
            yield "changed", link.sequence, "its tenant or time is not what its text says"

    def _check_seal(self, link: Link, sealed: bytes) -> None:
        self.checkpoints += 1
        self._sealed_at = link.sequence
        try:
            context = checkpoint_context(self._tenant, link.sequence)
            if self._sealer.open(sealed, context=context) != link.hash:
                self.fault("rewritten", link.sequence, "the checkpoint sealed another hash")
        except SealBroken:
            self.fault(
                "rewritten", link.sequence,
                "the checkpoint's seal does not open: it was changed, or its key is gone",
            )  # fmt: skip

    def finish(self, sequence: int, hash: bytes) -> None:
        """What the head says. Both could have been set back together: the seals tell."""
        if self.sequence < sequence:
            self.fault(
                "removed", self.sequence + 1,
                f"the chain ends at {self.sequence}; {sequence} entries were linked",
            )  # fmt: skip
        elif self.hash != hash:
            self.fault("rewritten", sequence, "the chain's end is not the one that was recorded")
        for sealed_at in sorted(self._unsealed):
            self.fault("removed", sealed_at, "a checkpoint seals an entry that is gone")
        if self.sequence - self._sealed_at > _CHECKPOINT_GAP_MAX:
            self.fault(
                "rewritten", self._sealed_at + 1, "checkpoints that should stand here are gone"
            )
