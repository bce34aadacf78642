"""The event file, read back by a reader of its own; and by TensorBoard where it is installed."""

import struct

import pytest

from hardneg.datasets.errors import ResourceError
from hardneg.engine.events import FILE, append_events, crc32c, scalars, write_events
from hardneg.engine.history import append_metrics, cut_metrics

LINE = {
    "split": "valid",
    "epoch": 3,
    "step": 300,
    "loss": 0.25,
    "MRR/head": 0.5,
    "radar": {"gap": 1.5, "corrects": True},
    "seconds": 9.0,
}
POINTS = {"valid/loss": 0.25, "valid/MRR/head": 0.5, "radar/gap": 1.5}


def fields(data):
    """Yield (number, value) of a message: bytes, or an int for a varint."""

    def varint(at):
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 0x80:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            value, at = varint(at)
            yield key >> 3, value
            continue
        if size is None:
            size, at = varint(at)
        yield key >> 3, data[at : at + size]
        at += size


def read(path):
    """Return [(step, {name: value})] of every event that has a summary, checking checksums."""

    def unmask(crc):
        crc = (crc - 0xA282EAD8) & 0xFFFFFFFF
        return (crc >> 17 | crc << 15) & 0xFFFFFFFF

    data, found = path.read_bytes(), []
    while data:
        length, crc = struct.unpack_from("<QI", data)
        assert unmask(crc) == crc32c(data[:8])
        message = data[12 : 12 + length]
        assert unmask(struct.unpack_from("<I", data, 12 + length)[0]) == crc32c(message)
        data = data[16 + length :]
        event = dict(fields(message))
        assert struct.unpack("<d", event[1])[0] > 1.7e9
        if 3 in event:
            assert event[3] == b"brain.Event:2"
        if 5 in event:
            values = [dict(fields(v)) for _, v in fields(event[5])]
            points = {v[1].decode(): struct.unpack("<f", v[2])[0] for v in values}
            found.append((event[2], points))
    return found


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_curves_are_numbers_by_split_and_radar():
    assert dict(scalars(LINE)) == POINTS


def test_what_is_written_is_read_back(tmp_path):
    append_events(tmp_path, LINE)
    append_events(tmp_path, {**LINE, "step": 70_000, "loss": 0.125})
    assert read(tmp_path / FILE) == [(300, POINTS), (70_000, {**POINTS, "valid/loss": 0.125})]


def test_cutting_metrics_cuts_the_events_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (0, 100, 200):
        append_metrics(path, {**LINE, "step": step})
    cut_metrics(path, 100)
    append_metrics(path, {**LINE, "step": 200, "loss": 0.5})
    assert [(s, p["valid/loss"]) for s, p in read(tmp_path / FILE)] == [
        (0, 0.25), (100, 0.25), (200, 0.5)
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    write_events(tmp_path, [])
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(ResourceError, match=r"cannot write .*free some space"):
        append_events(tmp_path, LINE)


def test_tensorboard_reads_it(tmp_path):
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    append_events(tmp_path, LINE)
    found = board.EventAccumulator(str(tmp_path))
    found.Reload()
    assert {n: found.Scalars(n)[0].value for n in found.Tags()["scalars"]} == POINTS
