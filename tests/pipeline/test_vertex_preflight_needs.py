"""What preflight says that a run needs and costs: quotas at its busiest, dollars, each counted by hand."""

import json
from collections import Counter

import golden_job
import pytest
from preflight_settings import DISTIL, GPU, IN_ITS_NODE, OLD_TPU, T4, TABLE, config, gravest, words

from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners import kubeflow
from pipeline.runners.vertex_preflight import cost, needs
from pipeline.runners.vertex_preflight.findings import Severity


def test_nodes_are_those_of_the_compiled_pipeline():
    job = json.loads(golden_job.GOLDEN.read_text())
    names = [name for name, _ in kubeflow.tasks(job["pipelineSpec"])]
    kinds = Counter(kubeflow._KINDS[name.partition("-")[0]] for name in names)
    assert needs.nodes(config(*golden_job.OVERRIDES)) == kinds


def test_dataflow_jobs_are_those_of_the_compiled_pipeline():
    job = json.loads(golden_job.GOLDEN.read_text())
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    hiring = [
        name for name, one in executors.items() if "--runner=DataflowRunner" in one["container"].get("args", [])
    ]
    kinds = Counter(kubeflow._kind(name.removesuffix("_executor")) for name in hiring)
    kinds["transform"] += 1  # LabelFractionSplit's second
    assert kinds == needs.DATAFLOW_JOBS


def at_once(*overrides):
    """Every set of nodes that may run at one time, as far as what they wait for tells."""
    locations = Locations(artifacts="a", checkpoints="c", pushed="p")
    nodes = {node.id: node for node in create_pipeline(config(*overrides), locations).components}
    before: dict[str, set[str]] = {}
    for name, node in nodes.items():  # each after those that it waits for
        direct = {upstream.id for upstream in node.upstream_nodes}
        before[name] = direct.union(*(before[upstream] for upstream in direct))

    def beside(chosen, rest):
        yield chosen
        for number, name in enumerate(rest):
            others = [
                other for other in rest[number + 1 :] if name not in before[other] and other not in before[name]
            ]
            yield from beside([*chosen, name], others)

    return list(beside([], list(nodes)))


def largest(counters):
    found = {frozenset(one.items()): one for one in counters}.values()
    return [one for one in found if not any(one < other for other in found)]


@pytest.mark.parametrize(
    "overrides",
    [
        ("fractions=[0.1]",),
        ("fractions=[0.1,0.5]", "retrain.store=gs://my-bucket/spans"),
        ("fractions=[0.1]", *DISTIL),
        ("fractions=[0.1,0.5]", *DISTIL, "retrain.store=gs://my-bucket/spans"),
    ],
)
def test_no_more_of_the_graph_can_run_at_once_than_a_phase_says(overrides):
    sets, phases = at_once(*overrides), needs.phases(config(*overrides))
    found = largest(Counter(map(kubeflow._kind, names)) for names in sets)
    assert [one for one in found if not any(one <= phase for phase in phases)] == []
    if "distill.enabled=true" not in overrides:  # then none of them is larger than the graph, either
        assert {frozenset(one.items()) for one in largest(+phase for phase in phases)} == {
            frozenset(one.items()) for one in found
        }
    on_dataflow = max(sum(name.startswith(kubeflow._ON_DATAFLOW) for name in names) for names in sets)
    assert on_dataflow == needs.DATAFLOW_JOBS_AT_ONCE


def quota(*overrides):
    return {item.metric: (item.least, item.peak) for item in needs.quotas(config(*overrides), TABLE)}


def test_quotas_of_the_example_by_hand():
    assert quota("fractions=[0.1,0.5]") == {
        # After pretraining, four nodes on 8 vCPUs and one on 4.
        "custom_model_training_cpus": (8, 4 * 8 + 4),
        "custom_model_training_nvidia_t4_gpus": (1, 4),
        "custom_model_training_preemptible_tpu_v5e": (4, 4),
        "cpus": (4, 4 * 20 * 3),  # three jobs of Dataflow
    }


def test_quotas_of_distillation_by_hand():
    assert quota(*DISTIL, "fractions=[0.1,0.5]") == {
        # After pretraining, four nodes on 8 vCPUs and one on 4, and on 4 the two that distil.
        "custom_model_training_cpus": (8, 4 * 8 + 4 + 2 * 4),
        "custom_model_training_nvidia_t4_gpus": (1, 4),
        "custom_model_training_preemptible_tpu_v5e": (4, 2 * 4),
        "cpus": (4, 4 * 20 * 3),
    }


def test_quotas_of_large_nodes_of_each_kind_are_of_all_that_run_at_once():
    for kind, count in {"check": 3, "transform": 2, "publish": 1}.items():
        peak = quota(*IN_ITS_NODE, "beam.runner=local", f"vertex.nodes.{kind}.cpu=90", "fractions=[0.1]")
        assert peak["custom_model_training_cpus"][1] // 90 == count, kind


