"""Runs the pipeline as Vertex AI would get it, on this machine: compiles, rehearses, and leaves what a run leaves."""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from components.drift.settings import DRIFT_FILE
from components.vertex_push.settings import RegistryConfig
from pipeline import preflight
from pipeline.config import PipelineConfig
from pipeline.history.journal import Journal
from pipeline.runners import results
from pipeline.runners.kubeflow import RUN_RECORD, compile_pipeline
from pipeline.runners.rehearsal.buckets import local_buckets
from pipeline.runners.rehearsal.images import Image, Images
from pipeline.runners.rehearsal.result import Result, State
from pipeline.runners.rehearsal.run import BUCKETS, TaskFailedError, rehearse
from pipeline.runners.rehearsal.scheduling import Observer
from pipeline.runners.rehearsal.specification import RefusedError, Task
from pipeline.runners.vertex_preflight.offline import all_images
from trainer.config import ConfigError

_REPORT_NODE, _REPORT_KEY, _SPAN_NODE = "Report", "report", "SpanIngest"
_DRIFT_NODE = "Drift"
# In the last lines of a container's log, where an error has its module before its name.
_RULE_BROKEN = re.compile(r"^(?:ValueError|components\.[\w.]+\.(?:DamagedError|DriftedError)): ", re.MULTILINE)
# What only a run in the cloud has to know, where the configuration leaves it open.
_PLACEHOLDERS = {"project": "rehearsal", "image": "rehearsal", "pipeline_root": "gs://rehearsal/simclr"}
_PATHS = ("unlabeled", "labeled", "test", "labeled_manifest", "test_manifest")
_WORDS = {
    State.CACHED: "cached",
    State.FAILED: "failed",
    State.NOT_TRIGGERED: "left out by its condition",
    State.NOT_STARTED: "not started",
}


def run(
    config: PipelineConfig,
    *,
    console: Console,
    parallel: int = 2,
    interpreters: Mapping[str, str] | None = None,
    started_s: float | None = None,
    journal: Journal | None = None,
) -> None:
    """Compiles the pipeline and runs the compiled JSON; gs:// is a folder in `config.output`.

    Args:
        config: of the run; a project, an image and a pipeline root are made up where it has none.
        console: for what a person sees.
        parallel: nodes at once.
        interpreters: Pythons that stand for images, by the images' names, and find nothing of this repository but
            what is installed in them; this one stands for all others.
        started_s: when the program began, on `time.monotonic`; None: now.
        journal: told of what was found and made, for the history; None: there is none.

    Raises:
        ConfigError: it cannot be compiled, or what it compiles to would not run on Vertex AI.
        NodeFailedError: a node failed.
        NotPushedError: the model was refused; report and metrics are there.
    """
    started_s = time.monotonic() if started_s is None else started_s
    output = Path(config.output).resolve()
    on_tpu = [name for name, of in config.on_pretraining_machines.items() if of.compute.strategy == "tpu"]
    if on_tpu:
        other = " ".join(f"{name}.compute.strategy=one_device" for name in on_tpu)
        raise ConfigError(
            f"{on_tpu[0].capitalize()}: {on_tpu[0]}.compute.strategy = tpu, and no TPU is here; rehearse "
            f"with {other} vertex.pretraining.machine_type=null vertex.pretraining.tpu_topology=null"
        )
    config = _from_here(_complete(config))
    images = _images(config, interpreters or {}, output)
    root = Path(local_buckets(config.vertex.pipeline_root, output / BUCKETS))
    root.mkdir(parents=True, exist_ok=True)
    if journal:
        journal.pushes_into(root / "pushed")
    here = config.data.model_validate(local_buckets(config.data.model_dump(), output / BUCKETS))
    looks = preflight.inspect(config.model_copy(update={"data": here}))
    compiled = compile_pipeline(
        config,
        output / "compiled",
        fingerprints={name: look.fingerprint for name, look in looks.items()}
        | {"pushed": results.identity(root / "pushed")},
        allow_local_paths=True,
    )
    console.print(f"compiled {compiled.job}", markup=False, soft_wrap=True)
    record = results.RunRecord(str(root / RUN_RECORD))
    try:
        outcome = rehearse(
            compiled.job,
            output,
            parallel=parallel,
            images=images,
            failure_policy=config.vertex.failure_policy,
            observer=_Announcer(console, record, journal),
        )
    except RefusedError as error:
        raise ConfigError(f"the compiled pipeline would not run: {error}") from error
    except TaskFailedError as error:
        broke_a_rule = _RULE_BROKEN.search(str(error)) is not None
        raise results.NodeFailedError(error.node, str(error), broke_a_rule=broke_a_rule, log=error.log) from error
    if _SPAN_NODE in outcome.results:
        made = outcome.results[_SPAN_NODE].made.artifacts.values()
        console.print(results.decision_in_words(one["uri"] for one in made), markup=False, soft_wrap=True)
    if outcome.results[_REPORT_NODE].state is State.NOT_TRIGGERED:
        return
    report = outcome.results[_REPORT_NODE].made.artifacts[_REPORT_KEY]["uri"]
    try:
        results.publish(output, Path(report), record, console, journal=journal)
    finally:
        took_s, peak_gb = time.monotonic() - started_s, results.peak_bytes() / 1e9
        console.print(f"took {took_s:.0f} s with {parallel} nodes at once; peak memory of one {peak_gb:.2f} GB")


