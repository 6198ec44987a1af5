"""The weights that SimCLR's authors published, by an explicit map from our layers to theirs.

Their TensorFlow 2 files (SavedModels and training checkpoints) are graphs of objects: a variable is found by the path
of attributes that leads to it, whatever key it is stored under. Their TensorFlow 1 checkpoints and modules number the
layers in the order in which they were made. Kernels have one layout in both and here: height, width, in, out.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from trainer import resnet, weights
from trainer.config import EncoderConfig

_OBJECT_GRAPH, _VALUE = "_CHECKPOINTABLE_OBJECT_GRAPH", "VARIABLE_VALUE"
_CONV, _NORM = "conv2d", "batch_normalization"  # kinds of layers, by their names in TensorFlow 1
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
_VARIABLES = {_CONV: ("kernel",), _NORM: _STATISTICS}
_GRAPH_ENCODER, _GRAPH_HEAD = "model/resnet_model", "model/_projection_head"
_SCOPE_ENCODER, _SCOPE_HEAD = "base_model", "head_contrastive"

_Reader = Any  # what tf.train.load_checkpoint returns: TensorFlow does not export its class
_Layers = Iterator[tuple[str, str, str]]  # our layer, the path of theirs, and its kind, as the authors construct them


def load(path: str, encoder: tf_keras.Model, *, config: EncoderConfig, head: tf_keras.Model | None = None) -> None:
    """Reads published weights of SimCLR v1 or v2 into an encoder, and into a projection head where they have one.

    Args:
        path: folder of a SavedModel or TensorFlow 1 module, or prefix of a checkpoint.
        encoder: as `resnet.build_encoder` makes it of `config`.
        config: of the encoder; its norm is `batch` or `local_batch`.
        head: as `heads.projection_head` makes it, to be read too. The published networks of v2 have 3 layers; those
            of v1 come without a head. The authors' last norm has no β: here it becomes 0.

    Raises:
        ValueError: the network is not one of the authors', or the file holds other variables than the network has,
            or of other shapes; the message names them. Nothing has changed then.
    """
    reader = _open(path)
    in_graph = reader.has_tensor(_OBJECT_GRAPH)
    names = _encoder_names(config, resnet.stem_kind(config, encoder.input_shape[1]), in_graph=in_graph)
    roots = [_GRAPH_ENCODER if in_graph else _SCOPE_ENCODER]
    own = weights.named({"": encoder})
    without_counterpart = []
    if head is not None:
        depth = sum(isinstance(layer, tf_keras.layers.Dense) for layer in head.layers)
        names |= _head_names(depth, in_graph=in_graph)
        roots.append(_GRAPH_HEAD if in_graph else _SCOPE_HEAD)
        own |= weights.named({"": head})
        without_counterpart = [own.pop(f"projection{depth - 1}_norm/beta")] if depth else []
    if differing := sorted(names.keys() ^ own.keys()):
        raise ValueError(
            f"published networks have batch norm, and a projection in the first shortcut of every stage; this one "
            f"differs in {differing[:4]}: use norm batch and block bottleneck"
        )
    read = _read_graph if in_graph else _read_scopes
    tensors = read(reader, roots, list(names.values()))
    weights.assign({names[ours]: variable for ours, variable in own.items()}, tensors, source=path)
    for beta in without_counterpart:
        beta.assign(tf.zeros_like(beta))


def _encoder_names(config: EncoderConfig, stem: str, *, in_graph: bool) -> dict[str, str]:
    """Our variables → theirs: by path in a graph of objects, else by kind and number within a scope."""
    names: dict[str, str] = {}
    made: Counter[str] = Counter()
    for ours, layer_path, kind in _encoder_layers(config, stem):
        number = f"_{made[kind]}" if made[kind] else ""
        made[kind] += 1
        theirs = f"{_GRAPH_ENCODER}/{layer_path}" if in_graph else f"{_SCOPE_ENCODER}/{kind}{number}"
        names |= {f"{ours}/{variable}": f"{theirs}/{variable}" for variable in _VARIABLES[kind]}
    return names


def _head_names(depth: int, *, in_graph: bool) -> dict[str, str]:
    """As `_encoder_names`; the last norm of theirs has no β."""
    names: dict[str, str] = {}
    for layer in range(depth):
        graph = f"{_GRAPH_HEAD}/linear_layers/{layer}"
        scope = f"{_SCOPE_HEAD}/{'nl' if depth > 1 else 'l'}_{layer}"
        dense, norm = (
            (f"{graph}/dense", f"{graph}/bn_relu/bn") if in_graph else (f"{scope}/dense", f"{scope}/{_NORM}")
        )
        names[f"projection{layer}/kernel"] = f"{dense}/kernel"
        names |= {f"projection{layer}_norm/{variable}": f"{norm}/{variable}" for variable in _STATISTICS}
    if depth:
        del names[f"projection{depth - 1}_norm/beta"]
    return names


def _encoder_layers(config: EncoderConfig, stem: str) -> _Layers:
    yield from _stem_layers(config, stem)
    for stage, n_blocks in enumerate(config.stage_blocks):
        for block in range(n_blocks):
            ours, theirs = f"stage{stage}_block{block}", f"block_groups/{stage}/layers/{block}"
            if block == 0:
                yield from _shortcut_layers(config, f"{ours}_shortcut", theirs, strided=stage > 0)
            yield from _block_layers(config, ours, theirs)


def _conv_norm(ours: str, conv_path: str, norm_path: str) -> _Layers:
    yield f"{ours}_conv", f"{conv_path}/conv2d", _CONV
    yield f"{ours}_norm", f"{norm_path}/bn", _NORM


def _stem_layers(config: EncoderConfig, stem: str) -> _Layers:
    group = "initial_conv_relu_max_pool"
    if config.sk_ratio and stem == "imagenet":
        for part, conv, norm in (("a", 0, 1), ("b", 2, 3), ("c", 4, 6)):  # 5 names the tensor between
            yield from _conv_norm(f"stem_{part}", f"{group}/{conv}", f"{group}/{norm}")
    else:
        yield from _conv_norm("stem", f"{group}/0", f"{group}/2")


def _shortcut_layers(config: EncoderConfig, ours: str, theirs: str, *, strided: bool) -> _Layers:
    group = f"{theirs}/{'projection_layers' if config.block == 'bottleneck' else 'shortcut_layers'}"
    before = 0
    if config.sk_ratio:
        before = 2 if strided else 1  # ResNet-D's padding and pool
    yield from _conv_norm(ours, f"{group}/{before}", f"{group}/{before + 1}")


def _block_layers(config: EncoderConfig, ours: str, theirs: str) -> _Layers:
    if config.block == "basic":
        group = f"{theirs}/conv2d_bn_layers"
        yield from _conv_norm(f"{ours}_a", f"{group}/0", f"{group}/1")
        yield from _conv_norm(f"{ours}_b", f"{group}/2", f"{group}/3")
        return
    group = f"{theirs}/conv_relu_dropblock_layers"  # the third of each three is a drop-block without variables
    yield from _conv_norm(f"{ours}_a", f"{group}/0", f"{group}/1")
    if config.sk_ratio:
        selective = f"{group}/3"
        yield from _conv_norm(f"{ours}_b", f"{selective}/conv2d_fixed_padding", f"{selective}/batch_norm_relu")
        yield f"{ours}_b_reduce_conv", f"{selective}/conv2d_0", _CONV
        yield f"{ours}_b_reduce_norm", f"{selective}/batch_norm_relu_1/bn", _NORM
        yield f"{ours}_b_weigh_conv", f"{selective}/conv2d_1", _CONV
        yield from _conv_norm(f"{ours}_c", f"{group}/5", f"{group}/6")
    else:
        yield from _conv_norm(f"{ours}_b", f"{group}/3", f"{group}/4")
        yield from _conv_norm(f"{ours}_c", f"{group}/6", f"{group}/7")


def _open(path: str) -> _Reader:
    prefix = os.path.join(path, "variables", "variables")
    for candidate in (prefix, path):
        if tf.io.gfile.exists(f"{candidate}.index"):
            return tf.train.load_checkpoint(candidate)
    raise ValueError(f"{path}: must be the folder of a SavedModel or the prefix of a checkpoint, with an .index file")


def _read_scopes(reader: _Reader, roots: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """The tensors of the layers in some scopes by their names, without an optimiser's slots."""
    prefixes, variables = tuple(f"{root}/" for root in roots), {name.rpartition("/")[2] for name in names}
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith(prefixes) and name.rpartition("/")[2] in variables
    }


def _read_graph(reader: _Reader, roots: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """The tensors below some objects: by `names` where one leads to it, else by the variable's own name."""
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
    named = {_descend(graph, name): name for name in names}
    return {
        named.get(node, attribute.full_name): reader.get_tensor(attribute.checkpoint_key)
        for root in roots
        for node in sorted(_reachable(graph, _descend(graph, root)))
        for attribute in graph.nodes[node].attributes
        if attribute.name == _VALUE
    }


def _descend(graph: TrackableObjectGraph, path: str) -> int | None:
    """The number of the object at a path of attributes, None where there is none."""
    node = 0
    for name in path.split("/"):
        children = {child.local_name: child.node_id for child in graph.nodes[node].children}
        if name not in children:
            return None
        node = children[name]
    return node


def _reachable(graph: TrackableObjectGraph, start: int | None) -> set[int]:
    seen: set[int] = set()
    waiting = [] if start is None else [start]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [child.node_id for child in graph.nodes[node].children]
    return seen
