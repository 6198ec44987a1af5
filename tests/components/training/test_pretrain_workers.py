"""Pretrain on several machines: only the chief writes the outputs, and checkpoints are found from any machine."""

import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common
from pipeline.config import load_config
from trainer.sources import RecordFiles


class _Strategy:
    """As much of a strategy as decides who writes."""

    def __init__(self, *, is_chief: bool) -> None:
        self.extended = type("Extended", (), {"should_checkpoint": is_chief})


@pytest.mark.parametrize("is_chief", [True, False])
def test_only_the_chief_writes_into_the_outputs_and_the_models_folder_is_there(tmp_path, is_chief):
    fn_args = FnArgs(serving_model_dir=str(tmp_path / "model"), model_run_dir=str(tmp_path / "run"))
    with common.chiefs_outputs(fn_args, _Strategy(is_chief=is_chief)) as outputs:
        common.write_json(outputs.serving_model_dir, "a.json", {})
        common.write_json(outputs.model_run_dir, "b.json", {})
    assert (tmp_path / "model" / "a.json").exists() is is_chief
    assert (tmp_path / "run").exists() is is_chief
    assert (tmp_path / "model").exists()
    assert (fn_args.serving_model_dir, fn_args.model_run_dir) == (str(tmp_path / "model"), str(tmp_path / "run"))


def records(*paths: str, digest: int = 1) -> RecordFiles:
    return RecordFiles(paths=paths, digest=digest, encoded_bytes=9, count=9, short_side_px=32, canvas_px=(32, 32))


EXAMPLES = records("gs://b/1/examples")


def checkpoint_dir(*overrides: str, files: RecordFiles = EXAMPLES, origin: str | None = None, **changes) -> str:
    settings = {"seed": 1, "code_version": "1", "checkpoint_root": "gs://b/checkpoints", **changes}
    config = load_config(None, overrides).pretrain
    return common.checkpoint_dir(FnArgs(custom_config=settings), config, files=files, origin=origin)


def test_training_goes_on_from_its_checkpoint_on_other_machines():
    spot = {"ai_platform_training_args": {"job_spec": {"scheduling": {"strategy": "SPOT"}}}}
    assert checkpoint_dir("pretrain.compute.strategy=tpu", **spot) == checkpoint_dir()
    assert checkpoint_dir().startswith("gs://b/checkpoints/")


def test_training_goes_on_from_its_checkpoint_in_a_later_run_which_makes_the_examples_anew():
    assert checkpoint_dir(files=records("gs://b/2/examples-0", "gs://b/2/examples-1")) == checkpoint_dir()


def test_another_training_never_finds_its_checkpoints():
    others = [
        checkpoint_dir("pretrain.epochs=3"),
        checkpoint_dir("pretrain.compute.precision=mixed_bfloat16"),
        checkpoint_dir(files=records("gs://b/1/examples", digest=2)),
        checkpoint_dir(seed=2),
        checkpoint_dir(code_version="2"),
        checkpoint_dir(origin="a"),
        checkpoint_dir(origin="b"),
    ]
    assert len({checkpoint_dir(), *others}) == 8
