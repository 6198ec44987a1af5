"""Runs the pipeline in this process, on one machine, with a SQLite metadata store."""

import datetime
import logging
import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from rich.console import Console
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import RunOptions
from tfx.orchestration.portable import launcher, partial_run_utils, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from components.drift.findings import DriftedError
from components.training.preemption import PreemptedError
from pipeline.config import PipelineConfig
from pipeline.history.journal import Journal
from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners.beam_processes import beam_pipeline_args
from pipeline.runners.console import ProgressHandler, closing_line
from pipeline.runners.results import (
    NodeFailedError,
    RunRecord,
    decision_in_words,
    identity,
    lay_out,
    peak_bytes,
    publish,
)
from pipeline.runners.run_folder import check_metadata, only_run_into
from trainer.config import ConfigError

_REPORT_NODE, _SPAN_NODE = "Report", "SpanIngest"
_METADATA = "metadata.sqlite"
_MESSAGE_LINES = 12


class AnnouncingRunner(LocalDagRunner):
    """LocalDagRunner that tells of each node when it starts and how it went.

    Its loop is LocalDagRunner's own; that one offers no place to stand between two nodes.
    """

    def __init__(self, console: Console, record: RunRecord, progress: ProgressHandler, *, output: Path) -> None:
        super().__init__()
        self._console, self._record, self._progress, self._output = console, record, progress, output
        self.output_uris: dict[str, list[str]] = {}
        self.left_out: list[str] = []

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None
    ) -> None:
        """Runs the nodes in order; see the base class.

        Raises:
            ConfigError: no node lies between the first and the last one that were asked for, or the first one's
                inputs are not there.
            KeyboardInterrupt: SIGTERM stopped a training, which goes on from there.
            NodeFailedError: a node failed; the nodes after it were not started.
        """
        run_id = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, run_id)
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        kinds = deployment.metadata_connection_config
        connection = getattr(kinds, kinds.WhichOneof("connection_config"))
        if run_options:
            partial_run_utils.mark_pipeline(
                pipeline,
                from_nodes=run_options.partial_run.from_nodes or None,
                to_nodes=run_options.partial_run.to_nodes or None,
                snapshot_settings=run_options.partial_run.snapshot_settings,
            )
        nodes = [node.pipeline_node for node in pipeline.nodes]
        nodes = [node for node in nodes if not node.execution_options.HasField("skip")]
        if not nodes:
            asked = run_options.partial_run
            raise ConfigError(
                f"nothing runs from {asked.from_nodes[0]} to {asked.to_nodes[0]}: the second does not depend on the "
                "first; give a node and one of those after it"
            )
        width = max(len(node.node_info.id) for node in nodes)
        for number, node in enumerate(nodes, 1):
            name = node.node_info.id
            if node.execution_options.run.perform_snapshot:
                _take_over_earlier_results(pipeline, connection, name)
            self._console.print(f"[{number:2}/{len(nodes)}] {name:<{width}}", end=" ", markup=False)
            started = time.monotonic()
            try:
                launched = self._launch(pipeline, node, deployment, connection)
            except PreemptedError as stopped:
                # Its step is saved. It is the whole run that was asked to end, which it does as between two nodes.
                self._console.print(f"{self._progress.finish()}stopped", markup=False)
                raise KeyboardInterrupt(str(stopped)) from stopped
            except Exception as error:
                self._console.print(f"{self._progress.finish()}failed", markup=False)
                logging.getLogger(__name__).error("%s failed:\n%s", name, traceback.format_exc())
                broke_a_rule = isinstance(error, ValueError)
                raise NodeFailedError(name, _in_few_words(error), broke_a_rule=broke_a_rule) from error
            if launched is None:
                self.left_out.append(name)
                self._console.print(f"{self._progress.finish()}not run", markup=False)
                continue
            cached, self.output_uris[name] = launched
            seconds = time.monotonic() - started
            self._record.add(name, seconds, cached=cached, inputs=list(node.upstream_nodes))
            outcome = "cached" if cached else f"{seconds:6.1f} s"
            self._console.print(f"{self._progress.finish()}{outcome}", markup=False)
            if name == _REPORT_NODE:
                # Not only at the end: once SpanTrained has noted the run, a kill leaves the next one nothing to do.
                lay_out(self._output, Path(self.output_uris[name][0]), self._record)

    def _launch(self, pipeline, node, deployment, connection) -> tuple[bool, list[str]] | None:
        """Runs a node; tells whether an earlier execution's results were used, and where its outputs are.

        Returns:
            None if the node's condition does not hold.
        """
        name = node.node_info.id
        execution = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(connection),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        ).launch()
        if not execution.execution_id:
            return None
        with metadata.Metadata(connection) as handle:
            [state] = handle.store.get_executions_by_id([execution.execution_id])
            events = handle.store.get_events_by_execution_ids([execution.execution_id])
            outputs = [event.artifact_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
            uris = [artifact.uri for artifact in handle.store.get_artifacts_by_id(outputs)]
        return state.last_known_state == metadata_store_pb2.Execution.CACHED, uris


def _take_over_earlier_results(pipeline, connection, first_node: str) -> None:
    try:
        with metadata.Metadata(connection) as handle:
            partial_run_utils.snapshot(handle, pipeline, base_run_id=_last_run(handle, pipeline))
    except LookupError as error:
        raise ConfigError(
            f"{first_node} needs the results of the nodes before it, and the last run into this output does not have "
            "them all: run everything, or from an earlier node"
        ) from error


def _last_run(handle: metadata.Metadata, pipeline: pipeline_pb2.Pipeline) -> str | None:
    """The run before this one; by its number, since TFX takes the latest by a clock that may have been moved back."""
    runs = handle.store.get_contexts_by_type(constants.PIPELINE_RUN_CONTEXT_TYPE_NAME)
    this = pipeline.runtime_spec.pipeline_run_id.field_value.string_value
    return max((run.id, run.name) for run in runs if run.name != this)[1] if runs else None


def run(
    config: PipelineConfig,
    fingerprints: Mapping[str, str],
    *,
    console: Console,
    from_node: str | None = None,
    to_node: str | None = None,
    started_s: float | None = None,
    journal: Journal | None = None,
) -> None:
    """Runs the pipeline, or a part of it, and leaves its report and metrics in `config.output`.

    Args:
        config: of the run.
        fingerprints: of the sources, see `create_pipeline`.
        console: for what a person sees.
        from_node: first node to run; the ones before it must have run before.
        to_node: last node to run.
        started_s: when the program began, on `time.monotonic`; None: now.
        journal: told of what was found and made, for the history; None: there is none.

    Raises:
        ConfigError: there is no node of that name, or none between the two, or what the first one needs is not
            there; or Beam is to run elsewhere.
        KeyboardInterrupt: SIGTERM stopped a training, whose step is saved.
        NodeFailedError: a node failed.
        NotPushedError: the model was refused; report and metrics are there.
        RunFolderError: another run or program uses the folder, or its metadata is damaged.
    """
    if config.beam.runner != "local":
        raise ConfigError(f"beam.runner = {config.beam.runner}: a run on this machine needs local")
    started_s = time.monotonic() if started_s is None else started_s
    output = Path(config.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    with only_run_into(output):
        check_metadata(output / _METADATA)
        nodes = (from_node, to_node)
        _run(config, fingerprints, output, console=console, nodes=nodes, started_s=started_s, journal=journal)


def _run(
    config: PipelineConfig,
    fingerprints: Mapping[str, str],
    output: Path,
    *,
    console: Console,
    nodes: tuple[str | None, str | None],
    started_s: float,
    journal: Journal | None,
) -> None:
    record = RunRecord(str(output / "nodes.json"))
    pipeline = create_pipeline(
        config,
        Locations(
            artifacts=str(output / "artifacts"),
            checkpoints=str(output / "checkpoints"),
            pushed=str(output / "pushed"),
            run_record=str(output / "nodes.json"),
        ),
        fingerprints={**fingerprints, "pushed": identity(output / "pushed")},
        beam_pipeline_args=beam_pipeline_args(config.beam.workers),
        all_wait=False,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(output / _METADATA)),
    )
    names = [component.id for component in pipeline.components]
    for wanted in nodes:
        if wanted is not None and wanted not in names:
            raise ConfigError(f"there is no node {wanted!r}; the nodes are {', '.join(names)}")
    handler = ProgressHandler(console)
    loggers = [logging.getLogger(name) for name in ("simclr.progress", "trainer")]
    loggers[0].setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
    runner = AnnouncingRunner(console, record, handler, output=output)
    try:
        runner.run(pipeline, run_options=_run_options(*nodes))
    except NodeFailedError as error:
        if journal and isinstance(error.__cause__, DriftedError):
            journal.drifted(error.__cause__.told, error.__cause__.pictures)
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        if journal:
            journal.ingested(runner.output_uris.get(_SPAN_NODE, ()))
    if _SPAN_NODE in runner.output_uris:
        console.print(decision_in_words(runner.output_uris[_SPAN_NODE]), markup=False, soft_wrap=True)
    try:
        if _REPORT_NODE in runner.output_uris:
            publish(output, Path(runner.output_uris[_REPORT_NODE][0]), record, console, journal=journal)
    finally:
        seconds = {node.name: node.seconds for node in record.nodes}
        line = closing_line(seconds, total_s=time.monotonic() - started_s, peak_bytes=peak_bytes())
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run_options(from_node: str | None, to_node: str | None) -> RunOptions | None:
    if from_node is None and to_node is None:
        return None
    return RunOptions(from_nodes=[from_node] if from_node else None, to_nodes=[to_node] if to_node else None)


def _in_few_words(error: BaseException) -> str:
    """The message that matters: where an error carries a traceback as text, as Beam's do, the last error in it."""
    text = str(error).strip() or type(error).__name__
    if "Traceback (most recent call last)" in text or "in user code:" in text:
        text = re.split(r"\n\s*(?=[\w.]+(?:Error|Exception): )", text)[-1]
    text = re.sub(r"\s*\[while running .*", "", text, flags=re.DOTALL)
    return "\n".join(text.splitlines()[:_MESSAGE_LINES])
