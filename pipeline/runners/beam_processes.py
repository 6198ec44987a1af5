"""Beam on this machine: in this process, or in several processes that `beam_worker` starts."""

import shlex
import sys

from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

# By its full name: what DirectRunner stands for differs between releases of Beam, and some download a binary.
_IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
# Unless an image for workers is named, each Beam stage copies TFX into a source package for machines that lack it,
# which takes two seconds of processor and leaves 10 MB of temporary files. Both runners work in this environment.
_NO_PACKAGE_OF_TFX = ["--sdk_container_image=none"]


class ProcessesRunner(FnApiRunner):
    """FnApiRunner with as many worker processes as --direct_num_workers says.

    With --direct_running_mode=multi_processing it would start Beam's own command for a worker; see `beam_worker`.
    """

    def __init__(self) -> None:
        command = f"{shlex.quote(sys.executable)} -m pipeline.runners.beam_worker"
        super().__init__(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def beam_pipeline_args(workers: int) -> list[str]:
    """One worker runs in this process: starting others costs seconds, which about 50,000 images repay."""
    runner = _IN_PROCESS if workers == 1 else f"{__name__}.{ProcessesRunner.__name__}"
    return [f"--runner={runner}", f"--direct_num_workers={workers}", *_NO_PACKAGE_OF_TFX]
