"""What a study found, as tables or JSON."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from ..engine.console import emit, output, show_metrics, show_table
from ..engine.metrics import higher_is_better
from .evidence import Evidence, is_pruned
from .finalists import winner
from .learned import learned, show_learned
from .live import settings
from .rungs import is_allowed
from .study import Study

MOST = 20  # trials in a terminal; the page has them all
WIDE = 4  # arguments that get a column of their own


def show_study(study: Study, as_json: bool) -> None:
    """Print the trials, best first, the Pareto front, the finalists and the test figures."""
    rows = trial_rows(study)
    if as_json:
        found: dict[str, Any] = {"study": str(study.folder), "trials": rows}
        found["pareto"] = pareto(study)
        found |= {"finalists": list(study.finalists), "test": study.test}
        emit(found | learned(Evidence.of(study.folder, study.record)))
        return
    show_table(shown_rows(study))
    everything = study.record.get_trials(deepcopy=False)
    pruned = sum(map(is_pruned, everything))
    over = sum(bool(row.get("over limit")) for row in rows)
    others = len(everything) - len(rows) - pruned
    output().print(
        f"{len(rows)} of {len(everything)} trials finished, {pruned} were pruned"
        + (f", {over} of the finished are over a limit and cannot win" if over else "")
        + (", the others were skipped or failed" if others else "")
        + (f"; the best {MOST} are shown" if len(rows) > MOST else "")
    )
    front = pareto(study)
    if front:
        output().print(f"Pareto front: trials {', '.join(map(str, front))}")
    if study.finalists:
        metric = study.best.recipe.metric
        show_table(finalist_rows(study), f"finalists, {metric} on test")
        output().print(
            f"best.toml is the recipe of trial {winner(metric, study.finalists)['trial']}, the "
            "finalist that is best on validation when trained anew"
        )
    else:
        show_metrics(study.test, f"test of the best trial ({study.best.folder})")
    show_learned(Evidence.of(study.folder, study.record))


def trial_rows(study: Study) -> list[dict[str, Any]]:
    """Return the finished trials, best first.

    Those on more of the data stand before the others; those over a limit, which cannot win, last.
    """
    metric = study.best.recipe.metric
    sign = -1 if higher_is_better(metric) else 1
    parts = {
        t.number: float(t.user_attrs.get("share", 1.0)) for t in study.record.get_trials(False)
    }
    done = study.record.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    several = len({t.user_attrs.get("family") for t in done}) > 1
    limited = not all(map(is_allowed, done))
    rows = []
    for trial in sorted(
        done, key=lambda t: (not is_allowed(t), -parts[t.number], sign * (t.values or [0.0])[0])
    ):
        values = trial.values or [0.0]
        row: dict[str, Any] = {"trial": trial.number, metric: values[0]}
        if limited:
            over = [name for name, excess in trial.constraints.items() if excess > 0]
            row["over limit"] = ", ".join(over)
        if min(parts.values()) < 1:
            row["share"] = parts[trial.number]
        if several:
            row["family"] = trial.user_attrs.get("family")
        if len(values) > 1:
            cost = trial.user_attrs.get("cost", {})
            row |= {name: cost.get(name) for name in ("seconds", "memory")}
        rows.append({**row, **trial.params})
    return rows


def shown_rows(study: Study) -> list[dict[str, Any]]:
    """Return the rows for a terminal: the best, many arguments in one column, memory in MB."""
    rows = trial_rows(study)[:MOST]
    names = dict.fromkeys(name for row in rows for name in row if "." in name)
    asked = Evidence.of(study.folder, study.record).objectives
    found = []
    for row in rows:
        line = {k: v for k, v in row.items() if k not in names}
        if "memory" in line:
            memory = line.pop("memory")
            line |= {"memory MB": memory and memory / 1e6} if "memory" in asked else {}
        own = {k: v for k, v in row.items() if k in names}
        found.append(line | (own if len(names) <= WIDE else {"settings": settings(own)}))
    return found


def pareto(study: Study) -> list[int]:
    """Return the numbers of the trials that no other beats in every objective."""
    if len(study.record.directions) < 2:
        return []
    return [trial.number for trial in study.record.best_trials]


def finalist_rows(study: Study) -> list[dict[str, Any]]:
    """Return a line for each finalist."""
    found = []
    for row in study.finalists:
        spread = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
        line = {
            "trial": row["trial"],
            "family": row["family"],
            "settings": settings(row["params"]),
            "test": f"{row['test']:.4f}{spread}",
            "optimism": row["optimism"],
        }
        if "p" in row:
            line["against uniform"] = f"{row['difference']:+.4f}"
            line["95%"] = f"{row['low']:+.4f} to {row['high']:+.4f}"
            line["p (Holm)"] = row["p"]
        elif row["baseline"]:
            line["against uniform"] = "baseline"
        found.append(line)
    return found
