"""Benchmarks by name: HARDNEG_DATA, then the cache, then fetched once and checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_folder, scratch_folder, settle
from .errors import DataError, ResourceError, closest


@dataclass(frozen=True)
class Builtin:
    """Where a benchmark lives and how to know it is the right one.

    Attributes:
        summary: one line for a list.
        kind: "interactions" or "triples".
        folders: names it may have under HARDNEG_DATA.
        files: file name to sha256. Files that are lists of items are checked with each line's
            items in numeric order, because copies differ in nothing but that order.
        format: the reader.
        wheel: ("recbole==1.2.1", folder in the wheel), or
        url: the folder of the official address.
        split: the default split where the rule of `load_dataset` serves badly.
    """

    summary: str
    kind: str
    folders: tuple[str, ...]
    files: dict[str, str]
    format: str
    wheel: tuple[str, str] | None = None
    url: str | None = None
    split: str | None = None


_ML = ("recbole==1.2.1", "recbole/dataset_example/ml-100k/")
_KGE = "https://raw.githubusercontent.com/DeepGraphLearning/KnowledgeGraphEmbedding/master/data/"
_ITEM = {
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}

BUILTIN: dict[str, Builtin] = {
    "ml-100k": Builtin(
        "MovieLens: 943 users, 1,682 movies, 100,000 ratings with time and titles",
        "interactions", ("ml-100k",),
        {"ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
         **_ITEM}, "recbole", wheel=_ML,
        # Users rate in one sitting: after a cut in time, 86 % of the test rows are of users
        # without any training row.
        split="LeaveOneOut()",
    ),
    "ml-100k-kg": Builtin(
        "Freebase facts around the movies of ml-100k, with titles",
        "triples", ("ml-100k-kg", "ml-100k"),
        {"ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
         "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
         **_ITEM}, "recbole-kg", wheel=_ML,
    ),
    "gowalla": Builtin(
        "check-ins, split of NGCF and LightGCN: 29,858 users, 40,981 places, 1,027,370 pairs",
        "interactions", ("gowalla",),
        {"train.txt": "0f086326b28a56c2e6dcb81d86ee72d4ccb7eed3a8d26788392356d8f51111cc",
         "test.txt": "95a7e4ee029370c4ccac0d6a0c8cc0615b574ac89642081cdf946090e0dd5bda"},
        "lightgcn",
        url="https://raw.githubusercontent.com/kuandeng/LightGCN/master/Data/gowalla/",
    ),
    "amazon-beauty": Builtin(
        "Amazon Beauty 5-core, ordered: 22,363 users, 12,101 items, 198,502 interactions",
        "interactions", ("amazon-beauty", "amazon-beauty-5core"),
        {"Beauty.txt": "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8"},
        "sequences",
        url="https://raw.githubusercontent.com/salesforce/ICLRec/main/data/",
    ),
    "fb15k-237": Builtin(
        "Freebase without inverse relations: 14,541 entities, 237 relations, 310,116 triples",
        "triples", ("fb15k-237", "FB15k-237"),
        {"train.txt": "6e4c2782169af21e9743f3b1d200886f5d595bf6bc504ec1351720949c5cdfae",
         "valid.txt": "cf6309010852f6a8d47a45df830a426415d1ee6f7a3970a8376ff1fb81db4a5c",
         "test.txt": "5711cf41623ceb4eacc50eb6108a3ca6565c7492e3caaf82a3e355cc660d1574"},
        "triples", url=_KGE + "FB15k-237/",
    ),
    "wn18rr": Builtin(
        "WordNet without inverse relations: 40,943 entities, 11 relations, 93,003 triples",
        "triples", ("wn18rr", "WN18RR"),
        {"train.txt": "038612e783c215ee5f3ca9fbfca27b8d0739be1028fe4ee7c174aecf0b83d5df",
         "valid.txt": "453ce7202afa58094a04d2b1560ee2b02660f1c260b32ce6651c8ccedd1028ab",
         "test.txt": "0383bceaaa1096cf3c03ec021ed0048068e2355dbfc0239b292cefdac821cec5"},
        "triples", url=_KGE + "wn18rr/",
    ),
    "nations": Builtin(
        "relations of 14 countries: 55 relations, 1,992 triples", "triples", ("nations",),
        {"train.txt": "0830fa9da8e5bba2ccdaa45b7bdc9130451ba66b09ff2708f35fccaf82473e57",
         "valid.txt": "2b337a62e51a2f45c283eac98a70d21b7e0e102136be1539b2a52c652a7b0530",
         "test.txt": "3971085165b47b6aeaec68058c6d8d98b3005e929db81268410b95ae4db770ab"},
        "triples", wheel=("pykeen==1.11.1", "pykeen/datasets/nations/"),
    ),
    "umls": Builtin(
        "medical concepts: 135 entities, 46 relations, 6,529 triples", "triples", ("umls",),
        {"train.txt": "873ef4925516b83e7f6f8cc02b4be51d848828710a7f65a956f0ac4a9e452f35",
         "valid.txt": "025c98f8a4891e2a6582ec5b40ee0d904031edad9c52554522f4b7904820c98e",
         "test.txt": "a7eb529a3d2810fcc96341ccc97c625a5e202f8389673aa6bd317eeebbb79014"},
        "triples", wheel=("pykeen==1.11.1", "pykeen/datasets/umls/"),
    ),
    "kinships": Builtin(
        "kinship terms of a tribe: 104 people, 25 relations, 10,686 triples", "triples",
        ("kinships",),
        {"train.txt": "738612111a6acf0e39662bde24c7e72a4d1edf20931beea077da367dda689731",
         "valid.txt": "c56f8630a583178b1e569f11a64aa535ae1ce0b0912d8b1e24716be2b37f04da",
         "test.txt": "05e5733265761d55be9c05bfaff5a8d0808df46f9c1e9d66cc3f2fe114e43d88"},
        "triples", wheel=("pykeen==1.11.1", "pykeen/datasets/kinships/"),
    ),
}  # fmt: skip


def locate(name: str) -> Path | None:
    """Return the folder of a benchmark that is already on this machine, else None."""
    return next((f for f in _places(name) if _complete(f, BUILTIN[name])), None)


def _places(name: str) -> list[Path]:
    places = []
    if root := os.environ.get("HARDNEG_DATA"):
        places += [Path(root) / folder for folder in BUILTIN[name].folders]
    return [*places, cache_folder() / "sources" / name]


def _complete(folder: Path, spec: Builtin) -> bool:
    return all((folder / file).is_file() for file in spec.files)


def fetch(name: str) -> Path:
    """Return the benchmark's file or folder, fetching it on first use."""
    if name not in BUILTIN:
        raise DataError(f"no built-in dataset {name!r}; {closest(name, BUILTIN)}")
    spec = BUILTIN[name]
    folder = locate(name)
    if folder is None:
        with scratch_folder() as scratch:
            new = scratch / name
            new.mkdir()
            try:
                _from_wheel(spec, new) if spec.wheel else _from_web(spec, new)
            except (OSError, urllib.error.URLError) as error:
                raise _unreachable(name, str(getattr(error, "reason", error))) from error
            _check(new, spec)
            folder = settle(new, cache_folder() / "sources" / name)
    first = next(iter(spec.files))
    return folder if len(spec.files) > 1 and not spec.format.startswith("recbole") else (
        folder / first
    )  # fmt: skip


