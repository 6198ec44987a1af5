"""Embeddings by batch prediction: what is sent, one job however often it is asked for, how its end is told."""

import re

import fake_storage
import golden_job
import golden_requests
import grpc
import pytest
from click.testing import CliRunner
from fake_batch import batch
from google.cloud import aiplatform

from components.vertex_push.registry import Registry
from pipeline import cli
from pipeline.runners import vertex_batch, vertex_registry
from pipeline.runners.vertex_calls import ServiceError
from trainer.config import ConfigError

PLACE = "projects/my-project/locations/us-central1"
PHOTOS, OUTPUT = "gs://my-bucket/photos", "gs://my-bucket/embeddings"
BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
pytestmark = pytest.mark.usefixtures("storage", "waits")


def register(number, *overrides):
    registry = Registry(golden_requests.config(*overrides).vertex.target)
    registry.upload(golden_requests.pushed_version(number), fingerprint=number * 64)


@pytest.fixture
def fake(fake):
    """Two versions, of which the first is the champion."""
    for number in "12":
        register(number)
    vertex_registry.promote(golden_requests.config().vertex, "1")
    return fake


@pytest.fixture
def storage(monkeypatch):
    with fake_storage.serving(monkeypatch) as served:
        served.put(*(f"{PHOTOS}/{name}" for name in ("a.jpg", "b/c.PNG", "b/d.bmp", "e.gif", "f.jpeg")))
        yield served


def embed(*overrides, images=PHOTOS, output=OUTPUT, **arguments):
    return vertex_batch.embed(golden_requests.config(*overrides).vertex, images, output, **arguments)


def test_job_asks_for_the_version_and_the_listed_images_as_the_same_account(fake, storage):
    key = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    region, machine = "vertex.region=europe-west4", "vertex.registry.machine_type=n1-highmem-4"
    register("1", region)
    fake.hosts.clear()
    made = embed(
        region, machine, "vertex.registry.min_replicas=2", "vertex.registry.max_replicas=5", f"vertex.kms_key={key}",
        version="candidate",
    )  # fmt: skip
    [request] = fake.called("CreateBatchPredictionJob")
    job = request.batch_prediction_job
    place = PLACE.replace("us-central1", "europe-west4")
    assert (request.parent, job.model) == (place, f"{place}/models/simclr@1")
    assert set(fake.hosts) == {"europe-west4-aiplatform.googleapis.com:443"}
    assert job.service_account == "simclr-pipeline@my-project.iam.gserviceaccount.com"
    assert (job.encryption_spec.kms_key_name, dict(job.labels)) == (key, {"team": "vision"})
    machines = job.dedicated_resources
    assert machines.machine_spec.machine_type == "n1-highmem-4"
    assert (machines.starting_replica_count, machines.max_replica_count) == (2, 5)
    assert (made.version, made.n_images, made.is_new, made.state) == ("1", 5, True, "PENDING")
    assert made.link == (
        "https://console.cloud.google.com/vertex-ai/locations/europe-west4/batch-predictions/1?project=my-project"
    )


def test_list_beside_the_results_names_the_images_below_the_folder_and_nothing_else(fake, storage):
    storage.put("gs://my-bucket/photos2/x.jpg", "gs://my-bucket/x.jpg")
    storage.put(*(f"{PHOTOS}/{name}" for name in ("labels.csv", "g.webp", ".trash/x.jpg", "__MACOSX/x.jpg", "b/")))
    embed()
    [request] = fake.called("CreateBatchPredictionJob")
    source = request.batch_prediction_job.input_config
    [listed] = source.gcs_source.uris
    assert source.instances_format == "file-list"
    assert re.fullmatch(rf"{OUTPUT}/images-[0-9a-f]{{16}}\.txt", listed)
    assert storage.text(listed) == "".join(
        f"{PHOTOS}/{name}\n" for name in ("a.jpg", "b/c.PNG", "b/d.bmp", "e.gif", "f.jpeg")
    )


def test_whole_bucket_is_a_folder(fake, storage):
    storage.put("gs://other/1.png")
    assert embed(images="gs://other", output="gs://results").n_images == 1
    [request] = fake.called("CreateBatchPredictionJob")
    assert request.batch_prediction_job.output_config.gcs_destination.output_uri_prefix == "gs://results"


