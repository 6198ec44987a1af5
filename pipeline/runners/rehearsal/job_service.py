"""Runs inside an image: TFX's container entry point, with processes of this machine for Vertex AI's job service.

It is handed over as text, as `probe` is. TFX's Trainer for Vertex AI builds its CustomJob and waits for it as ever;
only the client that it would send it with is another.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
from concurrent import futures


class LocalJobService:
    """The part of `google.cloud.aiplatform_v1.JobServiceClient` that TFX uses; a job has ended when it is created."""

    def __init__(self, images):
        """`images`: environments by the name of the image, "" for all others: `python` and `workdir`."""
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
        workers = []
        for number, pool in enumerate(pools):
            if pool.replica_count < 1 or not pool.machine_spec.machine_type:
                raise ValueError(f"worker pool {number} needs a replica_count and a machine_spec.machine_type")
            kind = "chief" if number == 0 else "worker"
            workers += [(kind, index, pool.container_spec) for index in range(pool.replica_count)]
        cluster = {}
        for kind, _, _ in workers:
            cluster.setdefault(kind, []).append(f"127.0.0.1:{_free_port()}")
        return [self._start_worker(kind, index, container, cluster) for kind, index, container in workers]

    def _start_worker(self, kind, index, container, cluster):
        image = self._images.get(container.image_uri, self._images[""])
        variables = {**os.environ, "PATH": image["path"], **{entry.name: entry.value for entry in container.env}}
        if sum(map(len, cluster.values())) > 1:
            variables["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
        command = [*container.command, *container.args]
        return subprocess.Popen(command, cwd=image["workdir"], env=variables)


def _wait(processes):
    """Exit codes; as soon as one worker fails the others are ended, since they would wait for it."""
    with futures.ThreadPoolExecutor(len(processes) or 1) as pool:
        for ended in futures.as_completed([pool.submit(process.wait) for process in processes]):
            if ended.result() != 0:
                for process in processes:
                    process.kill()
    return [process.returncode for process in processes]


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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
