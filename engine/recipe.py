"""A recipe: everything that makes a run, in one flat file that says what it means.

Read from TOML, checked field by field, written back resolved: the file in a run folder is what ran.
"""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..datasets.errors import UsageError, closest
from . import components, metrics
from .components import Expression
from .losses.base import Loss

EXPRESSIONS = {
    "model": "model",
    "negatives": "negatives",
    "batches": "batches",
    "loss": "loss",
    "terms": "term",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "split": "split",
}

# What a task trains with when the recipe is silent: a start, not tuned for any one data set.
DEFAULTS: dict[str, dict[str, Any]] = {
    "interactions": {
        "negatives": "Uniform(1024)",
        "loss": "SampledSoftmax()",
        "optimizer": "Adam(lr=0.01)",
        "schedule": "Constant()",
        "batch_size": 4096,
        "epochs": 60,
        "metric": "NDCG@10",
    },
    "sequences": {
        "negatives": "Uniform(1024)",
        "loss": "SampledSoftmax()",
        "optimizer": "Adam(lr=0.004)",
        "schedule": "Cosine(warmup=0.05, final=0.02)",
        "batch_size": 128,
        "epochs": 40,
        "metric": "NDCG@10",
    },
    "triples": {
        "negatives": "Uniform(256, pools=8) | SelfAdversarial(1.0)",
        "loss": "Logistic()",
        "optimizer": "Adam(lr=0.002)",
        "schedule": "Cosine(warmup=0.0, final=0.01)",
        "batch_size": 1024,
        "epochs": 100,
        "metric": "MRR",
    },
}
METRICS = {
    "interactions": ["Recall@10", "NDCG@10", "Recall@20", "NDCG@20", "HitRate@10", "MRR@10"],
    "sequences": ["Recall@10", "NDCG@10", "Recall@20", "NDCG@20", "MRR@10"],
    "triples": ["MRR", "MR", "Hits@1", "Hits@3", "Hits@10"],
}


OPTIONS = ("out", "quiet", "json")  # no settings, though easily taken for one


