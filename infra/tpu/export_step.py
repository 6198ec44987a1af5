"""The pretraining step as XLA's HLO, traced in the project's environment; `compile_hlo` compiles it for a TPU."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from infra.tpu.replicas import TracedReplicas
from trainer import heads, loop, resnet, stages
from trainer.config import PretrainConfig
from trainer.memory import Memory

_TOTAL_STEPS = 1000  # only constants of the schedule depend on it
_CANVAS_SIDES = 2  # of the short side: images are stored with sides in proportion up to 1:2, upright or lying
_MISSING_KERNEL = "kernel_that_no_tpu_has"


def build_step(config: PretrainConfig, *, image_px: int) -> tuple[loop.Step, dict[str, tf.TensorSpec]]:
    """The trainer's own step of one replica, and what it takes. Called in the scope of the strategy it runs under.

    Args:
        config: of the method; its batch size is that of all replicas.
        image_px: short side of the stored images, and side of the views where the configuration names none.
    """
    batch_size, size_px = config.batch_size, config.augment.crop.size_px or image_px
    with stages.building(config.compute) as strategy:
        encoder = resnet.build_encoder(config.encoder, size_px=size_px, seed=0)
        head = heads.projection_head(config.head, input_dim=encoder.output_shape[-1], seed=1)
        variables = encoder.trainable_variables + head.trainable_variables
        optimizer = loop.build_optimizer(
            config.optimizer, variables, batch_size=batch_size, total_steps=_TOTAL_STEPS, steps_per_epoch=1
        )
        memory = Memory(encoder, head, config=config.memory) if config.memory.queue_size else None
        step = stages.pretrain_step(config, encoder, head, optimizer, seed=0, memory=memory)
    share, canvas_px = batch_size // strategy.num_replicas_in_sync, _CANVAS_SIDES * image_px
    return step, {
        "image": tf.TensorSpec([share, canvas_px, canvas_px, 3], tf.uint8),
        "size": tf.TensorSpec([share, 2], tf.int32),
        "key": tf.TensorSpec([share], tf.int64),
        "epoch": tf.TensorSpec([share], tf.int64),
    }


def export_step(config: PretrainConfig, *, image_px: int, replicas: int, missing_kernel: bool = False) -> bytes:
    """Traces the step of one replica to an HLO module whose weights and optimiser state are donated parameters.

    Args:
        config: of the method; its batch size is that of all replicas, its strategy `one_device`, the current one.
        image_px: short side of the stored images.
        replicas: TPU devices that run the step together.
        missing_kernel: puts an op into the step that no TPU compiler knows, to see it refused.

    Returns:
        A serialized HloModuleProto.

    Raises:
        ValueError: an op of the step has no XLA lowering.
    """
    strategy = TracedReplicas(replicas)
    with strategy.scope():
        step, specs = build_step(config, image_px=image_px)

        # TensorFlow gives the compiler's IR of flat arguments only.
        @tf.function(jit_compile=True, autograph=False)
        def program(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            batch = dict(zip(specs, tensors, strict=True))
            if missing_kernel:
                batch["image"] = _through_missing_kernel(batch["image"])
            return strategy.run(step, (batch,))

        return program.experimental_get_compiler_ir(*specs.values())(stage="hlo_serialized", platform_name="CPU")


def _through_missing_kernel(x: tf.Tensor) -> tf.Tensor:
    return gen_xla_ops.xla_custom_call(
        [x], target_name=_MISSING_KERNEL, backend_config="", dtype=x.dtype, shape=x.shape
    )
