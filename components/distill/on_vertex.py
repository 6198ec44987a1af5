"""Distill on machines of its own: its node starts a CustomJob, waits for it, and fails with it.

Apart from the component, since it brings the SDK of Vertex AI, which takes seconds to import.
"""

from tfx.dsl.components.base import executor_spec
from tfx.extensions.google_cloud_ai_platform.trainer import executor as vertex_executor

from components.distill import component, executor


class Executor(vertex_executor.GenericExecutor):
    """Starts a CustomJob whose workers do what the component's own executor does."""

    def _GetExecutorClass(self) -> type[executor.Executor]:  # noqa: N802 - TFX's name
        return executor.Executor


class VertexDistill(component.Distill):
    """Distill whose `custom_config` tells TFX's Vertex Trainer which machines it hires."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
