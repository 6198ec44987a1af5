import numpy as np
import pytest
import safetensors.numpy
import tf_keras

from trainer import heads, resnet, weights
from trainer.config import EncoderConfig, HeadConfig


def networks(*, width=4):
    encoder = resnet.build_encoder(
        EncoderConfig(stage_blocks=(1,), width=width, block="bottleneck", sk_ratio=0.0625), size_px=8, seed=3
    )
    return {
        "encoder": encoder,
        "head": heads.projection_head(HeadConfig(output_dim=2), input_dim=4 * width, seed=0),
    }


def distinct(models):
    """Gives each variable values of its own."""
    generator = np.random.default_rng(0)
    for variable in weights.named(models).values():
        variable.assign(generator.uniform(0.1, 1, variable.shape))
    return models


def test_names_are_those_of_model_layer_and_variable():
    names = weights.named(networks())
    assert {"encoder/stem_conv/kernel", "encoder/stage0_block0_c_norm/gamma"} <= set(names)
    assert {"encoder/stage0_block0_b_reduce_norm/moving_mean", "head/projection1_norm/moving_variance"} <= set(names)
    assert len(names) == sum(len(model.weights) for model in networks().values())
    again = weights.named(networks())  # built later in the same process
    assert list(again) == list(names)


def test_names_without_a_model_are_those_of_the_layers():
    assert "projection0/kernel" in weights.named({"": networks()["head"]})


def test_names_that_come_twice_are_an_error():
    nested = tf_keras.Sequential([networks()["head"]])  # one layer with two kernels
    with pytest.raises(ValueError, match=r"'projection_head/kernel'.* come twice"):
        weights.named({"": nested})


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_saved_weights_are_loaded_to_the_bit(tmp_path, suffix):
    path = str(tmp_path / f"weights.{suffix}")
    saved, loaded = distinct(networks()), networks()
    weights.save(saved, path)
    weights.load(loaded, path)
    for (name, variable), expected in zip(weights.named(loaded).items(), weights.named(saved).values(), strict=True):
        np.testing.assert_array_equal(variable, expected, err_msg=name)


def test_saved_weights_are_plain_tensors_for_other_libraries(tmp_path):
    models = distinct(networks())
    for suffix, read in ((".safetensors", safetensors.numpy.load_file), (".npz", np.load)):
        path = tmp_path / f"weights{suffix}"
        weights.save(models, str(path))
        kernel = read(path)["encoder/stem_conv/kernel"]
        np.testing.assert_array_equal(kernel, models["encoder"].get_layer("stem_conv").kernel)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_weights_that_do_not_fit_are_listed_and_change_nothing(tmp_path, suffix):
    path = str(tmp_path / f"weights.{suffix}")
    models = networks()
    weights.save({"encoder": networks(width=5)["encoder"], "extra": models["head"]}, path)
    before = [model.get_weights() for model in models.values()]
    with pytest.raises(ValueError, match="do not fit") as error:
        weights.load(models, path)
    message = str(error.value)
    assert "10 missing: head/projection0/kernel" in message and "10 extra: extra/projection0/kernel" in message
    assert "encoder/stage0_block0_a_conv/kernel (must be (1, 1, 4, 4), is (1, 1, 5, 5))" in message
    assert " more" in message
    for model, values in zip(models.values(), before, strict=True):
        for value, expected in zip(model.get_weights(), values, strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("kept", [0, 3, 200, -20])
def test_weights_file_cut_short_is_named_and_changes_nothing(tmp_path, suffix, kept):
    path = tmp_path / f"weights.{suffix}"
    models = networks()
    weights.save(models, str(path))
    path.write_bytes(path.read_bytes()[:kept])
    before = weights.digest(models["encoder"])
    with pytest.raises(ValueError, match=rf"weights\.{suffix} is damaged \(.*make it anew"):
        weights.load(models, str(path))
    assert weights.digest(models["encoder"]) == before


def test_pickled_array_among_weights_is_never_loaded(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, kernel=np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        weights.load(networks(), str(path))


@pytest.mark.parametrize("act", [weights.save, weights.load])
def test_weights_file_of_another_kind_is_an_error(act):
    with pytest.raises(ValueError, match=r"'w\.pickle': must end in \.safetensors or \.npz"):
        act(networks(), "w.pickle")