def _complete(config: PipelineConfig) -> PipelineConfig:
    missing = {name: value for name, value in _PLACEHOLDERS.items() if getattr(config.vertex, name) is None}
    # Registry and experiment are Google's: from here nothing enters them, whatever credentials this machine holds.
    kept_here = {"registry": RegistryConfig(), "experiment": None}
    return config.model_copy(update={"vertex": config.vertex.model_copy(update=missing | kept_here)})


def _from_here(config: PipelineConfig) -> PipelineConfig:
    """Local paths made absolute: a container starts in a folder of its own."""
    paths = {
        name: os.path.abspath(value)
        for name, value in config.data.model_dump(include=set(_PATHS), exclude_none=True).items()
        if "://" not in value
    }
    store = config.retrain.store
    store = store if store is None or "://" in store else os.path.abspath(store)
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=paths),
            "retrain": config.retrain.model_copy(update={"store": store}),
        }
    )


def _images(config: PipelineConfig, interpreters: Mapping[str, str], workdir: Path) -> Images:
    names = sorted(set(all_images(config).values()))
    for unknown in sorted(set(interpreters) - set(names)):
        raise ConfigError(f"image {unknown}: no container has it; they have {', '.join(names)}")
    return Images(by_name={name: Image(python, workdir) for name, python in interpreters.items()})


class _Announcer(Observer):
    """Says when each node starts and how it went, and keeps the record that the report reads."""

    def __init__(self, console: Console, record: results.RunRecord, journal: Journal | None) -> None:
        self._console, self._record, self._journal = console, record, journal
        self._total, self._width = 0, 0
        self._numbers: dict[str, int] = {}

    def waits(self) -> None:
        self._console.print("waiting for the containers of an earlier rehearsal to end ...")

    def planned(self, tasks: Mapping[str, Task]) -> None:
        self._total, self._width = len(tasks), max(map(len, tasks))

    def started(self, task: Task) -> None:
        self._say(task, "started")

    def ended(self, task: Task, result: Result) -> None:
        if result.good:
            cached = result.state is State.CACHED
            self._record.add(task.name, result.seconds, cached=cached, inputs=sorted(task.after))
            if self._journal and task.name == _SPAN_NODE:
                self._journal.ingested(made["uri"] for made in result.made.artifacts.values())
        elif self._journal and task.name == _DRIFT_NODE and result.left:
            for told in result.left.glob(f"*/{DRIFT_FILE}"):
                pictures = {path.name: path.read_bytes() for path in told.parent.glob("*.png")}
                self._journal.drifted(json.loads(told.read_text(encoding="utf-8")), pictures)
        self._say(task, _WORDS.get(result.state, f"{result.seconds:6.1f} s"))

    def _say(self, task: Task, words: str) -> None:
        number = self._numbers.setdefault(task.name, len(self._numbers) + 1)
        line = f"[{number:2}/{self._total}] {task.name:<{self._width}} {words}"
        self._console.print(line, markup=False, soft_wrap=True)