def test_hidden_folder_that_is_named_is_no_litter(fake, storage):
    storage.put("gs://my-bucket/.cache/1.png")
    assert embed(images="gs://my-bucket/.cache").n_images == 1


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUCCEEDED", "PARTIALLY_SUCCEEDED"])
def test_same_version_images_and_output_find_the_job_and_send_nothing(fake, storage, state):
    first = embed()
    for job in fake.batch_jobs.values():
        batch(state)(job)
    second = embed("vertex.registry.machine_type=n1-highmem-4", images=f"{PHOTOS}/", output=f"{OUTPUT}/", version="1")
    assert (second.name, second.is_new, second.state) == (first.name, False, state)
    assert len(fake.called("CreateBatchPredictionJob")) == storage.uploads == 1


def test_job_is_found_among_others_on_any_page(fake, storage):
    first = embed()
    for number in range(5):
        embed(output=f"{OUTPUT}/{number}")
    for job in fake.batch_jobs.values():
        job.display_name = fake.batch_jobs[first.name].display_name
    for name in list(fake.batch_jobs)[1:]:
        batch("FAILED")(fake.batch_jobs[name])
    assert embed().name == first.name


def test_another_version_output_image_or_content_is_another_job(fake, storage):
    names = {embed().name, embed(version="2").name, embed(output=f"{OUTPUT}/2").name}
    storage.put(f"{PHOTOS}/g.jpg")
    names.add(embed().name)
    storage.put(f"{PHOTOS}/g.jpg", content=b"another photo")
    names.add(embed().name)
    assert len(names) == len(fake.batch_jobs) == 5


def test_champion_after_a_promotion_is_another_job(fake):
    first = embed()
    vertex_registry.promote(golden_requests.config().vertex, "2")
    second = embed()
    assert (first.version, second.version) == ("1", "2")
    assert second.is_new


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_failed_job_does_not_stand_in_the_way_of_another(fake, state):
    first = embed()
    batch(state)(fake.batch_jobs[first.name])
    second = embed()
    assert second.is_new and second.name != first.name
    assert embed() == vertex_batch.BatchJob(**{**vars(second), "is_new": False})


@pytest.mark.parametrize("code", BUSY[1:])
@pytest.mark.parametrize("failed_before", [False, True])
@pytest.mark.parametrize("fails_at_once", [False, True])
def test_answer_lost_after_the_job_was_begun_makes_no_second(fake, code, failed_before, fails_at_once):
    if failed_before:
        batch("FAILED")(fake.batch_jobs[embed().name])
    n_before = len(fake.batch_jobs)

    def create(request, kept=fake._CreateBatchPredictionJob):
        job = kept(request)
        if fails_at_once:
            batch("FAILED")(job)
        return job

    fake._CreateBatchPredictionJob = create
    fake.refuse("CreateBatchPredictionJob", code, after=True)
    made = embed()
    assert made.is_new and list(fake.batch_jobs)[n_before:] == [made.name]


@pytest.mark.parametrize("code", BUSY)
@pytest.mark.parametrize("method", ["ListModelVersions", "ListBatchPredictionJobs", "CreateBatchPredictionJob"])
def test_busy_service_is_asked_again(fake, waits, method, code):
    fake.refuse(method, code, times=2)
    assert embed().is_new
    assert len(fake.batch_jobs) == 1 and len(waits) == 2


@pytest.mark.parametrize("refusals", [[503, 429], [0], [200, 200, 200, 503], [200, 200, 200, 0]])
def test_busy_storage_is_asked_again(fake, storage, waits, refusals):
    storage.refusals = refusals
    assert embed().n_images == 5
    assert len(waits) >= 1 and len(fake.batch_jobs) == 1


def test_storage_that_goes_away_before_the_list_is_written_is_told_and_no_job_begun(fake, storage):
    storage.refusals = [200] * 3 + [0] * 100
    with pytest.raises(ServiceError, match=rf"{OUTPUT}/images-[0-9a-f]+\.txt: "):
        embed()
    assert fake.batch_jobs == {}


def test_refusals_are_told_and_not_tried_again(fake, storage):
    fake.refuse("CreateBatchPredictionJob", grpc.StatusCode.PERMISSION_DENIED, "batchPredictionJobs.create denied")
    with pytest.raises(
        ServiceError, match=r"embed: batchPredictionJobs.create denied\nyou need roles/aiplatform.user"
    ):
        embed()
    assert len(fake.called("CreateBatchPredictionJob")) == 1
    storage.refusals = [403]
    with pytest.raises(ServiceError, match=r"embed: .*refused my-bucket$"):
        embed()


