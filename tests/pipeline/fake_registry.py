"""The part of the fake Vertex AI that keeps models, endpoints and long-running operations."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
from google.cloud.aiplatform_v1 import types
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, timestamp_pb2
from google.rpc import status_pb2

Model = types.Model
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault of the fake
    """An answer that is a gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Models:
    """Versions of models with the registry's rules, endpoints with theirs.

    Attributes:
        versions: of each model by its name, oldest first.
        endpoints: by resource name.
        operations: by name, oldest first.
        looks_until_done: how often an operation is asked for before its work appears as done.
        failures: of the next operations, each ends with one of them and its work is not done.
    """

    SERVICES = {
        "ModelService": {
            "UploadModel": types.UploadModelRequest,
            "ListModelVersions": types.ListModelVersionsRequest,
            "MergeVersionAliases": types.MergeVersionAliasesRequest,
        },
        "EndpointService": {
            "CreateEndpoint": types.CreateEndpointRequest,
            "GetEndpoint": types.GetEndpointRequest,
            "UpdateEndpoint": types.UpdateEndpointRequest,
            "DeployModel": types.DeployModelRequest,
            "UndeployModel": types.UndeployModelRequest,
        },
        "google.longrunning.Operations": {
            "GetOperation": operations_pb2.GetOperationRequest,
            "ListOperations": operations_pb2.ListOperationsRequest,
        },
    }

    def __init__(self) -> None:
        self.versions: dict[str, list[Model]] = {}
        self.endpoints: dict[str, types.Endpoint] = {}
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.looks_until_done = 0
        self.failures: list[Refusal] = []
        self._pending: dict[str, list[Any]] = {}

    def operation(self, resource: str, response: Any, work: Any = None) -> operations_pb2.Operation:
        """Work on a resource, which becomes visible only when the operation is done."""
        name = f"{resource}/operations/{len(self.operations) + 1}"
        packed = any_pb2.Any()
        packed.Pack(getattr(type(response), "pb", lambda message: message)(response))
        self.operations[name] = operations_pb2.Operation(name=name)
        self._pending[name] = [self.looks_until_done, packed, work]
        if not self.looks_until_done:
            self._finish(name)
        return self.operations[name]

    def _finish(self, name: str) -> None:
        _, packed, work = self._pending.pop(name)
        self.operations[name].done = True
        if self.failures:
            failure = self.failures.pop(0)
            self.operations[name].error.CopyFrom(status_pb2.Status(code=failure.code.value[0], message=str(failure)))
            return
        if work:
            work()
        self.operations[name].response.CopyFrom(packed)

    def _GetOperation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        operation = resource_of(self.operations, request.name)
        if request.name in self._pending:
            self._pending[request.name][0] -= 1
            if self._pending[request.name][0] <= 0:
                self._finish(request.name)
        return operation

    def _ListOperations(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        below = [
            operation for name, operation in self.operations.items() if name.startswith(f"{request.name}/operations/")
        ]
        return operations_pb2.ListOperationsResponse(operations=below)

    def _UploadModel(self, request: types.UploadModelRequest) -> operations_pb2.Operation:
        wanted = request.model
        for value in wanted.labels.values():
            if not _LABEL.fullmatch(value):
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"label {value}")
        if bool(request.parent_model) == bool(request.model_id):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "one of parent_model and model_id")
        name = request.parent_model or f"{request.parent}/models/{request.model_id}"
        if request.model_id and name in self.versions:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
        if request.parent_model:
            resource_of(self.versions, name)

        version_id = str(len(self.versions.get(name, [])) + 1)

        def work() -> None:
            aliases = list(wanted.version_aliases)
            wanted.version_aliases, wanted.name, wanted.version_id = [], name, version_id
            wanted.version_create_time = timestamp_pb2.Timestamp(seconds=int(version_id))
            self.versions.setdefault(name, []).append(wanted)
            self._merge(name, wanted, aliases if len(self.versions[name]) > 1 else [*aliases, "default"])

        return self.operation(name, types.UploadModelResponse(model=name, model_version_id=version_id), work)

    def _ListModelVersions(self, request: types.ListModelVersionsRequest) -> types.ListModelVersionsResponse:
        versions = resource_of(self.versions, request.name)
        # A page holds two, so that a client that reads only the first is found out.
        first = int(request.page_token or 0)
        following = str(first + 2) if first + 2 < len(versions) else ""
        return types.ListModelVersionsResponse(models=versions[first : first + 2], next_page_token=following)

    def _MergeVersionAliases(self, request: types.MergeVersionAliasesRequest) -> Model:
        name, _, version_id = request.name.partition("@")
        versions = resource_of(self.versions, name)
        version = next((version for version in versions if version.version_id == version_id), None)
        if version is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{request.name} not found")
        self._merge(name, version, list(request.version_aliases))
        return version

    def _merge(self, name: str, version: Model, aliases: list[str]) -> None:
        """An alias stands at one version; given to another, it leaves the first."""
        removed = {alias.removeprefix("-") for alias in aliases if alias.startswith("-")}
        added = [alias for alias in aliases if not alias.startswith("-")]
        if "default" in removed or not all(_ALIAS.fullmatch(alias) for alias in added):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"aliases {aliases}")
        for other in self.versions[name]:
            other.version_aliases = [alias for alias in other.version_aliases if alias not in added]
        kept = [alias for alias in version.version_aliases if alias not in removed]
        version.version_aliases = sorted([*kept, *added])

    def _CreateEndpoint(self, request: types.CreateEndpointRequest) -> operations_pb2.Operation:
        name = f"{request.parent}/endpoints/{request.endpoint_id}"
        if name in self.endpoints:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
        endpoint = request.endpoint
        endpoint.name = name
        self.endpoints[name] = endpoint
        return self.operation(name, endpoint)

    def _GetEndpoint(self, request: types.GetEndpointRequest) -> types.Endpoint:
        return resource_of(self.endpoints, request.name)

    def _UpdateEndpoint(self, request: types.UpdateEndpointRequest) -> types.Endpoint:
        endpoint = resource_of(self.endpoints, request.endpoint.name)
        assert list(request.update_mask.paths) == ["traffic_split"], "this fake changes nothing else"
        _check_traffic(endpoint, dict(request.endpoint.traffic_split))
        endpoint.traffic_split = dict(request.endpoint.traffic_split)
        return endpoint

    def _DeployModel(self, request: types.DeployModelRequest) -> operations_pb2.Operation:
        endpoint = resource_of(self.endpoints, request.endpoint)
        name, _, version_id = request.deployed_model.model.partition("@")
        if version_id not in [version.version_id for version in resource_of(self.versions, name)]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{request.deployed_model.model} not found")
        assert not request.traffic_split, "this fake deploys without traffic"
        deployed = request.deployed_model
        deployed.id = str(1000 + len(self.operations))
        deployed.model, deployed.model_version_id = name, version_id

        def work() -> None:
            endpoint.deployed_models = [*endpoint.deployed_models, deployed]

        return self.operation(request.endpoint, types.DeployModelResponse(deployed_model=deployed), work)

    def _UndeployModel(self, request: types.UndeployModelRequest) -> operations_pb2.Operation:
        endpoint = resource_of(self.endpoints, request.endpoint)
        if endpoint.traffic_split.get(request.deployed_model_id):
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "it has traffic")
        rest = [deployed for deployed in endpoint.deployed_models if deployed.id != request.deployed_model_id]
        if len(rest) == len(endpoint.deployed_models):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{request.deployed_model_id} not found")

        def work() -> None:
            endpoint.deployed_models = rest

        return self.operation(request.endpoint, types.UndeployModelResponse(), work)


def _check_traffic(endpoint: types.Endpoint, split: dict[str, int]) -> None:
    unknown = set(split) - {deployed.id for deployed in endpoint.deployed_models}
    if unknown or sum(split.values()) != 100:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"traffic {split}")


def resource_of(resources: dict[str, Any], name: str) -> Any:
    if name not in resources:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"{name} not found")
    return resources[name]


def listed(resources: dict[str, Any], request: Any) -> Iterator[Any]:
    """Those below the parent that the filter takes: one comparison of a field with a value, or none."""
    comparison = re.fullmatch(r'(\w+)="?([^"]*)"?', request.filter)
    for name, resource in resources.items():
        is_taken = comparison is None or str(getattr(resource, comparison[1])) == comparison[2]
        if name.startswith(f"{request.parent}/") and is_taken:
            yield resource
