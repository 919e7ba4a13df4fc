"""The wire: one draining writer per stream, for both ends; control goes before data, and data goes in batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from holon.errors import ResourceExhausted, TooLarge, Unavailable
from holon.wire.bell import Bell

Item = TypeVar("Item", bound=Message)

# What a side reads that says nothing else.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# The most that GRPC_MESSAGE_MAX_BYTES can be: who reads this much reads whatever a node sends.
MOST_MESSAGE_BYTES = 256 * 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ITEMS = 256
# What the tags and lengths around an item can take, as a member of a repeated field of a member of the frame.
_WRAPPING = 16


class Lane(Generic[Item]):
    """A queue of items of one kind, sent in order and together; made by `StreamWriter.lane`."""

    def __init__(self, writer: StreamWriter, kind: type[Item], frame_of: Callable[[Sequence[bytes]], bytes]) -> None:
        self._writer = writer
        self._kind = kind
        self._frame_of = frame_of
        # Encoded only: a queue that is full holds nothing twice. An empty deque would take as much as a dozen items.
        self._waiting: list[bytes] = []

    def __repr__(self) -> str:
        return f"Lane(waiting={len(self._waiting)})"

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item) -> None:
        """Queue one item as it is now, to be sent after those put before it. Never blocks.

        Raises:
            TooLarge: the other side could not read it, even alone; nothing was queued.
            ResourceExhausted: the queue is full, because the other side does not read; nothing was queued.
            Unavailable: the stream is closed.
        """
        self.put_encoded(item.SerializeToString())

    def put_encoded(self, encoded: bytes) -> None:
        """The same of an item that is encoded already."""
        self._writer.admit(len(encoded), len(self._waiting))
        self._waiting.append(encoded)

    def discard(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take back what was not sent yet, such as the offer of a task that was stopped, and return it."""
        kept: list[bytes] = []
        discarded: list[Item] = []
        for encoded in self._waiting:
            item = self._kind.FromString(encoded)
            if unwanted(item):
                discarded.append(item)
                self._writer.release(len(encoded), 1)
            else:
                kept.append(encoded)
        self._waiting = kept
        return discarded

    def take(self, max_bytes: int) -> bytes | None:
        """Remove the next batch and return it as a frame, or None when nothing waits; the writer calls it.

        Arguments:
            max_bytes: where a batch stops, unless it is one item alone.
        """
        waiting = self._waiting
        if not waiting:
            return None
        count, total = len(waiting), sum(map(len, waiting))
        if count > BATCH_ITEMS or total + _WRAPPING * count > max_bytes:
            count = total = 0
            for encoded in waiting[:BATCH_ITEMS]:
                if count and total + len(encoded) + _WRAPPING * (count + 1) > max_bytes:
                    break
                count += 1
                total += len(encoded)
        batch, self._waiting = waiting[:count], waiting[count:]
        self._writer.release(total, count)
        return self._frame_of(batch)