@pytest.mark.parametrize("arguments", [{"images": "photos"}, {"output": "/tmp/h"}, {"images": "gs://"}])
def test_folder_that_is_not_on_cloud_storage_is_refused_before_anything_is_asked(fake, arguments):
    asked = len(fake.calls)
    with pytest.raises(ConfigError, match=r"(images|output) = .*: Vertex AI .*give gs://bucket/folder"):
        embed(**arguments)
    assert len(fake.calls) == asked


def test_folder_without_images_and_unknown_version_are_told(fake):
    with pytest.raises(ServiceError, match=r"no image in gs://my-bucket/phot: its files must end in one of \.jpg, "):
        embed(images="gs://my-bucket/phot")
    with pytest.raises(ServiceError, match=r"has no version 7; it has 1 \(champion, default\), 2 \(candidate\)"):
        embed(version="7")
    assert fake.batch_jobs == {}


def follow(fake, *steps):
    made = embed()
    fake.script_batch(*steps)
    said, waited = [], []

    def wait(seconds):
        waited.append(seconds)
        assert len(waited) < len(steps), "it looks on after the end"

    folder = vertex_batch.follow(golden_requests.config().vertex, made.name, say=said.append, wait=wait)
    return folder, said, waited


def test_follow_says_each_state_once_and_ends_with_the_folder(fake):
    steps = [batch("PENDING"), batch("RUNNING"), batch("RUNNING"), batch("SUCCEEDED", successful_count=5)]
    folder, said, waited = follow(fake, *steps)
    assert folder == f"{OUTPUT}/prediction-simclr-2026"
    assert said == ["pending", "running", "succeeded"]
    assert len(waited) == 3


def test_follow_goes_on_when_the_service_is_busy(fake, waits):
    fake.refuse("GetBatchPredictionJob", grpc.StatusCode.UNAVAILABLE, times=2)
    follow(fake, batch("SUCCEEDED", successful_count=5, incomplete_count=-1))
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (batch("FAILED", error="out of memory"), "ended FAILED: out of memory$"),
        (batch("FAILED", error="too many", failures=("a.jpg: no image",)), "FAILED: too many\na.jpg: no image$"),
        (batch("CANCELLED"), "ended CANCELLED: without a message"),
        (batch("EXPIRED"), "ended EXPIRED"),
        (batch("SUCCEEDED", successful_count=3, failed_count=2, failures=("a.jpg: no image",)),
         rf"3 of 5 images are embedded, in {OUTPUT}/prediction-simclr-2026; .*\na.jpg: no image$"),
        (batch("PARTIALLY_SUCCEEDED", successful_count=3, failed_count=1, incomplete_count=1), "3 of 5 images"),
    ],
)  # fmt: skip
def test_job_that_leaves_images_without_embedding_is_an_error_with_its_message(fake, step, words):
    with pytest.raises(ServiceError, match=words):
        follow(fake, batch("RUNNING"), step)


def test_job_can_be_listed_and_cancelled_by_the_sdk(fake):
    made = embed()
    [job] = aiplatform.BatchPredictionJob.list(project="my-project", location="us-central1")
    assert job.resource_name == made.name
    job.cancel()
    assert embed().is_new


def invoke(*arguments):
    given = ["embeddings", "--config", str(golden_job.EXAMPLE), "--images", PHOTOS, "--output", OUTPUT]
    return CliRunner().invoke(cli.main, [*given, *arguments])


def test_command_says_what_it_began_and_what_was_there(fake):
    done = invoke()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("version 1 embeds 5 images: job 1, begun\nhttps://console.cloud.google.com/")
    assert "job 1, begun before, PENDING; nothing was sent" in invoke("--version", "champion").stdout
    assert "version 2 embeds 5 images: job 2, begun\n" in invoke("--version", "candidate").stdout


def test_command_waits_and_ends_with_the_job(fake, monkeypatch):
    waited = []
    monkeypatch.setitem(vertex_batch.follow.__kwdefaults__, "wait", waited.append)
    fake.script_batch(batch("RUNNING"), batch("FAILED", error="out of memory"))
    failed = invoke("--wait")
    assert failed.exit_code == 1 and "the job ended FAILED: out of memory" in failed.stderr
    assert waited == [30]
    fake.script_batch(batch("SUCCEEDED", successful_count=5))
    done = invoke("--wait")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"succeeded\nembeddings: {OUTPUT}/prediction-simclr-2026\n")


@pytest.mark.parametrize("missing", ["vertex.project=null", "vertex.registry.model=null"])
def test_command_without_a_model_ends_with_code_2_and_the_field(fake, missing):
    done = invoke("--set", missing)
    assert done.exit_code == 2
    assert f"{missing.replace('=', ' = ')}: must be given" in done.stderr
