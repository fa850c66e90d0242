"""What a session used: CPU from its cgroup, memory as the peak of each second."""

from freehold.ports.sandbox import Usage

GB = 1e9
MEMORY_BYTES_MIN = 128 << 20
"""AgentCore's billing floor."""


class Meter:
    """Totals since the session began. None once a reading was not to be had: never zero.

    `cpu_before`: what its sandbox had used of the CPU by then, which is nobody's. `was_read`: the
    totals say something.
    """

    def __init__(
        self,
        *,
        cpu_seconds: float | None = 0.0,
        memory_gb_seconds: float | None = 0.0,
        cpu_before: float = 0.0,
    ) -> None:
        self.cpu_seconds = cpu_seconds
        self.memory_gb_seconds = memory_gb_seconds
        self.cpu_before = cpu_before
        self.was_read = False

    def read(self, usage: Usage, *, seconds: float) -> None:
        """`seconds` since the last reading, all charged at the peak within them."""
        self.was_read = True
        self.cpu_seconds = None
        if usage.cpu_seconds is not None:
            self.cpu_seconds = max(0.0, usage.cpu_seconds - self.cpu_before)
        if usage.memory_peak_bytes is None or self.memory_gb_seconds is None:
            self.memory_gb_seconds = None
        else:
            charged = max(usage.memory_peak_bytes, MEMORY_BYTES_MIN)
            self.memory_gb_seconds += charged / GB * seconds
