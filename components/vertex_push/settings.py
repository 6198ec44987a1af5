"""Where a pushed model is registered, and how it is served."""

from typing import Annotated

from pydantic import Field, model_validator

from trainer.config import Count, Settings, spelt

_Model = Annotated[
    str,
    spelt(
        r"[a-z_][a-z0-9_-]{0,62}",
        "at most 63 lower-case letters, digits, '-' and '_', a letter or '_' first, such as simclr",
    ),
]
_Endpoint = Annotated[
    str,
    spelt(
        r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
        "at most 63 lower-case letters, digits and '-', a letter first, such as simclr",
    ),
]


class RegistryConfig(Settings):
    """The model of Vertex AI's Model Registry that pushed models are versions of, and its endpoint."""

    model: _Model | None = Field(
        None, description="id and display name of the model; null: pushed models are not registered"
    )
    serving_image: str = Field(
        "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest",
        description="prebuilt TensorFlow container that serves the versions",
    )
    endpoint: _Endpoint | None = Field(
        None, description="id of the endpoint, made if need be; null: versions are registered and not deployed"
    )
    canary_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        10, description="share of the endpoint's traffic for a new version; the champion keeps the rest"
    )
    machine_type: str = Field("n1-standard-2", description="that serves a version, or embeds a folder with it")
    min_replicas: Count = Field(1, description="machines of a version that are always there, or that begin a folder")
    max_replicas: Count = Field(1, description="machines of a version under load, or with much of a folder to do")

    @model_validator(mode="after")
    def _endpoint_can_serve(self) -> "RegistryConfig":
        if self.endpoint and self.model is None:
            raise ValueError(f"endpoint {self.endpoint} without a model: only registered models are served")
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}: raise it")
        return self


class Target(Settings):
    """The registry of a project in a region, as a node is told it."""

    project: str
    region: str
    kms_key: str | None = None
    service_account: str | None = None
    labels: dict[str, str] = {}
    experiment: str | None = None
    registry: RegistryConfig

    @property
    def place(self) -> str:
        """Where models and endpoints live."""
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def model_name(self) -> str:
        """Resource name of the model."""
        return f"{self.place}/models/{self.registry.model}"

    @property
    def endpoint_name(self) -> str:
        """Resource name of the endpoint."""
        return f"{self.place}/endpoints/{self.registry.endpoint}"

    @property
    def host(self) -> str:
        """Where the services of the region answer."""
        return f"{self.region}-aiplatform.googleapis.com"
