"""Tiny steps through the TPU compiler, by the code of `make tpu-check`."""

import functools
import re

import pytest
import tensorflow as tf
from click.testing import CliRunner

from infra.tpu import check, compile_hlo, export_step
from infra.tpu.replicas import TracedReplicas
from infra.tpu.targets import REPLICAS, TARGETS
from trainer import distributed
from trainer.config import AugmentConfig, CropConfig, EncoderConfig, HeadConfig

EVERY_REPLICA = "{{0,1,2,3,4,5,6,7}}"
SIMILARITIES_OVER_16_GB = 12_000  # images of a core: [2·12,000, 2·96,000] float32
SMALL_CROP = AugmentConfig(crop=CropConfig(size_px=8))
EVERY_OP = AugmentConfig(
    crop=CropConfig(size_px=8, probability=0.5, interpolation="bicubic"),
    brightness="additive",
    blur_probability=0.5,
    rotate_probability=0.5,
    sobel_probability=0.5,
    noise_probability=0.5,
    cutout_probability=0.5,
)
AUTOAUGMENT = AugmentConfig(
    crop=CropConfig(size_px=8), policy="autoaugment", jitter_strength=0.0, grayscale_probability=0.0
)
COMPILED = {
    "hbm_available": 2**34,
    "hbm_needed": 2**30,
    "flops": 5e9,
    "collectives": {"all-reduce": 3},
    "libtpu": "0",
}

needs_compiler = pytest.mark.skipif(
    not check.COMPILER.exists(), reason="the TPU compiler isn't installed; 'make tpu-check' installs it (1.2 GB)"
)


@functools.cache
def tiny_step(batch=2, *, augment=SMALL_CROP, missing_kernel=False):
    config, _ = check.configured(check.Case("laptop", "mixed_bfloat16", batch, "v5e"))
    config = config.model_copy(
        update={
            "encoder": EncoderConfig(stage_blocks=(1,), width=8),
            "head": HeadConfig(output_dim=8),
            "augment": augment,
        }
    )
    return export_step.export_step(config, image_px=8, replicas=REPLICAS, missing_kernel=missing_kernel)


@needs_compiler
@pytest.mark.parametrize("target", TARGETS)
def test_step_compiles_for_each_target(target):
    result = check.compile_for(target, tiny_step())
    assert "refusal" not in result
    assert 0 < result["hbm_needed"] < result["hbm_available"]
    assert result["flops"] > 0
    assert result["collectives"]["all-reduce"] > 1  # gradients could travel in one; statistics and z come before them


@needs_compiler
@pytest.mark.parametrize("augment", [EVERY_OP, AUTOAUGMENT], ids=["every_op", "autoaugment"])
def test_step_compiles_with_all_that_a_view_can_be(augment):
    assert "refusal" not in check.compile_for("v5e", tiny_step(augment=augment))


@needs_compiler
def test_batch_that_does_not_fit_is_refused_with_both_sizes():
    result = check.compile_for("v5e", tiny_step(SIMILARITIES_OVER_16_GB))
    assert result["refusal"]["about"] == "memory"
    assert result["hbm_needed"] > result["hbm_available"] == 15.75 * 2**30
    assert "15.75G are there" in result["refusal"]["reason"]


@needs_compiler
def test_op_without_a_tpu_lowering_is_refused_by_name():
    result = check.compile_for("v5e", tiny_step(missing_kernel=True))
    assert result["refusal"]["about"] == "op"
    assert "kernel_that_no_tpu_has" in result["refusal"]["reason"]


def test_step_for_a_tpu_computes_in_bfloat16_whatever_the_host_has(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "_CPU_INFO", tmp_path / "none")
    assert distributed.emulates_bfloat16()
    with TracedReplicas(REPLICAS).scope():
        assert not distributed.emulates_bfloat16()


def hlo_of(fn, *specs):
    strategy = TracedReplicas(REPLICAS)
    with strategy.scope():
        program = tf.function(lambda *tensors: strategy.run(fn, tensors), jit_compile=True, autograph=False)
        return program.experimental_get_compiler_ir(*specs)(stage="hlo", platform_name="CPU")


