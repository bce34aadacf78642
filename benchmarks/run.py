"""`make bench`: ours beside the peers, in turns, on the same data; a table and results.json.

python -P benchmarks/run.py [--only rotate-step-own ...] [--device cuda] [--quick]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from bench import report  # noqa: E402
from bench.rows import Row, all_rows  # noqa: E402
from bench.suite import Suite  # noqa: E402

from hardneg.datasets.errors import UsageError, closest  # noqa: E402
from hardneg.engine.job import choose_device  # noqa: E402
from hardneg.engine.machine import cores  # noqa: E402


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    say = parser.add_argument
    say("--only", nargs="+", default=[], help="names of rows, or patterns such as 'rotate-*'")
    say("--device", default="cpu", choices=["cpu", "cuda"])
    say("--threads", type=int, default=cores(), help="of every side")
    say("--pairs", type=int, help="at most this many pairs a comparison")
    say("--seconds", type=float, default=300.0, help="no new pair of a comparison after these")
    say("--rows", type=int, help="rows of the log that is read (default 20 million)")
    say("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    say("--no-peers", action="store_true", help="ours alone")
    say("--table", action="store_true", help="print what was measured as Markdown and stop")
    say("--list", action="store_true", help="name the rows and stop")
    say("--out", type=Path, help="the file to write")
    return parser.parse_args(words)


def chosen(patterns: list[str]) -> list[Row]:
    """Return the rows asked for, all of them when nothing is."""
    rows = all_rows()
    if not patterns:
        return rows
    names = [row.name for row in rows]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"no row {pattern!r}; {closest(pattern, names)}")
    return [row for row in rows if any(fnmatch.fnmatch(row.name, p) for p in patterns)]


def place(options: argparse.Namespace) -> Path:
    """Return the file to write: quick figures never replace real ones."""
    if options.out is not None:
        return Path(options.out)
    suffix = "-quick" if options.quick else "" if options.device == "cpu" else "-cuda"
    return HERE / f"results{suffix}.json"


def main(words: list[str] | None = None) -> int:
    """Measure, write after every row, print the table."""
    options = arguments(words)
    try:
        rows = chosen(options.only)
        choose_device(options.device)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        for row in rows:
            print(f"{row.name:<24} {row.job}")
        return 0
    if options.table:
        print(report.markdown(json.loads(place(options).read_text())["rows"]))
        return 0
    about = report.machine(options.device, options.threads)
    results: list[dict[str, object]] = []
    scratch = HERE / ".work"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        suite = Suite(
            Path(folder), options.device, options.threads, options.quick, not options.no_peers,
            options.pairs, options.seconds, say=lambda text: print(text, flush=True),
            overrides={} if options.rows is None else {"rows": options.rows},
        )  # fmt: skip
        about["floor"] = suite.floor()
        for result in suite.run(rows):
            results.append(result)
            report.write(place(options), report.merged(place(options), about, results))
    report.show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
