import json

import click.testing
import numpy as np
import pytest
import tensorflow as tf

from trainer import cli, export, heads, published, resnet, weights
from trainer.config import EncoderConfig, HeadConfig

PLAIN = EncoderConfig(stage_blocks=(2, 1), width=4, block="bottleneck", stem="imagenet")
SELECTIVE = PLAIN.model_copy(update={"sk_ratio": 0.0625})
SMALL_STEM = EncoderConfig(stage_blocks=(1,), width=4, block="bottleneck", stem="small")
SELECTIVE_SMALL_STEM = SMALL_STEM.model_copy(update={"sk_ratio": 0.0625})
HEAD = HeadConfig(layers=3, output_dim=5)
NORM_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")

# Of each layer in the order in which the authors make them: our name, the attributes that lead to it from their
# network, its number among layers of its kind (0 has none in its name), and the shape of its kernel or of its γ.
_STEM = "initial_conv_relu_max_pool"
_GROUP0, _GROUP1 = "block_groups/0/layers", "block_groups/1/layers"
_BLOCK = "conv_relu_dropblock_layers"
PLAIN_STEM_LAYERS = [
    ("stem_conv", f"{_STEM}/0/conv2d", "conv2d", (7, 7, 3, 4)),
    ("stem_norm", f"{_STEM}/2/bn", "batch_normalization", (4,)),
]
PLAIN_LAYERS = [
    *PLAIN_STEM_LAYERS,
    ("stage0_block0_shortcut_conv", f"{_GROUP0}/0/projection_layers/0/conv2d", "conv2d_1", (1, 1, 4, 16)),
    ("stage0_block0_shortcut_norm", f"{_GROUP0}/0/projection_layers/1/bn", "batch_normalization_1", (16,)),
    ("stage0_block0_a_conv", f"{_GROUP0}/0/{_BLOCK}/0/conv2d", "conv2d_2", (1, 1, 4, 4)),
    ("stage0_block0_a_norm", f"{_GROUP0}/0/{_BLOCK}/1/bn", "batch_normalization_2", (4,)),
    ("stage0_block0_b_conv", f"{_GROUP0}/0/{_BLOCK}/3/conv2d", "conv2d_3", (3, 3, 4, 4)),
    ("stage0_block0_b_norm", f"{_GROUP0}/0/{_BLOCK}/4/bn", "batch_normalization_3", (4,)),
    ("stage0_block0_c_conv", f"{_GROUP0}/0/{_BLOCK}/6/conv2d", "conv2d_4", (1, 1, 4, 16)),
    ("stage0_block0_c_norm", f"{_GROUP0}/0/{_BLOCK}/7/bn", "batch_normalization_4", (16,)),
    ("stage0_block1_a_conv", f"{_GROUP0}/1/{_BLOCK}/0/conv2d", "conv2d_5", (1, 1, 16, 4)),
    ("stage0_block1_a_norm", f"{_GROUP0}/1/{_BLOCK}/1/bn", "batch_normalization_5", (4,)),
    ("stage0_block1_b_conv", f"{_GROUP0}/1/{_BLOCK}/3/conv2d", "conv2d_6", (3, 3, 4, 4)),
    ("stage0_block1_b_norm", f"{_GROUP0}/1/{_BLOCK}/4/bn", "batch_normalization_6", (4,)),
    ("stage0_block1_c_conv", f"{_GROUP0}/1/{_BLOCK}/6/conv2d", "conv2d_7", (1, 1, 4, 16)),
    ("stage0_block1_c_norm", f"{_GROUP0}/1/{_BLOCK}/7/bn", "batch_normalization_7", (16,)),
    ("stage1_block0_shortcut_conv", f"{_GROUP1}/0/projection_layers/0/conv2d", "conv2d_8", (1, 1, 16, 32)),
    ("stage1_block0_shortcut_norm", f"{_GROUP1}/0/projection_layers/1/bn", "batch_normalization_8", (32,)),
    ("stage1_block0_a_conv", f"{_GROUP1}/0/{_BLOCK}/0/conv2d", "conv2d_9", (1, 1, 16, 8)),
    ("stage1_block0_a_norm", f"{_GROUP1}/0/{_BLOCK}/1/bn", "batch_normalization_9", (8,)),
    ("stage1_block0_b_conv", f"{_GROUP1}/0/{_BLOCK}/3/conv2d", "conv2d_10", (3, 3, 8, 8)),
    ("stage1_block0_b_norm", f"{_GROUP1}/0/{_BLOCK}/4/bn", "batch_normalization_10", (8,)),
    ("stage1_block0_c_conv", f"{_GROUP1}/0/{_BLOCK}/6/conv2d", "conv2d_11", (1, 1, 8, 32)),
    ("stage1_block0_c_norm", f"{_GROUP1}/0/{_BLOCK}/7/bn", "batch_normalization_11", (32,)),
]
SMALL_STEM_LAYERS = [("stem_conv", f"{_STEM}/0/conv2d", "conv2d", (3, 3, 3, 4)), *PLAIN_LAYERS[1:10]]


