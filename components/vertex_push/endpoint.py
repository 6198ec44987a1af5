"""The endpoint that serves versions of one model: a share of the traffic for a new one, all for the champion."""

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1 import DeployedModel
from google.protobuf import field_mask_pb2

from components.google_calls import BEGIN, CALL, done_once
from components.vertex_push.settings import Target

_ALL_PERCENT = 100


class Endpoint:
    """An endpoint with one of its model's versions or several."""

    def __init__(self, target: Target):
        """Makes the client; it is now that credentials are looked for.

        Args:
            target: with `registry.endpoint`.
        """
        self._target = target
        self._name = target.endpoint_name
        self._endpoints = aiplatform_v1.EndpointServiceClient(client_options=ClientOptions(api_endpoint=target.host))

    def try_out(self, candidate: str, *, champion: str | None, previous: str | None) -> int:
        """Deploys a candidate and gives it the canary's share; older candidates go.

        Args:
            candidate: number of the version.
            champion: of the version that keeps the rest of the traffic; None: there is none.
            previous: of the version that a rollback would bring back, which stays.

        Returns:
            The percentage that the candidate gets: none where no champion is deployed, since it would be all.
        """
        new = self._deploy(candidate)
        old = self._deployed(champion)
        share = self._target.registry.canary_percent if old is not None else 0
        if old is not None and old.id != new.id:
            self._split({old.id: _ALL_PERCENT - share, new.id: share})
        self._retire({candidate, champion, previous})
        return share

    def serve(self, champion: str, *, previous: str | None) -> None:
        """Gives a version all traffic; only the one that a rollback would bring back stays beside it.

        Args:
            champion: number of the version.
            previous: of the version that stays; None: there is none.
        """
        self._split({self._deploy(champion).id: _ALL_PERCENT})
        self._retire({champion, previous})

    def _get(self) -> aiplatform_v1.Endpoint:
        return self._endpoints.get_endpoint(name=self._name, **CALL)

    def _make(self) -> None:
        """Makes the endpoint if it is not there; its id is given, so it cannot be made twice."""
        registry = self._target.registry
        wanted = aiplatform_v1.Endpoint(display_name=registry.endpoint, labels=self._target.labels)
        if self._target.kms_key:
            wanted.encryption_spec.kms_key_name = self._target.kms_key

        def find() -> aiplatform_v1.Endpoint | None:
            try:
                return self._get()
            except exceptions.NotFound:
                return None

        def begin():
            request = aiplatform_v1.CreateEndpointRequest(
                parent=self._target.place, endpoint=wanted, endpoint_id=registry.endpoint
            )
            return self._endpoints.create_endpoint(request=request, **BEGIN)

        done_once(self._endpoints, self._name, find=find, begin=begin)

    def _deploy(self, version: str) -> DeployedModel:
        self._make()
        registry = self._target.registry
        machines = aiplatform_v1.DedicatedResources(
            machine_spec=aiplatform_v1.MachineSpec(machine_type=registry.machine_type),
            min_replica_count=registry.min_replicas,
            max_replica_count=registry.max_replicas,
        )
        wanted = DeployedModel(
            model=f"{self._target.model_name}@{version}",
            display_name=f"{registry.model}-{version}",
            dedicated_resources=machines,
        )

        def begin():
            # Without a split it gets no traffic, so this request means the same whatever is deployed beside it.
            return self._endpoints.deploy_model(endpoint=self._name, deployed_model=wanted, **BEGIN)

        deployed, _ = done_once(self._endpoints, self._name, find=lambda: self._deployed(version), begin=begin)
        return deployed

    def _deployed(self, version: str | None) -> DeployedModel | None:
        return next((item for item in self._ours() if item.model_version_id == version), None)

    def _ours(self) -> list[DeployedModel]:
        """Versions of our model, known by its id: Vertex AI may answer with the project's number for its name."""
        model = self._target.registry.model
        return [
            item for item in self._get().deployed_models if item.model.rpartition("/")[2].partition("@")[0] == model
        ]

    def _split(self, traffic: dict[str, int]) -> None:
        if {name: share for name, share in self._get().traffic_split.items() if share} == traffic:
            return
        wanted = aiplatform_v1.Endpoint(name=self._name, traffic_split=traffic)
        mask = field_mask_pb2.FieldMask(paths=["traffic_split"])
        self._endpoints.update_endpoint(endpoint=wanted, update_mask=mask, **CALL)

    def _retire(self, kept: set[str | None]) -> None:
        """Takes our versions that are not kept and get no traffic off the endpoint, and gives their machines back."""
        traffic = self._get().traffic_split
        for item in self._ours():
            if item.model_version_id not in kept and not traffic.get(item.id):
                self._undeploy(item.id)

    def _undeploy(self, deployed: str) -> None:
        def find() -> bool | None:
            return None if deployed in {item.id for item in self._get().deployed_models} else True

        def begin():
            return self._endpoints.undeploy_model(endpoint=self._name, deployed_model_id=deployed, **BEGIN)

        done_once(self._endpoints, self._name, find=find, begin=begin)
