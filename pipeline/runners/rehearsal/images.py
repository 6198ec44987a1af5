"""Container images as Python environments of this machine, and whether they hold what their tasks start."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.runners.rehearsal import probe
from pipeline.runners.rehearsal.specification import Job, RefusedError, Task
from pipeline.runners.rehearsal.validation import type_title

_ROOT = Path(__file__).resolve().parents[3]
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
# Dotted names in these parameters are imported by the stock components.
_FUNCTION_PARAMETERS = ("run_fn", "preprocessing_fn")
_OF_THE_STOCK = ("tfx.", "system.")
EXECUTOR_FLAG = "--executor_class_path"
_STOCK_TRAINER = "tfx.components.trainer.executor.GenericExecutor"
# Executors that start a CustomJob, and those that its workers run.
VERTEX_TRAINERS = {
    "tfx.extensions.google_cloud_ai_platform.trainer.executor.GenericExecutor": _STOCK_TRAINER,
    "tfx.extensions.google_cloud_ai_platform.trainer.executor.Executor": _STOCK_TRAINER,
    "components.distill.on_vertex.Executor": "components.distill.executor.Executor",
}
# TensorFlow as a local run sets it, so that both compute the same.
_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "1", "TF_ENABLE_ONEDNN_OPTS": "1", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True)
class Image:
    """What stands for an image.

    Attributes:
        python: interpreter that `python` is inside it.
        workdir: where its commands start, and find modules.
        environment: variables that the image sets.
    """

    python: str = sys.executable
    workdir: Path = _ROOT
    environment: Mapping[str, str] = field(default_factory=lambda: dict(_TENSORFLOW))

    @property
    def path(self) -> str:
        """PATH inside it."""
        return f"{Path(self.python).parent}:{_SYSTEM_PATH}"


@dataclass(frozen=True)
class Images:
    """Images by name; one that has no entry is `default`."""

    default: Image = field(default_factory=Image)
    by_name: Mapping[str, Image] = field(default_factory=dict)

    def find(self, name: str) -> Image:
        """What stands for the image of a name."""
        return self.by_name.get(name, self.default)


@dataclass(frozen=True)
class _Need:
    """A name that an image of a task must hold.

    Attributes:
        task: that needs it.
        where: name of the image: the node's own, or that of the CustomJob which the node starts.
        image: what stands for it.
        name: to be imported.
        module: it is only started, not imported by this name.
    """

    task: Task
    where: str
    image: Image
    name: str
    module: bool = False


def check_images(job: Job, images: Images) -> None:
    """Imports in each image, in a process of it, what the tasks will import there.

    Raises:
        RefusedError: an image lacks a program, a module, a class or a function; or an executor takes an argument
            that no container is ever given.
    """
    by_image: dict[tuple[str, Path], list[_Need]] = defaultdict(list)
    for task in job.tasks.values():
        if task.executor.HasField("container"):
            for need in _needs(task, images):
                by_image[need.image.python, need.image.workdir].append(need)
    for needs in by_image.values():
        answer = _ask(needs)
        for need in needs:
            if need.name in answer["lacks"]:
                raise RefusedError(
                    need.task.name,
                    f"its image {need.where} lacks {need.name} "
                    f"({answer['lacks'][need.name]}): build the image with that package",
                )
            _check_demands(need.task, answer["demands"].get(need.name, {}))


def _needs(task: Task, images: Images) -> Iterator[_Need]:
    container = task.executor.container
    image = images.find(container.image)
    driver = container.lifecycle.pre_cache_check
    for command in (list(container.command) + list(container.args), list(driver.command) + list(driver.args)):
        if command and shutil.which(command[0], path=image.path) is None:
            raise RefusedError(task.name, f"its image {container.image} lacks the program {command[0]!r}")
        if command[1:2] == ["-m"]:
            yield _Need(task, container.image, image, command[2], module=True)
        if EXECUTOR_FLAG in command:
            yield _Need(task, container.image, image, command[command.index(EXECUTOR_FLAG) + 1])
            interface = (task.interface.input_definitions, task.interface.output_definitions)
            titles = {type_title(made.artifact_type) for side in interface for made in side.artifacts.values()}
            for title in sorted(titles):
                if not title.startswith(_OF_THE_STOCK):
                    yield _Need(task, container.image, image, title)
    functions = [task.parameters.get(name) for name in _FUNCTION_PARAMETERS]
    for function in functions:
        if isinstance(function, str) and function:
            yield _Need(task, container.image, image, function)
    for name in _custom_job_images(task):
        for wanted in [VERTEX_TRAINERS[_executor_of(container.args)], *filter(None, functions)]:
            yield _Need(task, name, images.find(name), str(wanted))


def is_vertex_trainer(arguments: list[str]) -> bool:
    """Whether a command starts TFX's executor that trains in a CustomJob."""
    return _executor_of(arguments) in VERTEX_TRAINERS


def _executor_of(arguments: Sequence[str]) -> str:
    """Dotted name of TFX's executor that a command starts; empty if it starts none."""
    return arguments[list(arguments).index(EXECUTOR_FLAG) + 1] if EXECUTOR_FLAG in arguments else ""


def _custom_job_images(task: Task) -> list[str]:
    """Images of the CustomJob that a task's executor will start."""
    if not is_vertex_trainer(list(task.executor.container.args)):
        return []
    config: Any = json.loads(str(task.parameters.get("custom_config", "{}")))
    pools = config.get("ai_platform_training_args", {}).get("job_spec", {}).get("worker_pool_specs", [])
    return [pool["container_spec"]["image_uri"] for pool in pools if "container_spec" in pool]


def _ask(needs: list[_Need]) -> dict[str, Any]:
    image = needs[0].image
    wanted = {
        "modules": sorted({need.name for need in needs if need.module}),
        "names": sorted({need.name for need in needs if not need.module}),
    }
    variables = {entry.name: entry.value for need in needs for entry in need.task.executor.container.env}
    done = subprocess.run(
        [image.python, "-c", Path(probe.__file__).read_text(encoding="utf-8")],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        cwd=image.workdir,
        env={"PATH": image.path, "HOME": os.devnull, "LANG": "C.UTF-8", **image.environment, **variables},
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise RefusedError(needs[0].task.name, f"its image {image.python} cannot be asked what it holds: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _check_demands(task: Task, demands: Mapping[str, list[str]]) -> None:
    for name in demands.get("values", ()):
        if name in task.artifacts:
            raise RefusedError(
                task.name,
                f"its function takes the value of {name!r}, which only LocalDagRunner reads from the artifact: "
                "take InputArtifact and .read() it",
            )
    for name in demands.get("structures", ()):
        if name in task.parameters:
            raise RefusedError(
                task.name,
                f"its function takes a dict or list as parameter {name!r}, which only LocalDagRunner hands over: a "
                "container gets JSON; take str and json.loads it",
            )
