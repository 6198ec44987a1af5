"""The TPUs that the step is compiled for. Imported by both environments, so it needs neither TensorFlow nor JAX."""

from dataclasses import dataclass

REPLICAS = 8  # of every target, so that one trace serves them all


@dataclass(frozen=True)
class Target:
    """A slice of a TPU pod with eight devices as TensorFlow sees them.

    Attributes:
        topology: name of the slice for the compiler.
        accelerator_type: name of the slice in Google Cloud.
        chip_config: how the cores of a chip are joined.
    """

    topology: str
    accelerator_type: str
    chip_config: str = "default"


TARGETS = {
    "v3": Target("v3:2x2", "v3-8"),
    # The two cores of a v4 chip work as one device with all the chip's memory, the default of Google Cloud.
    "v4": Target("v4:2x2x2", "v4-16", chip_config="megacore"),
    "v5e": Target("v5e:2x4", "v5litepod-8"),
}
