"""What joins one process of a service to the others: the message queue, and the stream of a history that they share."""

from __future__ import annotations

from collections.abc import Callable

from .backend.bridge import Events
from .delivery.inlet import Inlet
from .delivery.messages import BACKEND, EVENT, Message
from .delivery.publisher import Publisher
from .delivery.queue import Bus
from .delivery.stream import Receiver, Stream
from .membership.keeping import Keeping
from .metrics import Metrics
from .settings import Settings


class Links:
    """The queue and the stream of one app, where it has them.

    What comes by them goes to the publisher, and a 3D Repo backend's to `events`, once they are connected.

    Where there is a stream everything of the processes goes by it, and the queue brings what programs outside publish.
    `missed` is told where something did not arrive.
    """

    def __init__(self, settings: Settings, metrics: Metrics, keeping: Keeping, missed: Callable[[], None]) -> None:
        keeping.connect(Receiver(self._receive, self._recall, missed))
        self.stream: Stream | None = keeping.stream
        self.inlet: Inlet | None = keeping.inlet
        self.bus: Bus | None = None
        if settings.message_queue is not None:
            channel = settings.message_queue_channel
            self.bus = Bus(settings.message_queue, channel, self._hear, metrics, missed=missed)

    def connect(self, publisher: Publisher, events: Events) -> None:
        """Have what comes carried out by these."""
        self.publisher, self.events = publisher, events

    def _receive(self, message: Message) -> None:
        if message.kind == BACKEND:
            self.events.receive(message.content)
        else:
            self.publisher.receive(message)

    def _recall(self, message: Message, at: float) -> None:
        if message.kind == BACKEND:
            self.events.recall(message.content, at)
        else:
            self.publisher.recall(message, at)

    def _hear(self, message: Message) -> None:
        if self.stream is not None and message.kind == EVENT:
            self.stream.offer(message)
        else:
            self.publisher.receive(message)