@pytest.mark.parametrize("op, divisions", [("SUM", 0), ("MEAN", 1)])
def test_reduction_in_a_replica_becomes_an_all_reduce_over_all_of_them(op, divisions):
    def reduced(x):
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp[op], x)

    text = hlo_of(reduced, tf.TensorSpec([3]))
    assert re.findall(r" all-reduce\(.*replica_groups=(\S+),", text) == [EVERY_REPLICA]
    assert len(re.findall(r" divide\(", text)) == divisions


def test_replica_knows_its_number_and_how_many_there_are():
    def number(x):
        context = tf.distribute.get_replica_context()
        return context.replica_id_in_sync_group + x * context.num_replicas_in_sync

    text = hlo_of(number, tf.TensorSpec([], tf.int32))
    assert " replica-id()" in text
    assert "constant(8)" in text


@pytest.mark.parametrize(
    "message, about, words",
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for "
            "HLO temporaries (43.22G) exceeds available HBM (15.75G). HLO module: step.\nSee the manual.",
            "memory",
            "needs 43.22G of memory where 15.75G are there",
        ),
        ("INVALID_ARGUMENT: Custom emitter for resize not found\n\t\nSuspected", "op", "Custom emitter for resize"),
        ("INTERNAL: RET_CHECK failure\nmore", "other", "INTERNAL: RET_CHECK failure"),
    ],
)
def test_refusal_says_what_it_is_about(message, about, words):
    refusal = compile_hlo.refusal(message)["refusal"]
    assert refusal["about"] == about
    assert words in refusal["reason"]
    assert "\n" not in refusal["reason"]


class Compiler:
    """Answers like the compiler: refuses what it is told to, and keeps what it was asked."""

    def __init__(self, monkeypatch, **refusals):
        self.refusals, self.traced, self.compiled = refusals, [], []
        monkeypatch.setattr(check, "trace", self.trace)
        monkeypatch.setattr(check, "compile_for", self.compile_for)

    def trace(self, case):
        self.traced.append(case)
        return case

    def compile_for(self, target, case):
        self.compiled.append(target)
        name = "op" if case.missing_kernel else "memory" if case.batch == 512 else target
        about = self.refusals.get(name)
        return {**COMPILED, "refusal": {"about": about, "reason": "because"}} if about else COMPILED


def test_check_passes_when_all_compiles_but_what_must_not(monkeypatch):
    compiler = Compiler(monkeypatch, op="op", memory="memory")
    done = CliRunner().invoke(check.main)
    assert done.exit_code == 0, done.output
    assert compiler.compiled == [*TARGETS, *TARGETS, "v5e", "v5e"]
    assert [(case.precision, case.batch, case.missing_kernel) for case in compiler.traced] == [
        ("mixed_bfloat16", 64, False),
        ("float32", 64, False),
        ("float32", 512, False),
        ("mixed_bfloat16", 64, True),
    ]
    assert "3 all-reduce" in done.output


@pytest.mark.parametrize(
    "refusals",
    [
        {"op": "op", "memory": "memory", "v4": "memory"},
        {"op": "op"},
        {"memory": "memory"},
        {"op": "other", "memory": "memory"},
    ],
    ids=[
        "asked_step_refused",
        "unfit_batch_compiled",
        "missing_op_compiled",
        "missing_op_refused_for_another_reason",
    ],
)
def test_check_fails_where_the_outcome_is_another(monkeypatch, refusals):
    Compiler(monkeypatch, **refusals)
    done = CliRunner().invoke(check.main)
    assert done.exit_code == 1
    assert "NOT EXPECTED" in done.output


def test_asked_batch_that_does_not_fit_fails_in_words(monkeypatch):
    Compiler(monkeypatch, memory="memory")
    asked = ["--target", "v3", "--precision", "float32", "--batch", "512", "--no-refusals"]
    done = CliRunner().invoke(check.main, asked)
    assert done.exit_code == 1
    assert "refused: because" in done.output


def test_op_that_tensorflow_cannot_lower_is_refused_before_any_compiler(monkeypatch):
    def untraceable(case):
        raise ValueError("Detected unsupported operations when trying to compile graph: EncodeJpeg\nmore")

    compiler = Compiler(monkeypatch)
    monkeypatch.setattr(check, "trace", untraceable)
    done = CliRunner().invoke(check.main, ["--target", "v3", "--no-refusals"])
    assert done.exit_code == 1
    assert compiler.compiled == []
    assert "EncodeJpeg" in done.output
