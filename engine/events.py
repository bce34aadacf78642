"""A run's figures as TensorBoard reads them, written without TensorBoard.

An event file is a row of records: length (8 bytes), its checksum, a message, its checksum. The
message is a protocol buffer `Event` of which three fields are used.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..datasets.atomic import atomic_path
from ..datasets.errors import ResourceError

FILE = "events.out.tfevents.0.hardneg"  # TensorBoard looks for "tfevents"
PLAIN = ("epoch", "step", "seconds")  # axes, no curves
_REVERSED = 0x82F63B78  # the polynomial of CRC-32C


def write_events(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write all lines of a run anew: a resumed run has cut some off and repeats none."""
    now, last = time.time(), max((x.get("seconds", 0.0) for x in history), default=0.0)
    records = [_record(_field(1, 1, struct.pack("<d", now)) + _text(3, b"brain.Event:2"))]
    records += [event(line, now - last + line.get("seconds", last)) for line in history]
    with atomic_path(folder / FILE) as temporary:
        temporary.write_bytes(b"".join(records))


def append_events(folder: Path, line: dict[str, Any]) -> None:
    """Add one line of metrics; a full disk is a `ResourceError`."""
    path = folder / FILE
    if not path.exists():
        write_events(folder, [])
    try:
        with path.open("ab") as file:
            file.write(event(line, time.time()))
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}; free some space") from None


def event(line: dict[str, Any], when: float) -> bytes:
    """Return the record of a line: every number in it, as ``valid/...``, at its step."""
    summary = b"".join(
        _text(1, _text(1, name.encode()) + _field(2, 5, struct.pack("<f", value)))
        for name, value in scalars(line)
    )
    head = _field(1, 1, struct.pack("<d", when)) + _field(2, 0, _varint(int(line["step"])))
    return _record(head + _text(5, summary))


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the curves a line of metrics has a point of, by name."""
    for name, value in line.items():
        if isinstance(value, dict):
            found = scalars(value)
            yield from ((f"{name}/{inner.rpartition('/')[2]}", v) for inner, v in found)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name not in PLAIN:
            yield f"{line.get('split', '')}/{name}", float(value)


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_REVERSED if byte & 1 else 0)
    return byte


_TABLE = [_table_entry(byte) for byte in range(256)]


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, kind: int, payload: bytes) -> bytes:
    return _varint(number << 3 | kind) + payload


def _text(number: int, payload: bytes) -> bytes:
    return _field(number, 2, _varint(len(payload)) + payload)
