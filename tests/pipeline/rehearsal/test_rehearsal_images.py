"""What an image lacks, and what an executor asks for that no container is given: refused with the node named."""

import json
import sys
from pathlib import Path

import pytest
import rehearsed_components  # noqa: F401 (found by its name)

from pipeline.runners.rehearsal import probe
from pipeline.runners.rehearsal.images import Image, Images
from pipeline.runners.rehearsal.specification import RefusedError

# As TFX makes executors of functions, without the seconds that its import takes.
_PACKAGE = """
import enum
Form = enum.Enum("Form", "ARTIFACT_VALUE INPUT_ARTIFACT PARAMETER")
class Hint:
    def __init__(self, type): self.type = type
def take(model, names, name): pass
take.__annotations__ = {"names": Hint(list[str]), "name": Hint(str)}
class Plain: pass
class Value: _FUNCTION, _ARG_FORMATS = staticmethod(take), {"model": Form.ARTIFACT_VALUE, "names": Form.PARAMETER}
class Structure: _FUNCTION, _ARG_FORMATS = staticmethod(take), {"model": Form.INPUT_ARTIFACT}
"""


@pytest.fixture
def images(tmp_path):
    """An image with `packaged` and nothing of this repository, and one without it."""
    full, empty = tmp_path / "full", tmp_path / "empty"
    for folder in (full, empty):
        folder.mkdir()
    (full / "packaged.py").write_text(_PACKAGE)
    return Images(Image(workdir=full), {"empty": Image(workdir=empty)})


@pytest.fixture
def taking(job):
    """A task whose executor class is given by name; it gets a model, and text as `name`."""

    def make(executor, *arguments, **parameters):
        job.container("Make", outputs=("model",))
        container = job.container("Take", inputs={"model": "Make.model"}, parameters={"name": "a", **parameters})
        container["args"] += ["--executor_class_path", executor, *arguments]
        return container

    return make


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        ("packaged.Missing", "lacks packaged.Missing .*AttributeError"),
        ("unpackaged.Plain", "lacks unpackaged.Plain .*No module named 'unpackaged'"),
    ],
)
def test_class_that_the_image_lacks_is_refused(executor, words, job, taking, images, rehearsal):
    taking(executor)
    with pytest.raises(RefusedError, match=words) as refused:
        rehearsal(job, images=images)
    assert refused.value.node == "Take"
    assert rehearsal.most_running == 0


def test_class_of_another_image_is_refused(job, taking, images, rehearsal):
    taking("packaged.Plain")["image"] = "empty"
    with pytest.raises(RefusedError, match=r"its image empty lacks packaged\.Plain"):
        rehearsal(job, images=images)


@pytest.fixture
def trainers(tmp_path):
    """Images by name, with stand-ins for the executors, whose own import takes seconds.

    The node has all; `machines`, of its CustomJob, the executor that is started there, and not `packaged`.
    """
    modules = {
        "node": ["tfx.extensions.google_cloud_ai_platform.trainer.executor", "components.distill.on_vertex"],
        "machines": ["tfx.components.trainer.executor", "components.distill.executor"],
    }
    for image, names in modules.items():
        for name in names:
            file = tmp_path / image / f"{name.replace('.', '/')}.py"
            file.parent.mkdir(parents=True)
            file.write_text("class GenericExecutor: pass\nclass Executor: pass\n")
            for package in file.relative_to(tmp_path / image).parents[:-1]:
                # Else those of this environment, which have one, come first.
                (tmp_path / image / package / "__init__.py").touch()
    (tmp_path / "node" / "packaged.py").write_text(_PACKAGE)
    return Images(Image(workdir=tmp_path / "node"), {"machines": Image(workdir=tmp_path / "machines")})


@pytest.mark.parametrize(
    "executor",
    [
        "tfx.extensions.google_cloud_ai_platform.trainer.executor.GenericExecutor",
        "components.distill.on_vertex.Executor",
    ],
)
def test_image_of_a_custom_job_that_lacks_the_package_is_refused_by_its_name(
    executor, job, taking, trainers, rehearsal
):
    pool = {"replica_count": 1, "container_spec": {"image_uri": "machines"}}
    config = {"ai_platform_training_args": {"job_spec": {"worker_pool_specs": [pool]}}}
    taking(executor, run_fn="packaged.take", custom_config=json.dumps(config))
    with pytest.raises(RefusedError, match=r"its image machines lacks packaged\.take ") as refused:
        rehearsal(job, images=trainers)
    assert refused.value.node == "Take"
    assert rehearsal.most_running == 0


def test_module_that_cannot_be_started_is_refused(job, images, rehearsal):
    job.container("First")["command"] = ["python", "-m", "unpackaged"]
    with pytest.raises(RefusedError, match="lacks unpackaged"):
        rehearsal(job, images=images)


def test_function_that_a_stock_component_would_import_is_refused(job, taking, images, rehearsal):
    taking("packaged.Plain", run_fn="packaged.run_fn")
    with pytest.raises(RefusedError, match=r"lacks packaged\.run_fn"):
        rehearsal(job, images=images)


def test_type_of_artifact_that_the_image_lacks_is_refused(job, taking, images, rehearsal):
    taking("packaged.Plain")
    note = {"instanceSchema": "title: packaged.Note\ntype: object\n"}
    for component, side in (("Make", "outputDefinitions"), ("Take", "inputDefinitions")):
        job.components[component][side]["artifacts"]["model"]["artifactType"] = note
    with pytest.raises(RefusedError, match=r"lacks packaged\.Note"):
        rehearsal(job, images=images)


def test_value_of_an_artifact_is_refused(job, taking, images, rehearsal):
    taking("packaged.Value")
    with pytest.raises(RefusedError, match="the value of 'model', which only LocalDagRunner reads") as refused:
        rehearsal(job, images=images)
    assert refused.value.node == "Take"


@pytest.mark.parametrize("names", [None, "[]"])
def test_list_as_a_parameter_is_refused_where_it_is_given(names, job, taking, images, rehearsal):
    taking("packaged.Structure", **({} if names is None else {"names": names}))
    if names is None:
        rehearsal(job, images=images)
        return
    with pytest.raises(RefusedError, match="a dict or list as parameter 'names', which only LocalDagRunner"):
        rehearsal(job, images=images)


def test_interpreter_that_does_not_start_is_refused(job, taking, tmp_path, rehearsal):
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    broken.chmod(0o755)
    taking("packaged.Plain")
    with pytest.raises(RefusedError, match="cannot be asked what it holds: broken"):
        rehearsal(job, images=Images(Image(python=str(broken), workdir=tmp_path)))


def test_demands_of_tfxs_own_executors_are_seen():
    assert Path(sys.modules["rehearsed_components"].__file__).parent == Path(__file__).parent
    assert probe._demands("rehearsed_components.TakeValue_Executor")["values"] == ["accuracy"]
    assert probe._demands("rehearsed_components.TakeList_Executor")["structures"] == ["names"]
    assert probe._demands("rehearsed_components.Write_Executor") == {"values": [], "structures": []}
