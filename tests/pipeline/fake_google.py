"""Google's REST services on loopback, as far as preflight asks them: one project in which, at first, all is well.

It proves what is asked and how answers are taken; it does not prove that Google answers so.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import loopback

from pipeline.runners.vertex_preflight.rest import Endpoints

DIGEST = f"sha256:{'ab' * 32}"


class FakeGoogle:
    """What the services know.

    Attributes:
        endpoints: of each service, the path that has its name.
        states: of projects.
        off: services that are not on.
        lacking: permissions that the caller has not.
        bindings: pairs of role and member on the project.
        buckets: locations by name.
        objects: names by bucket.
        accounts: service accounts that exist.
        packages: of Artifact Registry, with a tag or digest after a colon or at sign.
        limits: of quotas in every region; others are unlimited.
        resources: of Compute Engine and Cloud KMS, by path.
        zones: in which there is each type of machine.
        refusals: code and message of the next answers to URLs with this part.
        calls: all that was asked.
    """

    def __init__(self, url: str) -> None:
        self.endpoints = Endpoints(**{field.name: f"{url}/{field.name}" for field in dataclasses.fields(Endpoints)})
        self.states = {"my-project": "ACTIVE"}
        self.off: set[str] = set()
        self.lacking: set[str] = set()
        self.bindings: list[tuple[str, str]] = []
        self.buckets = {"my-bucket": "US-CENTRAL1"}
        self.objects = {"my-bucket": [f"images/{name}/1.png" for name in ("unlabeled", "labeled", "test")]}
        self.accounts = {"simclr-pipeline@my-project.iam.gserviceaccount.com"}
        self.packages = {"pipeline:v1", "trainer-tpu:v1"}
        self.limits: dict[str, int] = {}
        types = ("ct5lp-hightpu-4t", "e2-standard-4", "n1-standard-2", "n1-standard-8")
        self.zones = {machine: ["europe-west4-b", "us-central1-a", "us-central1-f"] for machine in types}
        self.resources: dict[str, dict[str, Any]] = {}
        self.refusals: list[tuple[str, int, str]] = []
        self.calls: list[loopback.Call] = []

    def answer(self, call: loopback.Call) -> tuple[int, dict[str, Any]]:
        self.calls.append(call)
        query, body = call.query, json.loads(call.body or "{}")
        path = call.path[call.path.index("/", 1) :]
        for refusal in self.refusals:
            if refusal[0] in path:
                self.refusals.remove(refusal)
                return refusal[1], {"error": {"message": refusal[2]}}
        parts = path.strip("/").split("/")
        last = unquote(parts[-1])
        if path.endswith(":testIamPermissions"):
            if "/serviceAccounts/" in path and last.partition(":")[0] not in self.accounts:
                return _missing(path)
            return 200, {"permissions": [name for name in body["permissions"] if name not in self.lacking]}
        if path.endswith(":getIamPolicy"):
            return 200, {"bindings": [{"role": role, "members": [member]} for role, member in self.bindings]}
        if path.endswith("/services:batchGet"):
            named = {name: name.rpartition("/")[2] in self.off for name in query["names"]}
            states = [{"name": name, "state": "DISABLED" if off else "ENABLED"} for name, off in named.items()]
            return 200, {"services": states}
        if path.startswith("/v3/projects/"):
            return (200, {"state": self.states[last]}) if last in self.states else _missing(path)
        if path.startswith("/storage/"):
            return self._storage(parts[3], parts[4:], query)
        if "/packages/" in path:
            return self._package(unquote(parts[-3]), parts[-2], last)
        if "/consumerQuotaMetrics/" in path:
            limit = self.limits.get(last.rpartition("/")[2], -1)
            buckets = [{"effectiveLimit": str(limit)}, {"effectiveLimit": "7", "dimensions": {"region": "mars"}}]
            return 200, {"consumerQuotaLimits": [{"unit": "1/{project}/{region}", "quotaBuckets": buckets}]}
        if path.endswith("/aggregated/machineTypes"):
            return 200, self._machine_types(query)
        return (200, self.resources[path]) if path in self.resources else _missing(path)

    def _storage(self, bucket: str, rest: list[str], query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if bucket not in self.buckets:
            return _missing(bucket)
        if rest[:1] == ["iam"]:
            return 200, {"permissions": [name for name in query["permissions"] if name not in self.lacking]}
        if rest == ["o"]:
            found = [name for name in self.objects.get(bucket, []) if name.startswith(query.get("prefix", [""])[0])]
            return 200, {"items": [{"name": name} for name in found[:1]]} if found else {}
        return 200, {"location": self.buckets[bucket]}

    def _machine_types(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """A page holds one zone, so that a client that reads only the first is found out."""
        machine = query["filter"][0].removeprefix("name=")
        zones = ["us-east1-b", *self.zones.get(machine, [])]
        number = int(query.get("pageToken", ["0"])[0])
        here = zones[number] in self.zones.get(machine, [])
        of_zone = {"machineTypes": [{"name": machine}]} if here else {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
        further = {"nextPageToken": str(number + 1)} if number + 1 < len(zones) else {}
        return {"items": {f"zones/{zones[number]}": of_zone}} | further

    def _package(self, name: str, kind: str, version: str) -> tuple[int, dict[str, Any]]:
        if f"{name}{':' if kind == 'tags' else '@'}{version}" not in self.packages:
            return _missing(name)
        return 200, {"name": name, "version": f"projects/p/versions/{DIGEST}"}


@contextmanager
def serving() -> Iterator[FakeGoogle]:
    """The fake, answering on a port of its own."""

    with loopback.serving(lambda call: fake.answer(call)) as address:
        fake = FakeGoogle(address)
        yield fake


def _missing(what: str) -> tuple[int, dict[str, Any]]:
    return 404, {"error": {"message": f"{what} not found"}}