class Recipe(BaseModel):
    """The fields of a recipe. Expressions are kept as text and parsed by `components`."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    # what is trained, on what
    model: str
    dataset: str
    # how the data are read
    format: str | None = None
    columns: dict[str, str | int] = Field(default_factory=dict)
    split: str | None = None
    min_user: Annotated[int, Field(ge=0)] = 0
    min_item: Annotated[int, Field(ge=0)] = 0
    min_rating: float | None = None
    duplicates: Literal["keep-first", "keep-last", "keep-all", "error"] = "keep-first"
    # how it learns
    negatives: str = ""
    loss: str = ""
    terms: str = ""
    batches: str = ""
    start_from: str = ""
    freeze: Literal["", "items", "entities"] = ""
    optimizer: str = ""
    schedule: str = ""
    batch_size: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=0)] = 1
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    subsampling: bool = True
    sides: Literal["alternate", "bernoulli"] = "alternate"
    # how it is judged
    metric: str = ""
    metrics: list[str] = Field(default_factory=list)
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    evaluate_limit: Annotated[int, Field(ge=0)] = 0
    patience: Annotated[int, Field(ge=0)] = 10
    radar: bool = True
    log: str = ""
    # where and when
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @field_validator("metrics", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Read ``"Recall@10, MRR@10"``, as a command line writes it."""
        return [n.strip() for n in value.split(",") if n.strip()] if type(value) is str else value

    def expression(self, field: str) -> Expression:
        """Parse one of the expression fields; one that is left out has no stages."""
        text = getattr(self, field)
        return components.parse(text, field) if text else ()

    def to_toml(self) -> str:
        """Write every field, one per line; `None` fields are left out."""
        lines = []
        for name, value in self.model_dump().items():
            if value is None or (name == "columns" and not value):
                continue
            if isinstance(value, dict):
                inner = ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items())
                lines.append(f"{name} = {{ {inner} }}")
            else:
                lines.append(f"{name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write a plain value; JSON is TOML but for the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(path: Path) -> dict[str, Any]:
    """Read a recipe file into plain fields, unchecked."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def resolve(fields: dict[str, Any], overrides: dict[str, Any] | None = None) -> Recipe:
    """Check fields, apply ``model.dim``-like overrides and fill in what the task defaults to."""
    overrides = overrides or {}
    fields = {name: value for name, value in fields.items() if name != "space"}  # for studies
    if isinstance(overrides.get("columns"), dict):  # one more column, not instead of the others
        overrides = overrides | {"columns": {**fields.get("columns", {}), **overrides["columns"]}}
    fields = fields | {name: value for name, value in overrides.items() if "." not in name}
    recipe = _with_defaults(fields)
    for path, value in overrides.items():
        if "." in path:
            _set_argument(recipe, path, value)
    asked = fields.get("negatives") or any(path.startswith("negatives.") for path in overrides)
    if not asked and not samples(recipe):
        recipe.negatives = ""  # the task's default would only look as if it were used
    for field, role in EXPRESSIONS.items():
        if getattr(recipe, field):
            stages = [components.normalise(s, role, field) for s in recipe.expression(field)]
            setattr(recipe, field, components.show(tuple(stages)))
    return recipe


def samples(recipe: Recipe) -> bool:
    """Say whether the loss is one that sampled negatives go to."""
    return any(
        issubclass(components.find(stage, "loss", "loss"), Loss)
        for stage in recipe.expression("loss")
    )


def _with_defaults(fields: dict[str, Any]) -> Recipe:
    """Fill unset fields with the defaults of the model's task."""
    for required, example in (("model", "LightGCN"), ("dataset", "ml-100k")):
        if not fields.get(required):
            raise UsageError(f"{required} is missing; give one, e.g. {required}={example}")
    bare = check({"model": fields["model"], "dataset": fields["dataset"]})
    model = bare.expression("model")
    if len(model) != 1:
        raise UsageError(f"model = {fields['model']!r} has {len(model)} stages; give one model")
    task = components.find(model[0], "model", "model").task  # type: ignore[attr-defined]
    given = {name: value for name, value in fields.items() if value not in ("", None)}
    recipe = check({**DEFAULTS[task], **given})
    recipe.metric = metrics.parse(recipe.metric).name
    recipe.metrics = [metrics.parse(name).name for name in recipe.metrics or METRICS[task]]
    if recipe.metric not in recipe.metrics:
        recipe.metrics = [recipe.metric, *recipe.metrics]
    return recipe


def _set_argument(recipe: Recipe, path: str, value: Any) -> None:
    """Set ``model.dim`` and the like."""
    field, _, rest = path.partition(".")
    if field not in EXPRESSIONS:
        raise UsageError(f"{path}: {field!r} has no arguments; {closest(field, EXPRESSIONS)}")
    expression = recipe.expression(field)
    changed = components.override(expression, rest, value, EXPRESSIONS[field], field)
    setattr(recipe, field, components.show(changed))


def check(fields: dict[str, Any]) -> Recipe:
    """Check names and types of fields; nothing is filled in."""
    for name in fields:
        if name not in Recipe.model_fields:
            raise UsageError(f"unknown setting {name!r}; {closest(name, Recipe.model_fields)}")
    try:
        return Recipe(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{place} = {first['input']!r}: {first['msg'].lower()}") from None


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """Read ``key=value`` words; values are TOML or Python literals, or else plain text.

    ``columns.user=who`` says one column at a time.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{word!r} is not key=value, e.g. epochs=20 or model.dim=128")
        if key in OPTIONS:
            raise UsageError(f"{word!r}: {key} is an option of the command; write --{key}")
        if key.startswith("columns."):
            found.setdefault("columns", {})[key.partition(".")[2]] = _literal(text)
        else:
            found[key] = _literal(text)
    return found


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, (bool, dict, list, type(None))) else text
