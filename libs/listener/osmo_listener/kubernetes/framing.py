"""Takes events out of a watch's stream, whose pieces begin and end anywhere."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

_LENGTH_BYTES = 4


class Pieces:
    """Holds what has arrived of what is not complete."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self.size = 0
        """Bytes held."""

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self.size += len(piece)

    def _take(self, rest: bytes = b"") -> bytes:
        """All that is held; then `rest` is held."""
        data = b"".join(self._held)
        # Without an empty one beside it, the next piece is joined without being copied.
        self._held = [rest] if rest else []
        self.size = len(rest)
        return data


class Framer(Pieces, ABC):
    """Takes events out of a stream; what it holds is of the event that is not complete."""

    @abstractmethod
    def completes(self, pieces: Sequence[bytes]) -> bool:
        """Whether these pieces may complete an event; if not, they need not be fed yet."""

    @abstractmethod
    def feed(self, piece: bytes) -> Sequence[bytes]:
        """The events that this piece completes, in their order."""


class LineFramer(Framer):
    """Each event is a line; empty ones are none."""

    def completes(self, pieces: Sequence[bytes]) -> bool:
        return any(b"\n" in piece for piece in pieces)

    def feed(self, piece: bytes) -> Sequence[bytes]:
        self._hold(piece)
        if b"\n" not in piece:
            return ()
        data = self._take()
        lines: list[bytes] = []
        begin = 0
        # `split` looks at one byte after the other, and takes ten times as long for long lines.
        while (end := data.find(b"\n", begin)) >= 0:
            if end > begin:
                lines.append(data[begin:end])
            begin = end + 1
        self._take(data[begin:])
        return lines


class LengthFramer(Framer):
    """Before each event stands its length, in four bytes, the highest first (client-go's
    `LengthDelimitedFramer`)."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted = _LENGTH_BYTES

    def completes(self, pieces: Sequence[bytes]) -> bool:
        wanted, size = self._wanted, self.size
        for piece in pieces:
            size += len(piece)
        if not self.size and size >= _LENGTH_BYTES:
            wanted = _LENGTH_BYTES + int.from_bytes(pieces[0][:_LENGTH_BYTES])
        return size >= wanted

    def feed(self, piece: bytes) -> Sequence[bytes]:
        self._hold(piece)
        if self.size < self._wanted:
            return ()
        data = self._take()
        frames: list[bytes] = []
        begin = 0
        while True:
            self._wanted = _LENGTH_BYTES
            body = begin + _LENGTH_BYTES
            if body > len(data):
                break
            length = int.from_bytes(data[begin:body])
            if body + length > len(data):
                self._wanted = _LENGTH_BYTES + length
                break
            frames.append(data[body : body + length])
            begin = body + length
        self._take(data[begin:])
        return frames