def selective_block(ours, theirs, *, conv, norm, inputs, filters):
    selective = f"{theirs}/{_BLOCK}/3"
    return [
        (f"{ours}_a_conv", f"{theirs}/{_BLOCK}/0/conv2d", f"conv2d_{conv}", (1, 1, inputs, filters)),
        (f"{ours}_a_norm", f"{theirs}/{_BLOCK}/1/bn", f"batch_normalization_{norm}", (filters,)),
        (
            f"{ours}_b_conv",
            f"{selective}/conv2d_fixed_padding/conv2d",
            f"conv2d_{conv + 1}",
            (3, 3, filters, 2 * filters),
        ),
        (f"{ours}_b_norm", f"{selective}/batch_norm_relu/bn", f"batch_normalization_{norm + 1}", (2 * filters,)),
        (f"{ours}_b_reduce_conv", f"{selective}/conv2d_0", f"conv2d_{conv + 2}", (1, 1, filters, 32)),
        (f"{ours}_b_reduce_norm", f"{selective}/batch_norm_relu_1/bn", f"batch_normalization_{norm + 2}", (32,)),
        (f"{ours}_b_weigh_conv", f"{selective}/conv2d_1", f"conv2d_{conv + 3}", (1, 1, 32, 2 * filters)),
        (f"{ours}_c_conv", f"{theirs}/{_BLOCK}/5/conv2d", f"conv2d_{conv + 4}", (1, 1, filters, 4 * filters)),
        (f"{ours}_c_norm", f"{theirs}/{_BLOCK}/6/bn", f"batch_normalization_{norm + 3}", (4 * filters,)),
    ]


SELECTIVE_LAYERS = [
    ("stem_a_conv", f"{_STEM}/0/conv2d", "conv2d", (3, 3, 3, 2)),
    ("stem_a_norm", f"{_STEM}/1/bn", "batch_normalization", (2,)),
    ("stem_b_conv", f"{_STEM}/2/conv2d", "conv2d_1", (3, 3, 2, 2)),
    ("stem_b_norm", f"{_STEM}/3/bn", "batch_normalization_1", (2,)),
    ("stem_c_conv", f"{_STEM}/4/conv2d", "conv2d_2", (3, 3, 2, 4)),
    ("stem_c_norm", f"{_STEM}/6/bn", "batch_normalization_2", (4,)),
    ("stage0_block0_shortcut_conv", f"{_GROUP0}/0/projection_layers/1/conv2d", "conv2d_3", (1, 1, 4, 16)),
    ("stage0_block0_shortcut_norm", f"{_GROUP0}/0/projection_layers/2/bn", "batch_normalization_3", (16,)),
    *selective_block("stage0_block0", f"{_GROUP0}/0", conv=4, norm=4, inputs=4, filters=4),
    *selective_block("stage0_block1", f"{_GROUP0}/1", conv=9, norm=8, inputs=16, filters=4),
    ("stage1_block0_shortcut_conv", f"{_GROUP1}/0/projection_layers/2/conv2d", "conv2d_14", (1, 1, 16, 32)),
    ("stage1_block0_shortcut_norm", f"{_GROUP1}/0/projection_layers/3/bn", "batch_normalization_12", (32,)),
    *selective_block("stage1_block0", f"{_GROUP1}/0", conv=15, norm=13, inputs=16, filters=8),
]
SELECTIVE_SMALL_STEM_LAYERS = [
    *SMALL_STEM_LAYERS[:2],
    ("stage0_block0_shortcut_conv", f"{_GROUP0}/0/projection_layers/1/conv2d", "conv2d_1", (1, 1, 4, 16)),
    ("stage0_block0_shortcut_norm", f"{_GROUP0}/0/projection_layers/2/bn", "batch_normalization_1", (16,)),
    *selective_block("stage0_block0", f"{_GROUP0}/0", conv=2, norm=2, inputs=4, filters=4),
]
NETWORKS = [
    (PLAIN, PLAIN_LAYERS),
    (SELECTIVE, SELECTIVE_LAYERS),
    (SMALL_STEM, SMALL_STEM_LAYERS),
    (SELECTIVE_SMALL_STEM, SELECTIVE_SMALL_STEM_LAYERS),
]


