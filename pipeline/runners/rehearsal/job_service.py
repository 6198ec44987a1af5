"""Runs inside an image: TFX's container entry point, with processes of this machine for Vertex AI's job service.

It is handed over as text, as `probe` is. TFX's Trainer for Vertex AI builds its CustomJob and waits for it as ever;
only the client that it would send it with is another.
"""

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
from concurrent import futures

# What TF_CONFIG calls the replicas of each pool. Others, parameter servers and evaluators, no strategy here has.
_TASKS = ("chief", "worker")
_OF_THE_MACHINE = ("HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED")


class LocalJobService:
    """The part of `google.cloud.aiplatform_v1.JobServiceClient` that TFX uses; a job has ended when it is created."""

    def __init__(self, images):
        """`images`: by name, "" for all others: its `path`, `workdir` and `environment`, as of `images.Image`."""
        self._images = images
        self._jobs = {}

    def create_custom_job(self, *, parent, custom_job):
        """Starts the containers of all worker pools and waits for them."""
        from google.cloud.aiplatform_v1.types.custom_job import CustomJob
        from google.cloud.aiplatform_v1.types.job_state import JobState
        from google.protobuf import json_format
        from google.rpc import code_pb2, status_pb2

        job = CustomJob(custom_job)  # refuses a field that CustomJob doesn't have
        sys.stdout.write(f"CustomJob here: {json.dumps(json_format.MessageToDict(CustomJob.pb(job)))}\n")
        codes = _wait(self._start(job.job_spec.worker_pool_specs))
        failed = any(codes)
        job.name = f"{parent}/customJobs/{len(self._jobs) + 1}"
        job.state = JobState.JOB_STATE_FAILED if failed else JobState.JOB_STATE_SUCCEEDED
        if failed:
            message = f"the workers ended with the exit codes {codes}"
            job.error = status_pb2.Status(code=code_pb2.INTERNAL, message=message)
        self._jobs[job.name] = job
        return job

    def get_custom_job(self, *, name, retry=None):
        """A job that was created."""
        return self._jobs[name]

    def _start(self, pools):
        replicas = []
        for number, pool in enumerate(pools):
            if pool.replica_count < 1 or not pool.machine_spec.machine_type:
                raise ValueError(f"worker pool {number} needs a replica_count and a machine_spec.machine_type")
            replicas += [(number, index, pool.container_spec) for index in range(pool.replica_count)]
        if not 1 <= len(pools) <= len(_TASKS) or pools[0].replica_count > 1:
            raise ValueError(
                "the first worker pool is one machine, the chief, and the second its workers; got pools of "
                f"{[pool.replica_count for pool in pools]}"
            )
        addresses = {number: [] for number, _, _ in replicas}
        for (number, _, _), address in zip(replicas, _free_addresses(len(replicas)), strict=True):
            addresses[number].append(address)
        return [self._start_replica(number, index, container, addresses) for number, index, container in replicas]

    def _start_replica(self, number, index, container, addresses):
        """A process with what Vertex AI tells a replica, and nothing of what the node that waits for it was told."""
        image = self._images.get(container.image_uri, self._images[""])
        variables = {name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ}
        variables |= {"PATH": image["path"], **image["environment"]}
        variables |= {entry.name: entry.value for entry in container.env}
        variables["CLUSTER_SPEC"] = _told("workerpool{}".format, number, index, addresses)
        if sum(map(len, addresses.values())) > 1:
            variables["TF_CONFIG"] = _told(_TASKS.__getitem__, number, index, addresses)
        command = [*container.command, *container.args]
        return subprocess.Popen(command, cwd=image["workdir"], env=variables)


def _told(name, number, index, addresses):
    """All replicas' addresses and which of them this is, by the names of CLUSTER_SPEC or of TF_CONFIG."""
    cluster = {name(pool): of_the_pool for pool, of_the_pool in addresses.items()}
    return json.dumps({"cluster": cluster, "task": {"type": name(number), "index": index}, "environment": "cloud"})


def _wait(processes):
    """Exit codes; as soon as one worker fails the others are ended, since they would wait for it."""
    with futures.ThreadPoolExecutor(len(processes) or 1) as pool:
        for ended in futures.as_completed([pool.submit(process.wait) for process in processes]):
            if ended.result() != 0:
                for process in processes:
                    process.kill()
    return [process.returncode for process in processes]


def _free_addresses(count):
    """All are held until the last is found, so that none is found twice."""
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in found]


def main():
    """Arguments: environments by image as JSON, the module of the entry point, and the arguments of that."""
    import types

    from tfx.extensions.google_cloud_ai_platform import training_clients

    images, module = json.loads(sys.argv[1]), sys.argv[2]
    service = LocalJobService(images)
    training_clients.gapic = types.SimpleNamespace(JobServiceClient=lambda client_options: service)
    sys.argv[:] = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
