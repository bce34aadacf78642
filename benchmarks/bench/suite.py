"""Runs rows: prepares data, starts both sides, lets them take turns, says what came out."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import data
from .environments import HERE, NoEnvironment, interpreter
from .growth import growth
from .pairs import described, interleave, meets, ratio, scaled
from .rows import RECIPES, THEIRS, Peer, Row
from .side import Side, SideError

Answers = list[dict[str, Any]]


@dataclass
class Suite:
    """One run of the suite.

    Attributes:
        work: a scratch folder for data and logs.
        device: "cpu" or "cuda".
        threads: of every side.
        quick: tiny sizes.
        peers: whether peers are started at all.
        seconds: a comparison begins no pair after this many.
        limit: seconds after which an answer is given up.
        overrides: options that replace a row's, such as the rows of the log.
        say: told what happens.
    """

    work: Path
    device: str = "cpu"
    threads: int = 1
    quick: bool = False
    peers: bool = True
    pairs: int | None = None
    seconds: float = 300.0
    limit: float = 6 * 3600.0
    overrides: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    _best: dict[str, float] = field(default_factory=dict)

    def run(self, rows: list[Row]) -> Iterator[dict[str, Any]]:
        """Yield one result for each comparison; what cannot be measured says why."""
        self.work.mkdir(parents=True, exist_ok=True)
        with self._side(
            interpreter(""), "bench.ours.floor:floor", self._common(), "floor"
        ) as floor:
            floor.answer(self.limit)
            for row in rows:
                self.say(f"{row.name} ...")
                try:
                    yield from self._row(row, floor)
                except (SideError, OSError, ValueError) as error:
                    self._keep(traceback.format_exc())
                    yield self._failed(row, f"ours: {error}")

    def floor(self) -> dict[str, float]:
        """Return what the machine reaches now."""
        with self._side(interpreter(""), "bench.ours.floor:floor", self._common(), "floor") as side:
            side.answer(self.limit)
            return self._rates(side)

    def _rates(self, floor: Side) -> dict[str, float]:
        """Return the best rates seen so far: what others do on the machine is no floor."""
        for name, rate in floor.go(self.limit)["amounts"].items():
            self._best[name] = max(rate, self._best.get(name, 0.0))
        return dict(self._best)

    # ---- one row --------------------------------------------------------------------------------

    def _row(self, row: Row, floor: Side) -> Iterator[dict[str, Any]]:
        options = self._options(row)
        if self.device not in row.devices:
            yield self._failed(row, f"computes on {', '.join(row.devices)} only")
            return
        folder = self._data(row, options)
        real = bool(folder) and (self._meta(folder).get("real", False))
        if row.needs_data and not real and not self.quick:
            yield self._failed(row, f"needs the real {row.data}: set HARDNEG_DATA")
            return
        options["folder"] = folder
        about = {**self._about(row, options), "real_data": real}
        if row.axes:
            yield {**about, **growth(self, row, options)}
            return
        with self._side(interpreter(""), row.place, self._ours(row, options), row.name) as ours:
            ready = ours.answer(self.limit)
            if row.warm:
                ours.go(self.limit)
            peers = row.peers if self.peers else ()
            rates = self._rates(floor) if ready["amounts"] else {}
            for peer in peers:
                yield {**about, **self._against(row, peer, options, ours, ready, rates)}
            if not peers:
                answers = [ours.go(self.limit) for _ in range(self._pairs(row))]
                yield {**about, **self._alone(row, ready, answers, rates)}

    def _against(
        self, row: Row, peer: Peer, options: dict[str, Any], ours: Side, ready: dict[str, Any],
        rates: dict[str, float],
    ) -> dict[str, Any]:  # fmt: skip
        """Return the comparison with one peer, or why there is none."""
        told = {**options, **peer.options, **(peer.quick if self.quick else {})}
        try:
            if self.device not in peer.devices:
                raise NoEnvironment(f"{peer.name} computes on {', '.join(peer.devices)} only")
            python = interpreter(peer.environment)
            with self._side(python, f"{THEIRS}.{peer.place}", told, row.name) as theirs:
                there = theirs.answer(self.limit)
                if row.warm:
                    theirs.go(self.limit)
                pairs = interleave(
                    ours, theirs, pairs=self._pairs(row), seconds=self.seconds, limit=self.limit
                )
        except (NoEnvironment, SideError, OSError) as error:
            self.say(f"  {peer.name}: {error}")
            return {"peer": peer.name, "error": str(error)}
        mine, other = [a for a, _ in pairs], [b for _, b in pairs]
        found = ratio(scaled(ready, mine), scaled(there, other))
        result = {
            **self._alone(row, ready, mine, rates),
            "peer": peer.name,
            "theirs": described(there, other),
            "pairs": len(pairs),
            "ratio": found,
            "target": peer.target,
            "memory_target": peer.memory,
        }
        result["target_met"] = meets(found, peer.target, result["ours"])
        result |= _memory(result["ours"], result["theirs"], peer.memory)
        self.say(f"  {peer.name}: {found['median']:.1f}x")
        return result

    def _alone(
        self, row: Row, ready: dict[str, Any], answers: Answers, rates: dict[str, float]
    ) -> dict[str, Any]:
        """Return what is said about our side: its seconds, and how near the floor it comes."""
        ours = described(ready, answers)
        seconds = ours["seconds"]["median"]
        shares = {k: v / rates[k] / seconds for k, v in ready["amounts"].items() if rates.get(k)}
        return {"ours": ours, "pairs": len(answers), "floor": shares, "floor_rates": rates,
                "floor_target": row.floor}  # fmt: skip

    # ---- parts ----------------------------------------------------------------------------------

    def _pairs(self, row: Row) -> int:
        return row.pairs if self.pairs is None else min(self.pairs, row.pairs)

    def _common(self) -> dict[str, Any]:
        return {"device": self.device, "threads": self.threads, "quick": self.quick}

    def _options(self, row: Row) -> dict[str, Any]:
        found = {**self._common(), **row.options, **(row.quick if self.quick else {})}
        found |= {key: value for key, value in self.overrides.items() if key in found}
        return found

    def _ours(self, row: Row, options: dict[str, Any]) -> dict[str, Any]:
        told = dict(options)
        if isinstance(told.get("recipe"), str):
            told["recipe"] = str(HERE / RECIPES / told["recipe"])
            if not self.quick:  # the recipe's own data, split as it says
                told["folder"] = ""
        return told

    def _data(self, row: Row, options: dict[str, Any]) -> str:
        if not row.data:
            return ""
        if row.data != "log":
            return str(data.prepare(row.data, self.work / "data", quick=self.quick))
        folder = self.work / "data" / f"log-{options['rows']}"
        place = folder / "log"
        if not place.exists():
            place.mkdir(parents=True)
            for name, separator, header in (
                ("log.csv", ",", "user_id,item_id,timestamp"),
                ("log.inter", "\t", "user_id:token\titem_id:token\ttimestamp:float"),
            ):
                data.log_csv(
                    place / name, options["rows"], users=200_000, items=50_000,
                    separator=separator, header=header,
                )  # fmt: skip
        return str(folder)

    def _meta(self, folder: str) -> dict[str, Any]:
        meta = Path(folder) / "meta.json"
        found: dict[str, Any] = json.loads(meta.read_text()) if meta.exists() else {}
        return found

    def _side(self, python: Path, place: str, options: dict[str, Any], name: str) -> Side:
        return Side(python, place, options, self.work / f"{name}.log")

    def _about(self, row: Row, options: dict[str, Any]) -> dict[str, Any]:
        job = row.job.format(**options) if "{" in row.job else row.job
        return {"row": row.name, "job": job, "unit": row.unit, "data": row.data, "peer": None}

    def _failed(self, row: Row, reason: str) -> dict[str, Any]:
        self.say(f"  {row.name}: {reason}")
        return {**self._about(row, self._options(row)), "error": reason}

    def _keep(self, text: str) -> None:
        with (self.work / "driver.log").open("a") as file:
            file.write(text)


def _memory(ours: dict[str, Any], theirs: dict[str, Any], target: float | None) -> dict[str, Any]:
    """Compare the peaks: on a device what its tensors took, else of the whole processes."""
    for key in ("device_peak_bytes", "peak_bytes"):
        if ours[key] and theirs[key]:
            share = ours[key] / theirs[key]
            return {"memory_ratio": share, "memory_of": key,
                    "memory_met": None if target is None else share <= target}  # fmt: skip
    return {"memory_ratio": None, "memory_of": None, "memory_met": None}