def tensors_of(layers):
    """(our name, path of attributes, name in TensorFlow 1, a value like no other) of each variable of an encoder."""
    generator = np.random.default_rng(0)
    for ours, path, numbered, shape in layers:
        for part in ("kernel",) if len(shape) == 4 else NORM_PARTS:
            value = generator.normal(size=shape).astype(np.float32)
            yield f"{ours}/{part}", f"model/resnet_model/{path}/{part}", f"base_model/{numbered}/{part}", value


def tensors_of_head(dimensions):
    """As `tensors_of`, of a projection head of three layers, whose last norm has no β."""
    generator = np.random.default_rng(1)
    for layer, outputs in enumerate((dimensions, dimensions, 5)):
        graph, scope = f"model/_projection_head/linear_layers/{layer}", f"head_contrastive/nl_{layer}"
        kernel = generator.normal(size=[dimensions, outputs]).astype(np.float32)
        yield f"projection{layer}/kernel", f"{graph}/dense/kernel", f"{scope}/dense/kernel", kernel
        parts = ("gamma", "moving_mean", "moving_variance") if layer == 2 else NORM_PARTS
        for part in parts:
            value = generator.normal(size=[outputs]).astype(np.float32)
            ours, path = f"projection{layer}_norm/{part}", f"{graph}/bn_relu/bn/{part}"
            yield ours, path, f"{scope}/batch_normalization/{part}", value


def as_objects(tensors):
    """Nested objects, as the authors' layers are, with other things beside the network."""
    root = tf.Module()
    for _, path, numbered, value in tensors:
        *parents, leaf = path.split("/")
        node = root
        for name in parents:
            if not hasattr(node, name):
                setattr(node, name, tf.Module())
            node = getattr(node, name)
        setattr(node, leaf, tf.Variable(value, name=numbered))
    root.model.supervised_head = tf.Module()
    root.model.supervised_head.kernel = tf.Variable(tf.zeros([2, 2]))
    return root


def write_saved_model(tensors, folder):
    root = as_objects(tensors)
    # A second way to some variables: the shortest one gives the key that they are stored under.
    root.variables_of_all = [root.model.resnet_model.initial_conv_relu_max_pool, *root.variables[:3]]
    tf.saved_model.save(root, str(folder / "saved"))
    return str(folder / "saved")


def write_checkpoint(tensors, folder):
    return tf.train.Checkpoint(model=as_objects(tensors).model).write(str(folder / "ckpt"))


def write_numbered(tensors, folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for _, _, name, value in tensors]
        variables += [tf.compat.v1.Variable(value, name=f"{name}/Momentum") for _, _, name, value in tensors]
        variables.append(tf.compat.v1.Variable(1, name="global_step"))
        session.run([variable.initializer for variable in variables])
        return tf.compat.v1.train.Saver(variables).save(session, str(folder / "model.ckpt"), global_step=7)


@pytest.mark.parametrize("write", [write_saved_model, write_checkpoint, write_numbered])
@pytest.mark.parametrize(("config", "layers"), NETWORKS, ids=["plain", "selective", "small", "selective-small"])
def test_every_variable_of_the_encoder_receives_its_own_published_value(tmp_path, config, layers, write):
    tensors = list(tensors_of(layers))
    encoder = resnet.build_encoder(config, size_px=None, seed=0)
    published.load(write(tensors, tmp_path), encoder, config=config)
    own = weights.named({"": encoder})
    assert own.keys() == {ours for ours, *_ in tensors}
    for ours, *_, value in tensors:
        np.testing.assert_array_equal(own[ours], value, err_msg=ours)


@pytest.mark.parametrize("write", [write_saved_model, write_numbered])
def test_published_head_is_read_and_its_last_norm_gets_no_offset(tmp_path, write):
    tensors = [*tensors_of(SMALL_STEM_LAYERS), *tensors_of_head(16)]
    encoder = resnet.build_encoder(SMALL_STEM, size_px=8, seed=0)
    head = heads.projection_head(HEAD, input_dim=16, seed=0)
    head.get_layer("projection2_norm").beta.assign(np.ones(5))
    published.load(write(tensors, tmp_path), encoder, config=SMALL_STEM, head=head)
    own = weights.named({"": encoder}) | weights.named({"": head})
    for ours, *_, value in tensors:
        np.testing.assert_array_equal(own[ours], value, err_msg=ours)
    assert own.keys() - {ours for ours, *_ in tensors} == {"projection2_norm/beta"}
    assert not own["projection2_norm/beta"].numpy().any()


