"""Where a pretraining starts: at random, or from what the champion was pretrained to; decided when it begins."""

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from tfx.dsl.io import fileio

from components.push import pointer
from components.push.pointer import ADDED_FOLDER, Entry
from components.training.settings import WarmStartConfig
from trainer import export
from trainer.config import PretrainConfig

# A folder of a pushed version, laid out as the model of a pretraining is.
PRETRAINED_FOLDER = f"{ADDED_FOLDER}/pretrained"
START_FILE = "start.json"
WARM, SCRATCH = "warm", "scratch"


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a pretraining starts; `start.json` holds these fields.

    Attributes:
        start: WARM or SCRATCH.
        words: the same for people, with the reason.
        from_version: the champion whose weights it starts from.
        weights: folder of these; None from scratch.
        digest: of these, in hex; None from scratch.
    """

    start: str
    words: str
    from_version: int | None = None
    weights: str | None = None
    digest: str | None = None


def choose(config: WarmStartConfig, pretrain: PretrainConfig, *, pushed: str) -> Start:
    """Decides where a pretraining starts.

    Args:
        config: whether and how often warm.
        pretrain: of this run, with the size of its images.
        pushed: folder of the pushed versions.
    """
    if not config.enabled:
        return _scratch("as configured")
    version = pointer.champion(pushed)
    if version is None:
        return _scratch("there is no champion yet")
    weights = posixpath.join(pointer.path_of(pushed, version), PRETRAINED_FOLDER)
    if not export.has_pretrained(weights):
        return _scratch(f"the champion, version {version}, came without the weights of its pretraining")
    if changed := _changed(export.describe_pretrained(weights), export.description(pretrain)):
        return _scratch(f"the network is another than that of the champion, version {version}: {changed}")
    warm = warm_runs([entry for entry, _ in pointer.history_lines(pushed)])
    if config.scratch_every and warm + 1 >= config.scratch_every:
        return _scratch(
            f"{warm} runs have started warm since the last from scratch, and one of {config.scratch_every} is due"
        )
    digest = hashlib.sha256()
    for path in export.pretrained_weights(weights):
        with fileio.open(path, "rb") as file:
            digest.update(file.read())
    words = f"Pretraining started from the encoder and head of the champion, version {version}."
    return Start(WARM, words, version, weights, digest.hexdigest())


def warm_runs(entries: Iterable[Entry]) -> int:
    """How many pretrainings have started warm since the last from scratch, by the decisions on what came of them.

    A pretraining may end in several decisions, since what follows it can be run again with other settings.
    """
    seen: set[str] = set()
    for entry in entries:
        pretraining = entry.get("pretraining")
        if pretraining and pretraining["start"] == WARM:
            seen.add(pretraining["encoder"])
        elif pretraining:
            seen.clear()
    return len(seen)


def scheduled(pretrain: PretrainConfig, config: WarmStartConfig, start: Start) -> PretrainConfig:
    """The pretraining with the schedule that belongs to its start."""
    if start.start != WARM:
        return pretrain
    optimizer = pretrain.optimizer.model_copy(
        update={} if config.learning_rate is None else {"learning_rate": config.learning_rate}
    )
    return pretrain.model_copy(update={"epochs": config.epochs or pretrain.epochs, "optimizer": optimizer})


def kept_with_a_version(pretrained: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What Push keeps of a pretraining with the model that came of it.

    Args:
        pretrained: folder of the pretraining's model.

    Returns:
        What to record, and files to copy by their paths in the folder of additions.
    """
    with fileio.open(posixpath.join(pretrained, export.EXTRA, START_FILE), "r") as file:
        start = json.load(file)
    name = posixpath.relpath(PRETRAINED_FOLDER, ADDED_FOLDER)
    copies = {
        posixpath.join(name, posixpath.relpath(path, pretrained)): path
        for path in export.pretrained_files(pretrained)
    }
    return {"pretraining": {key: start[key] for key in ("start", "from_version", "encoder")}}, copies


def _scratch(reason: str) -> Start:
    return Start(SCRATCH, f"Pretraining started from scratch: {reason}.")


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings that differ, in words; empty if none does."""
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    return ", ".join(
        f"{name} {flat_old.get(name)} → {flat_new.get(name)}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(name) != flat_new.get(name)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