def test_quotas_of_several_machines_with_gpus_by_hand():
    hired = quota(
        *T4, "vertex.pretraining.spot=false", "vertex.pretraining.machines=3", "fractions=[0.1]", "beam.runner=local",
        "pretrain.batch_size=999",
        "pretrain.compute.strategy=multi_worker", "vertex.nodes.classify.accelerator=null",
        "vertex.nodes.classify.accelerator_count=0",
    )  # fmt: skip
    # During pretraining: its node on 4, its machines on 24, one Supervised on 8.
    assert hired == {
        "custom_model_training_cpus": (24, 36),
        "custom_model_training_nvidia_t4_gpus": (3, 3),
    }


def test_quota_of_old_tpus_counts_cores():
    assert quota(*OLD_TPU, "vertex.pretraining.accelerator=TPU_V3", "vertex.pretraining.spot=false")[
        "custom_model_training_tpu_v3"
    ] == (8, 8)


def dollars(*overrides):
    [found] = cost.estimate(config(*overrides), TABLE)
    low, high = found.words.split(" for one run")[0].replace("$", "").replace(",", "").split(" to ")
    return float(low), float(high)


def test_cost_of_pretraining_by_hand():
    alone = ("beam.runner=local", "vertex.pretraining.spot=false")
    one, two = dollars(*alone), dollars(*alone, "vertex.pretraining.timeout_h=48")
    # A v5e host of four chips, its 100 GB SSD, and the node that waits: 4 vCPUs and 16 GB.
    hour = 1.15 * (4.8 + 100 * 0.17 / 730 + 4 * 0.021811 + 16 * 0.002923)
    assert two[1] - one[1] == pytest.approx(24 * hour, abs=0.02)
    assert two[0] - one[0] == pytest.approx(2.4 * hour, abs=0.02)


def test_cost_of_each_distillation_is_that_of_a_pretraining():
    alone = ("beam.runner=local", "vertex.pretraining.spot=false", "fractions=[0.1,0.5]")
    hour = 1.15 * (4.8 + 100 * 0.17 / 730 + 4 * 0.021811 + 16 * 0.002923)
    assert dollars(*alone, *DISTIL)[1] - dollars(*alone)[1] == pytest.approx(2 * 24 * hour, abs=0.02)
    [found] = cost.estimate(config(*alone, *DISTIL), TABLE)
    assert "Pretrain's and Distill's machines" in found.words


def test_cost_tells_the_date_what_it_assumes_and_that_prices_differ_elsewhere():
    [here] = cost.estimate(config(), TABLE)
    assert f"table of {TABLE.date}" in here.words and "pretrain 2.4 h to timeout_h, 24 h" in here.words
    [there] = cost.estimate(config("vertex.region=europe-west4"), TABLE)
    assert "1.45 times the prices of us-central1" in there.words
    assert dollars("vertex.region=europe-west4")[1] > 1.4 * dollars()[1]


def test_spot_dataflow_and_gpus_change_the_cost():
    assert dollars()[1] < dollars("vertex.pretraining.spot=false")[1]
    assert dollars()[1] > dollars("beam.runner=local")[1]
    classify = ("vertex.nodes.classify.accelerator=null", "vertex.nodes.classify.accelerator_count=0")
    assert dollars()[1] > dollars(*classify)[1]
    assert dollars(*T4)[1] < dollars(*T4, "vertex.pretraining.spot=false")[1]


def test_cost_says_where_spot_is_counted_at_the_full_price():
    a100 = (*GPU, "vertex.pretraining.machine_type=a2-highgpu-1g", "vertex.pretraining.accelerator=NVIDIA_TESLA_A100")
    [found] = cost.estimate(config(*a100), TABLE)
    assert "NVIDIA_TESLA_A100 at the full price, for want of that of spot" in found.words
    for known in ((*a100, "vertex.pretraining.spot=false"), T4, ()):
        assert "full price" not in cost.estimate(config(*known), TABLE)[0].words


def test_endpoint_is_priced_by_the_hour_and_its_machine_looked_up():
    served = ("vertex.registry.endpoint=photos", "vertex.registry.min_replicas=3", "vertex.registry.max_replicas=3")
    n1 = TABLE.families["n1"]
    hour = 3 * (4 * n1.vcpu_usd + 15 * n1.gb_usd) * TABLE.prices.training_factor
    found = cost.estimate(config(*served, "vertex.registry.machine_type=n1-standard-4"), TABLE)
    assert f"the endpoint photos: ${hour:.2f} an hour" in found[-1].words
    unknown = (*served, "vertex.registry.machine_type=x9-standard-4")
    assert cost.estimate(config(*unknown), TABLE)[-1].severity is Severity.NOT_CHECKED
    assert gravest(*unknown, of="vertex.registry.machine_type") is Severity.WARNING
    assert gravest(*served, of="vertex.registry.machine_type") is Severity.OK
    assert "endpoint" not in words(cost.estimate(config(), TABLE), cost.COST)
