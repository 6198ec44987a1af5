"""What the stock Trainer does, but for a second set of examples, whose files it hands on to the run_fn."""

from typing import Any

from tfx import types
from tfx.components.trainer import executor as trainer_executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import artifact_utils
from tfx.utils import io_utils

UNLABELED = "unlabeled"  # the input; of its examples the split `train` counts
UNLABELED_FILES = "unlabeled_files"  # patterns of its files, in the run_fn's `custom_config`


class Executor(trainer_executor.GenericExecutor):
    """Calls a run_fn as `tfx.components.Trainer` does."""

    def _GetFnArgs(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        uris = artifact_utils.get_split_uris(input_dict[UNLABELED], "train")
        patterns = [io_utils.all_files_pattern(uri) for uri in uris]
        fn_args.custom_config = {**fn_args.custom_config, UNLABELED_FILES: patterns}
        return fn_args
