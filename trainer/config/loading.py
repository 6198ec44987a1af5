"""Settings from a YAML file and overrides, with errors that name the field, the value and what is allowed."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from trainer.config.base import Settings
from trainer.config.presets import PRESETS

_PRESET = "preset"
_NO_SECTION = "Input should be an object"  # pydantic's words
AnySettings = TypeVar("AnySettings", bound=Settings)


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names field, value and what is allowed."""


def load(
    model: type[AnySettings],
    *,
    defaults: dict[str, Any],
    path: str | None = None,
    overrides: Sequence[str] = (),
) -> AnySettings:
    """Builds settings from defaults, a preset, a file and overrides, later ones winning field by field.

    Args:
        model: what is built.
        defaults: values of all fields.
        path: of a YAML file with any part of the fields, and `preset` for one of the papers' settings; None: no file.
        overrides: such as `pretrain.temperature=0.1` or `preset=cifar10_r18`; the value is YAML.

    Raises:
        ConfigError: a file that is not there, a line that is not YAML, an unknown field, an impossible value.
    """
    given = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(given, override)
    settings = _merge(_merge(defaults, _preset(given.pop(_PRESET, None), model)), given)
    try:
        # YAML knows dates; no field is one, and as a word it is accepted or refused like any other.
        return model.model_validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(details) for details in _innermost(error.errors()))) from None


def dump(settings: Settings) -> str:
    """The whole settings as YAML that `load` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _preset(name: str | None, model: type[Settings]) -> dict[str, Any]:
    """A preset's values of the fields that the model has."""
    if name is None:
        return {}
    if name not in PRESETS:
        raise ConfigError(f"{_PRESET} = {name!r}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]().model_dump(mode="json", include=set(model.model_fields))


def _merge(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = _merge(base[name], value) if both else value
    return merged


class _Yaml12Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, as people do, and refuses a key given twice; YAML 1.2 has both."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Looks at the keys before `<<` brings in others, which may be given anew."""
        node = super().compose_mapping_node(anchor)
        given = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in given:
                    raise yaml.composer.ComposerError(None, None, f"{key.value!r} is given twice", key.start_mark)
                given.add(key.value)
        return node


_Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        settings = yaml.load(Path(path).read_text(encoding="utf-8"), _Yaml12Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path!r}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold fields with values, such as 'seed: 1', not a {type(settings).__name__}")
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is not an override: write field=value, such as pretrain.temperature=0.1")
    *parents, name = field.strip().split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{field}: {parent} has a value of its own, so it has no field {name}")
    try:
        settings[name] = yaml.load(text, _Yaml12Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not YAML: {error}") from error


def _innermost(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those of a whole that only follow from its part's: a list without its bad items is too short."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault, loc in zip(faults, places, strict=True)
        if not any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)
    ]


def _explain(details: dict[str, Any]) -> str:
    """One line for one fault: the field, the value, what is allowed."""
    field = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"{field}: there is no such field; the command `config` lists them all"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if details["type"] == "missing":
        return f"{field}: must be given"
    if not field:
        return message  # a rule between sections names its fields itself
    value = details["input"]
    if value is None and details["msg"] == _NO_SECTION:
        return f"{field}: has no fields below it; give some, or leave {field} out"
    shown = "" if isinstance(value, dict) else f" = {'null' if value is None else repr(value)}"
    return f"{field}{shown}: {'must be ' if details['msg'].startswith('Input should be') else ''}{message}"
