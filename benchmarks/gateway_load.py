"""Calls a tool again and again over kept connections, in a process of its own.

`python benchmarks/gateway_load.py` reads a Load from standard input and writes its Figures. Each
call's text has its number in it, and its answer must have it too: nothing counts that was not
answered for this very call.
"""

import asyncio
import statistics
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop

NUMBER = "@NUMBER@"
"""Where the number of a call goes in the body; it is written with leading zeros."""


class Load(msgspec.Struct):
    """At most `calls`, and none begins after `seconds_max`."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: str
    calls: int
    seconds_max: float
    at_once: int
    marker: str = "number "
    """What stands before the number in a right answer."""


class Figures(msgspec.Struct):
    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    wrong: str = ""
    """The first answer that was none, if there was one."""


class Driver:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.before, *self.between, self.last = load.body.encode().split(NUMBER.encode())
        length = len(load.body) - (len(self.between) + 1) * (len(NUMBER) - 9)
        lines = [
            f"POST {load.path} HTTP/1.1",
            f"Host: {load.host}:{load.port}",
            f"Content-Length: {length}",
            *(f"{name}: {value}" for name, value in load.headers.items()),
        ]
        self.head = "\r\n".join([*lines, "", ""]).encode()
        self.begun = 0
        self.times: list[float] = []
        self.wrong = ""
        self.deadline = time.perf_counter() + load.seconds_max
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = load.at_once

    def next(self) -> int:
        """The number of the next call; 0: no more."""
        if self.wrong or self.begun >= self.load.calls or time.perf_counter() > self.deadline:
            return 0
        self.begun += 1
        return self.begun

    def request(self, number: int) -> bytes:
        digits = b"%09d" % (100_000_000 + number)
        return self.head + digits.join([self.before, *self.between, self.last])

    def over(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.finished.done():
            self.finished.set_result(None)


class Connection(asyncio.Protocol):
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._number, self._began = 0, 0.0
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number:
            self._driver.wrong = self._driver.wrong or "the connection was closed"
            self._end()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        took = time.perf_counter() - self._began
        body = b"".join(self._body)
        self._body.clear()
        marked = f"{self._driver.load.marker}{100_000_000 + self._number}".encode()
        if status != 200 or marked not in body:
            self._driver.wrong = f"{status}: {body[:1000].decode(errors='replace')}"
            self._end()
            return
        self._driver.times.append(took)
        self._next()

    def _next(self) -> None:
        self._number = self._driver.next()
        if not self._number:
            self._end()
            return
        request = self._driver.request(self._number)
        self._began = time.perf_counter()
        self._transport.write(request)

    def _end(self) -> None:
        self._number = 0
        self._driver.over()
        self._transport.close()


async def run(load: Load) -> Figures:
    loop, driver = asyncio.get_running_loop(), Driver(load)
    began = time.perf_counter()
    for _ in range(load.at_once):
        await loop.create_connection(lambda: Connection(driver), load.host, load.port)
    async with asyncio.timeout(load.seconds_max + 120):
        await driver.finished
    seconds = time.perf_counter() - began
    times = sorted(driver.times) or [0.0]
    return Figures(
        calls=len(driver.times),
        seconds=seconds,
        p50_ms=statistics.median(times) * 1e3,
        p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))] * 1e3,
        wrong=driver.wrong,
    )


if __name__ == "__main__":
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    print(msgspec.json.encode(uvloop.run(run(load))).decode())
