"""What has arrived and is not appended yet: in order for each backend, and fair between them."""

from collections import OrderedDict, deque
from collections.abc import Iterable

from osmo_transport import Incoming


class Backlog:
    """Batches in the order of arrival within a backend; the backends take turns, a batch each, so
    that one which reports much holds up no other. One over its quota has one turn in a group."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Incoming]] = OrderedDict()
        self.size = 0
        """Bytes of all of it."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, arrived: Iterable[Incoming]) -> None:
        """Take in what has arrived."""
        for incoming in arrived:
            self._lines.setdefault(incoming.producer.backend, deque()).append(incoming)
            self.size += incoming.size

    def take(self, messages: int, size: int) -> list[Incoming]:
        """The next group: of at most `messages` messages and `size` bytes, or one batch that is
        larger."""
        group: list[Incoming] = []
        slowed: set[str] = set()
        while self._lines:
            backend, line = next(iter(self._lines.items()))
            if backend in slowed:
                break  # everybody has had a turn since, and this group is to be a short one
            first = line[0]
            messages -= len(first.encoded)
            size -= first.size
            if group and (messages < 0 or size < 0):
                break
            group.append(line.popleft())
            self.size -= first.size
            if first.slowed:
                slowed.add(backend)
            if line:
                self._lines.move_to_end(backend)
            else:
                del self._lines[backend]
        return group