def test_stem_follows_the_size_where_the_configuration_leaves_it_open(tmp_path):
    config = SMALL_STEM.model_copy(update={"stem": None})
    encoder = resnet.build_encoder(config, size_px=8, seed=0)
    tensors = list(tensors_of(SMALL_STEM_LAYERS))
    published.load(write_checkpoint(tensors, tmp_path), encoder, config=config)
    np.testing.assert_array_equal(encoder.get_layer("stem_conv").kernel, tensors[0][-1])


@pytest.mark.parametrize("write", [write_saved_model, write_numbered])
def test_file_of_another_network_is_refused_by_name_and_changes_nothing(tmp_path, write):
    encoder = resnet.build_encoder(SMALL_STEM, size_px=8, seed=0)
    before = encoder.get_weights()
    wide = [(*names, value[..., :3]) for *names, value in tensors_of(SMALL_STEM_LAYERS[:1])]
    # Missing are the norm of the stem and more; extra is a layer that the network has not.
    extra = ("", "model/resnet_model/se_layer/kernel", "base_model/conv2d_77/kernel", np.zeros([1], np.float32))
    path = write([*wide, *list(tensors_of(SMALL_STEM_LAYERS))[5:], extra], tmp_path)
    with pytest.raises(ValueError, match="weights do not fit") as error:
        published.load(path, encoder, config=SMALL_STEM)
    message = str(error.value)
    stem = "model/resnet_model/initial_conv_relu_max_pool" if write is write_saved_model else "base_model"
    norm = f"{stem}/2/bn/beta" if write is write_saved_model else f"{stem}/batch_normalization/beta"
    kernel = f"{stem}/0/conv2d/kernel" if write is write_saved_model else f"{stem}/conv2d/kernel"
    assert f"4 missing: {norm}" in message and "1 extra: base_model/conv2d_77/kernel" in message
    assert f"1 misshapen: {kernel} (must be (3, 3, 3, 4), is (3, 3, 3, 3))" in message
    for value, expected in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_head_that_the_file_lacks_is_refused(tmp_path):
    path = write_saved_model(list(tensors_of(SMALL_STEM_LAYERS)), tmp_path)
    encoder = resnet.build_encoder(SMALL_STEM, size_px=8, seed=0)
    head = heads.projection_head(HEAD, input_dim=16, seed=0)
    with pytest.raises(ValueError, match="14 missing: model/_projection_head/linear_layers/0/bn_relu/bn/beta"):
        published.load(path, encoder, config=SMALL_STEM, head=head)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"norm": "group"}, "moving_mean"), ({"block": "basic"}, "stage0_block0_shortcut_conv/kernel")],
)
def test_network_that_the_authors_never_built_is_refused(tmp_path, change, named):
    path = write_checkpoint(list(tensors_of(SMALL_STEM_LAYERS)), tmp_path)
    config = SMALL_STEM.model_copy(update=change)
    with pytest.raises(ValueError, match="published networks") as error:
        published.load(path, resnet.build_encoder(config, size_px=8, seed=0), config=config)
    assert named in str(error.value)


def test_path_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="folder of a SavedModel or the prefix of a checkpoint"):
        published.load(str(tmp_path), resnet.build_encoder(SMALL_STEM, size_px=8, seed=0), config=SMALL_STEM)


@pytest.mark.parametrize("has_head", [True, False])
def test_command_takes_published_weights_over_as_a_pretraining(tmp_path, has_head):
    tensors = [*tensors_of(SMALL_STEM_LAYERS), *(tensors_of_head(16) if has_head else [])]
    path, output = write_checkpoint(tensors, tmp_path), str(tmp_path / "pretrained")
    file = tmp_path / "network.yaml"
    network = {"encoder": SMALL_STEM.model_dump(mode="json"), "head": HEAD.model_dump(mode="json")}
    file.write_text(json.dumps({"pretrain": network}))
    arguments = ["published", "--weights", path, "--size", "8", "--config", str(file), "--output", output]
    own = dict.fromkeys(["TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"])
    result = click.testing.CliRunner(env=own).invoke(cli.main, arguments + ([] if has_head else ["--without-head"]))
    assert result.exit_code == 0, (result.output, result.exception)
    found = weights.named({"": export.load_encoder(output)[0]})
    if has_head:
        found |= weights.named({"": export.load_head(output)[0]})
        assert not found.pop("projection2_norm/beta").numpy().any()
    else:
        assert list(export.load_networks(output)) == ["encoder"]
    assert found.keys() == {ours for ours, *_ in tensors}
    for ours, *_, value in tensors:
        np.testing.assert_array_equal(found[ours], value, err_msg=ours)
