"""No sum of a training step depends on which of TensorFlow's threads was faster.

Grappler makes one AddN of several additions, and AddN begins with the first term whose buffer it may write to: one
that nothing else reads any more. A term that another operation reads as well makes that a race between the two.
"""

import pytest
import tensorflow as tf
from example_files import class_images
from tensorflow.core.framework import types_pb2
from tensorflow.python.eager import context

from trainer import classifiers, heads, loop, resnet, stages, views
from trainer.config import AugmentConfig, ClassifierConfig, DistillConfig, EncoderConfig, HeadConfig, PretrainConfig

_FLOATS = {types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_DOUBLE}
_SIZE_PX = 32
EVERYTHING = AugmentConfig(
    rotate_probability=0.5, sobel_probability=0.5, noise_probability=0.5, cutout_probability=0.5, blur_probability=0.5
)
SELECTIVE = EncoderConfig(stage_blocks=(1, 1), width=4, block="bottleneck", sk_ratio=0.25)


def _batch(n_images):
    labels = [number % 4 for number in range(n_images)]
    return {
        "image": tf.constant(class_images(labels, size=_SIZE_PX + 8)),
        "size": tf.constant([[_SIZE_PX, _SIZE_PX + 8]] * len(labels)),
        "key": tf.range(len(labels), dtype=tf.int64),
        "label": tf.constant(labels, tf.int64),
        "epoch": tf.zeros([len(labels)], tf.int64),
    }


@pytest.fixture
def batch():
    return _batch(16)


def _racing(step, batch):
    """AddN of more than two floats, in what TensorFlow runs, that share a term with another operation."""
    context.enable_run_metadata()
    try:
        tf.function(step, autograph=False)(batch)
        graphs = [graph.post_optimization_graph for graph in context.export_run_metadata().function_graphs]
    finally:
        context.disable_run_metadata()
    assert any(graph.node for graph in graphs)
    found = []
    for graph in graphs:
        for nodes in [graph.node, *(function.node_def for function in graph.library.function)]:
            terms = {node.name: [name for name in node.input if not name.startswith("^")] for node in nodes}
            read = [name for names in terms.values() for name in names]
            # Two terms are the same sum in either order, and whole numbers are in any.
            sums = [n for n in nodes if n.op == "AddN" and n.attr["N"].i > 2 and n.attr["T"].type in _FLOATS]
            found += [node.name for node in sums if any(read.count(name) > 1 for name in terms[node.name])]
    return found


def _classifier():
    return heads.classifier_on(resnet.build_encoder(SELECTIVE, size_px=_SIZE_PX, seed=1), n_classes=4)


def _optimizer(config, *models):
    variables = [variable for model in models for variable in model.trainable_variables]
    return loop.build_optimizer(config, variables, batch_size=16, total_steps=4, steps_per_epoch=2)


def test_a_race_between_the_terms_of_a_sum_is_found(batch):
    def step(batch):
        terms = [tf.cast(batch["label"], tf.float32) * float(factor) for factor in range(2, 5)]
        return terms[0] + terms[1] + terms[2], terms[1] * 2.0

    assert len(_racing(step, batch)) == 1


@pytest.mark.parametrize("n_images", [16, 32])
def test_views_add_up_in_one_order_made_in_one_go_or_some_at_a_time(n_images):
    assert _racing(views.single_maker(EVERYTHING, size_px=_SIZE_PX, seed=1), _batch(n_images)) == []


def test_training_on_labels_adds_up_in_one_order(batch):
    config, model = ClassifierConfig(), _classifier()
    step = classifiers.classifier_step(config, model, _optimizer(config.optimizer, model), seed=1)
    assert _racing(step, batch) == []


def test_distillation_adds_up_in_one_order(batch):
    config, model = DistillConfig(label_weight=0.5), _classifier()
    optimizer = _optimizer(config.optimizer, model)
    assert _racing(classifiers.distill_step(config, model, optimizer, teacher=_classifier(), seed=1), batch) == []


def test_pretraining_adds_up_in_one_order(batch):
    config = PretrainConfig(encoder=SELECTIVE, head=HeadConfig(output_dim=8))
    encoder = resnet.build_encoder(SELECTIVE, size_px=_SIZE_PX, seed=1)
    head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=2)
    step = stages.pretrain_step(config, encoder, head, _optimizer(config.optimizer, encoder, head), seed=1)
    assert _racing(step, batch) == []
