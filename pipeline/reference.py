"""The reference of all configuration fields, made from the code."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from pipeline.config import PipelineConfig
from trainer.config import Settings

# Sections whose fields are, where nothing is said of them, as those of another.
_FOLLOWS = {"distill.student.": "pretrain.encoder."}


@dataclass(frozen=True)
class FieldReference:
    """One field: its path, what it may be, its default, what it means."""

    path: str
    allowed: str
    default: str
    meaning: str


def fields(
    model: type[Settings] = PipelineConfig, *, prefix: str = "", values: Settings | None = None
) -> Iterator[FieldReference]:
    """Every field, depth first, with the default that it has at its place in the whole configuration."""
    values = PipelineConfig() if values is None and not prefix else values
    properties = model.model_json_schema()["properties"]
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        default = getattr(values, name) if values is not None else info.default
        if isinstance(info.annotation, type) and issubclass(info.annotation, Settings):
            yield from fields(info.annotation, prefix=f"{path}.", values=default)
            continue
        shown = _other_field(path) or ("required" if default is PydanticUndefined else _as_yaml(default))
        yield FieldReference(path, _allowed(properties[name]), shown, info.description or "")


def markdown() -> str:
    """The reference page."""
    lines = [
        "# Configuration",
        "",
        "Made from the code by `make docs`. Give any part of these in a YAML file (`CONFIG=file.yaml`) or on the",
        'command line (`SET="pretrain.temperature=0.1 seed=2"`). What is unknown or impossible is refused before',
        "anything runs.",
        "",
        "| field | allowed | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{row.path}` | {row.allowed} | `{row.default}` | {row.meaning} |" for row in fields()]
    return "\n".join(lines) + "\n"


def _other_field(path: str) -> str | None:
    """The field whose value is this one's default."""
    return next((path.replace(own, other) for own, other in _FOLLOWS.items() if path.startswith(own)), None)


def _as_yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_as_yaml(item) for item in value) + "]"
    return "null" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _allowed(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "object":
        return f"mapping to {_allowed(schema['additionalProperties'])}"
    if schema.get("type") == "array":
        return f"list of {_allowed(schema['items'])}"
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return " ".join([schema["type"], *[", ".join(bounds)]]).strip()
