"""What a process of the platform has around it: its orders, its supervisor, its end."""

import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold import settings as settings_module
from freehold.kernel.errors import PlatformFailed
from freehold.settings import Settings
from freehold.state import ProcessLock

_ORDERS_BYTES_MAX = 1 << 20


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """From the supervisor, on one line. `settings` are environment variables."""

    settings: dict[str, str]
    run: str

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


def hear_what_is_ignored() -> None:
    """`nohup` and shells without job control start us with signals ignored. What we start would
    inherit that, and no Ctrl-C would end a program in an agent's shell; a handler it does not."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


class Surroundings:
    """Two pipes of the supervisor's: orders come by the first, and its closing means that the
    supervisor died; by the second we say that we are ready, or why we cannot be.
    """

    settings: Settings
    run: Path

    def __init__(self, orders: int, ready: int) -> None:
        for descriptor in (orders, ready):
            os.set_inheritable(descriptor, False)
        hear_what_is_ignored()
        self._orders, self._ready = orders, ready

    def receive(self, name: str) -> None:
        """Waits for the orders. From here on no second process of that name runs on the state.

        Raises SystemExit when the supervisor is gone, SettingsError, PlatformFailed.
        """
        line = bytearray()
        while not line.endswith(b"\n"):
            data = os.read(self._orders, _ORDERS_BYTES_MAX)
            if not data:
                sys.exit(0)
            line += data
        orders = msgspec.json.decode(line, type=Orders)
        self.settings = settings_module.load(orders.settings)
        self.run = Path(orders.run)
        try:
            self._lock = ProcessLock(self.settings.state, name)
        except BlockingIOError:
            raise PlatformFailed(f"an earlier {name} process still runs") from None
        if self._supervisor_is_gone():  # before we held the lock: the next one did not see us
            sys.exit(0)

    def _supervisor_is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._orders, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def on_stop(self, stop: Callable[[], None]) -> None:
        """SIGTERM, or the death of the supervisor."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)

        def died() -> None:
            loop.remove_reader(self._orders)
            stop()

        loop.add_reader(self._orders, died)

    def say_ready(self) -> None:
        # What start-up made (the service models above all) lives as long as we do: without this
        # each full collection walks it again, some 8% of the CPU of a busy worker.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 10, 10)
        self._say(b"1")

    def say_why_not(self, words: str) -> None:
        """Nothing, once we were ready."""
        self._say(b"0" + words.encode())

    def _say(self, words: bytes) -> None:
        if self._ready >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ready, words)
            os.close(self._ready)
            self._ready = -1
