"""RunSummary: the TFX shell."""

import datetime
import json

from absl import logging
from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.io import fileio
from tfx.orchestration.kubeflow.decorators import exit_handler

from components.run_summary.summary import file_name, in_words, summarise


@exit_handler
def RunSummary(  # noqa: N802 (TFX names the node after the function)
    final_status: Parameter[str],
    destination: Parameter[str],
    runs: Parameter[str],
    region: Parameter[str],
    configuration: Parameter[str],
) -> None:
    """Writes what became of a run, also of one that failed: an exit handler has no inputs, and always runs.

    Args:
      final_status: JSON that the runner fills in; see `summary.read_status`.
      destination: directory of the summaries, one file a run.
      runs: directory of the runs, where a runner that is not Vertex AI leaves how its nodes went.
      region: of Vertex AI, which is asked how the nodes of its own runs went.
      configuration: of the run, YAML.
    """
    summary = summarise(
        final_status,
        runs=runs,
        region=region,
        configuration=configuration,
        now=datetime.datetime.now(datetime.timezone.utc),
    )
    fileio.makedirs(destination)
    with fileio.open(f"{destination}/{file_name(summary)}", "w") as file:
        file.write(json.dumps(summary, indent=1, ensure_ascii=False))
    logging.info("%s", in_words(summary))
