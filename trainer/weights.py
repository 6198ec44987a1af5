"""The weights of models in plain files: every tensor by the name of its layer, and nothing but tensors."""

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
import tensorflow as tf
import tf_keras

from trainer.enumeration import first_few

SUFFIXES = (".safetensors", ".npz")
_LISTED = 10  # differences of a kind that a message spells out


def named(models: Mapping[str, tf_keras.Model]) -> dict[str, tf.Variable]:
    """All weights of some models as `model/layer/variable`, such as `encoder/stem_conv/kernel`.

    Args:
        models: by the name that they have in the file; an empty name adds nothing to its weights' names.

    Raises:
        ValueError: two weights of one name.
    """
    pairs = [
        ("/".join(filter(None, (name, layer.name, variable.name.rsplit("/", 1)[-1].removesuffix(":0")))), variable)
        for name, model in models.items()
        for layer in model.layers
        for variable in layer.weights
    ]
    variables = dict(pairs)
    if len(variables) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"weights must have names of their own, but {twice} come twice; name the layers apart")
    return variables


def save(models: Mapping[str, tf_keras.Model], path: str) -> None:
    """Writes weights, batch-norm statistics included.

    Args:
        models: as of `named`.
        path: ends in `.safetensors` or `.npz`; its folder is made.

    Raises:
        ValueError: another ending.
    """
    tensors = {name: np.ascontiguousarray(variable.numpy()) for name, variable in named(models).items()}
    write = {".safetensors": _write_safetensors, ".npz": _write_npz}[_suffix(path)]
    with tempfile.TemporaryDirectory() as folder:
        local = str(Path(folder) / f"weights{_suffix(path)}")
        write(tensors, local)
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        tf.io.gfile.copy(local, path, overwrite=True)


def load(models: Mapping[str, tf_keras.Model], path: str) -> None:
    """Reads what `save` wrote into models of the same layers.

    Args:
        models: as they were saved; none is changed unless all of the file fits.
        path: ends in `.safetensors` or `.npz`.

    Raises:
        ValueError: another ending, a damaged file, or weights that are missing, extra or of another shape, each by
            its name.
    """
    suffix = _suffix(path)
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        if suffix == ".npz":
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                tensors = {name: archive[name] for name in archive.files}
        else:
            tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): it holds no whole weights; make it anew") from error
    assign(named(models), tensors, source=path)


def assign(variables: Mapping[str, tf.Variable], tensors: Mapping[str, np.ndarray], *, source: str) -> None:
    """Gives every variable the tensor of its name.

    Args:
        variables: by name.
        tensors: by the same names, of the same shapes.
        source: of the tensors, for the message.

    Raises:
        ValueError: a tensor is missing, extra or of another shape. No variable has changed then.
    """
    check(
        {name: tuple(variable.shape) for name, variable in variables.items()},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        source=source,
    )
    for name, variable in variables.items():
        variable.assign(tensors[name])


def copy_of(model: tf_keras.Model) -> tf_keras.Model:
    """A functional model of the same layers and weights, its variables made in the current strategy's scope."""
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def digest(model: tf_keras.Model) -> str:
    """Tells two networks apart: a hash of all weights, batch-norm statistics included."""
    state = hashlib.sha256()
    for tensor in model.get_weights():
        state.update(np.ascontiguousarray(tensor))
    return state.hexdigest()


def check(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, source: str) -> None:
    """Compares two sets of names and shapes.

    Raises:
        ValueError: they differ; the message lists what is missing, extra and misshapen.
    """
    differences = {
        "missing": sorted(expected.keys() - found.keys()),
        "extra": sorted(found.keys() - expected.keys()),
        "misshapen": [
            f"{name} (must be {expected[name]}, is {found[name]})"
            for name in sorted(expected.keys() & found.keys())
            if expected[name] != found[name]
        ],
    }
    listed = [f"{len(names)} {kind}: {first_few(names, _LISTED)}" for kind, names in differences.items() if names]
    if listed:
        raise ValueError(
            f"{source}: the weights do not fit the network. {'; '.join(listed)}. Build the network that was saved"
        )


def _suffix(path: str) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"weights file {path!r}: must end in {' or '.join(SUFFIXES)}")
    return suffix


def _write_safetensors(tensors: dict[str, np.ndarray], path: str) -> None:
    safetensors.numpy.save_file(tensors, path)


def _write_npz(tensors: dict[str, np.ndarray], path: str) -> None:
    np.savez(path, **tensors)