class StreamWriter:
    """The only writer of one stream. Its methods belong to the loop that runs it.

    Arguments:
        send: writes one frame, waiting while the transport does not take it; only `run` calls it.
        max_message_bytes: the largest message that the other side reads.
        max_items: how many items may wait in one lane, and how many frames in the control queue.
        max_bytes: how much may wait in all lanes together, and as much in the control queue.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[object]],
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_items: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self._send = send
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._control: list[bytes] = []
        self._lanes: list[Lane[Any]] = []
        self._control_bytes = 0
        self._waiting_bytes = self._waiting_items = 0
        self._sent = 0
        self._closed = False
        self._stopped = False
        self._bell = Bell()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"StreamWriter({state}, sent={self._sent}, control={len(self._control)}, "
            f"items={self._waiting_items}, bytes={self._waiting_bytes})"
        )

    @property
    def closed(self) -> bool:
        """Whether the stream takes nothing more."""
        return self._closed

    def lane(self, kind: type[Item], frame_of: Callable[[Sequence[bytes]], bytes]) -> Lane[Item]:
        """Make a queue for one kind of item. Lanes take turns, a frame each.

        Arguments:
            kind: the items' message.
            frame_of: builds the frame of a batch, see `frames_of`: at most BATCH_ITEMS items and BATCH_BYTES, or one
                item alone.
        """
        lane = Lane(self, kind, frame_of)
        self._lanes.append(lane)
        return lane

    def put_control(self, frame: Message) -> int:
        """Queue a frame of its own, to be sent before any data that waits. Never blocks.

        Returns:
            which of the frames that are sent here it will be, counted from 1.
        Raises:
            TooLarge: the other side could not read it; nothing was queued.
            ResourceExhausted: the queue is full, because the other side does not read; nothing was queued.
            Unavailable: the stream is closed.
        """
        self._check(len(self._control))
        encoded = frame.SerializeToString()
        if (size := len(encoded)) > self.max_message_bytes:
            raise TooLarge(f"a message of {size} bytes is over the receiver's limit of {self.max_message_bytes}")
        self._check_bytes(self._control_bytes, size)
        self._control_bytes += size
        self._control.append(encoded)
        self._bell.ring()
        return self._sent + len(self._control)

    def close(self) -> None:
        """Take nothing more; `run` sends what waits, and then returns."""
        self._closed = True
        self._bell.ring()

    def stop(self) -> None:
        """Take and send nothing more; `run` returns as soon as no frame is on its way."""
        self._stopped = True
        self.close()

    async def run(self) -> None:
        """Send what is put, until `close` and the last frame. When `send` raises, or on cancel, what waits is lost."""
        much = False
        try:
            while True:
                # While much comes, what two turns of the loop bring shares a frame. What comes alone goes at once.
                await self._bell.heard(gathers=much)
                much = self._waiting_items > 1
                while not self._stopped and (frame := self._next()) is not None:
                    # Before it is gone: what is put meanwhile comes after it.
                    self._sent += 1
                    await self._send(frame)
                    much = much or self._waiting_items > 0
                if self._closed:
                    return
        finally:
            self._closed = True

    def admit(self, size: int, waiting: int) -> None:
        """Check that an item of `size` bytes may join a lane in which `waiting` are queued, and count it."""
        # Thousands of times a second, so a check is called only to say what is wrong.
        if self._closed or waiting >= self._max_items:
            self._check(waiting)
        if size + _WRAPPING > self.max_message_bytes:
            raise TooLarge(f"an item of {size} bytes is over the receiver's message limit of {self.max_message_bytes}")
        if self._waiting_bytes + size > self._max_bytes:
            self._check_bytes(self._waiting_bytes, size)
        self._waiting_bytes += size
        self._waiting_items += 1
        if self._waiting_items == 1:
            # Else it is awake: it sends until nothing waits.
            self._bell.ring()

    def release(self, size: int, items: int) -> None:
        """Count so many items, of `size` bytes together, as waiting no more; lanes call it."""
        self._waiting_bytes -= size
        self._waiting_items -= items

    def _check_bytes(self, waiting: int, size: int) -> None:
        if waiting and waiting + size > self._max_bytes:
            raise ResourceExhausted(
                f"{waiting} bytes wait to be sent, and the limit is {self._max_bytes}: the receiver does not read; "
                "end the stream",
                code="STREAM_FULL",
            )

    def _check(self, waiting: int) -> None:
        if self._closed:
            raise Unavailable("the stream has ended; nothing more can be sent on it", code="STREAM_CLOSED")
        if waiting >= self._max_items:
            raise ResourceExhausted(
                f"{waiting} messages wait to be sent, which is the limit: the receiver does not read; end the stream",
                code="STREAM_FULL",
            )

    def _next(self) -> bytes | None:
        if self._control:
            first = self._control.pop(0)
            self._control_bytes -= len(first)
            return first
        if not self._waiting_items:
            return None
        batch_bytes = min(BATCH_BYTES, self.max_message_bytes)
        for _ in range(len(self._lanes)):
            lane = self._lanes.pop(0)
            self._lanes.append(lane)
            if (frame := lane.take(batch_bytes)) is not None:
                return frame
        return None
