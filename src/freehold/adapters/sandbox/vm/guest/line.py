"""The guest's end of the serial line, and the loop that waits for everything."""

from __future__ import annotations

import os
import select
from collections import deque

from freehold.adapters.sandbox.vm.guest import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES_MAX = 256 << 10
IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Poll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """No events: not watched. (epoll would tell of a hang-up over and over.)"""
        if not events:
            self.forget(descriptor)
        elif descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        if events:
            self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def once(self) -> None:
        for descriptor, events in self._epoll.poll():
            handler = self._handlers.get(descriptor)
            if handler:
                handler(events)


class Line:
    """Edge-triggered: a level would spin for as long as no process of the platform is there."""

    def __init__(
        self, poll: Poll, descriptor: int, on_frame: Callable[[int, int, bytes], None]
    ) -> None:
        self._descriptor = descriptor
        self._on_frame = on_frame
        self._decoder = frames.Decoder()
        self._waiting: deque[memoryview] = deque()
        poll.watch(descriptor, IN | OUT | select.EPOLLET, self._ready)

    def send(self, kind: int, stream: int = 0, payload: bytes = b"") -> None:
        self._waiting.append(memoryview(frames.encoded(kind, stream, payload)))
        self._flush()

    def start_over(self) -> None:
        """What waits was for a process of the platform that is gone."""
        self._waiting.clear()
        self._waiting.append(memoryview(frames.fresh_start()))

    def _ready(self, events: int) -> None:
        while True:
            try:
                data = os.read(self._descriptor, _READ_BYTES_MAX)
            except BlockingIOError:
                break
            if not data:
                break
            for frame in self._decoder.frames(data):
                self._on_frame(*frame)
        self._flush()

    def _flush(self) -> None:
        while self._waiting:
            try:
                written = os.write(self._descriptor, self._waiting[0])
            except BlockingIOError:
                return
            if written == len(self._waiting[0]):
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][written:]