def _unreachable(name: str, reason: str) -> DataError:
    spec = BUILTIN[name]
    address = spec.url or (spec.wheel and f"pip download {spec.wheel[0]}")
    looked = ", ".join(str(place) for place in _places(name))
    return DataError(
        f"{name} is not in {looked} and cannot be fetched ({address}: {reason}); put "
        f"{', '.join(spec.files)} into a folder {spec.folders[0]}/ and set HARDNEG_DATA to its "
        "parent, or connect to the network"
    )


def _from_wheel(spec: Builtin, folder: Path) -> None:
    assert spec.wheel is not None
    requirement, member = spec.wheel
    with tempfile.TemporaryDirectory(dir=folder.parent) as down:
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
            "--ignore-requires-python", "--disable-pip-version-check", "--quiet", "--dest", down,
            requirement,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(down).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
            raise OSError(lines[-1].strip())
        with zipfile.ZipFile(wheels[0]) as archive:
            for file in spec.files:
                with archive.open(member + file) as found, (folder / file).open("wb") as out:
                    shutil.copyfileobj(found, out)


def _from_web(spec: Builtin, folder: Path) -> None:
    assert spec.url is not None
    for file in spec.files:
        address = spec.url + file
        with (
            urllib.request.urlopen(address, timeout=30) as answer,
            (folder / file).open("wb") as out,
        ):
            shutil.copyfileobj(answer, out)


def checksum(path: Path, lists: bool = False) -> str:
    """Return sha256 of a file; with `lists`, of its lines with the items in numeric order."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        if not lists:
            return hashlib.file_digest(file, "sha256").hexdigest()
        for line in file:
            user, *items = line.split()
            total.update(b" ".join([user, *sorted(items, key=int)]) + b"\n")
    return total.hexdigest()


def _check(folder: Path, spec: Builtin) -> None:
    for file, expected in spec.files.items():
        try:
            found = checksum(folder / file, spec.format == "lightgcn")
        except ValueError:
            found = "not a list of items"
        if found != expected:
            raise ResourceError(
                f"{file} was fetched but its checksum is {found[:16]}, expected {expected[:16]}; "
                "try again, or put the right file under HARDNEG_DATA"
            )
