"""LARS: layer-wise adaptive rate scaling (You et al., arXiv 1708.03888) as SimCLR uses it."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable(package="simclr")
class LARS(tf_keras.optimizers.Optimizer):
    """Momentum SGD whose step in each variable is scaled by ‖w‖/‖g‖.

    g ← g + λ·w; ratio = trust·‖w‖/‖g‖, or 1 if either norm is 0; v ← momentum·v + lr·ratio·g; w ← w − v.
    """

    def __init__(
        self,
        learning_rate: float | tf_keras.optimizers.schedules.LearningRateSchedule,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        exclude: Iterable[tf.Variable | int] = (),
        name: str = "LARS",
        **kwargs: Any,
    ) -> None:
        """
        Args:
            learning_rate: number or schedule.
            momentum: in [0, 1).
            weight_decay: λ ≥ 0, added to the gradient before its norm is taken.
            trust_coefficient: of the ratio, over 0.
            exclude: variables that take neither decay nor ratio (batch-norm parameters, biases), or their positions
                among those that the optimizer is built on, as a saved configuration has them.
            name: of the optimizer.
            **kwargs: of `tf_keras.optimizers.Optimizer`.

        Raises:
            ValueError: a number out of its range.
        """
        _check(momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient)
        # None: the base class would decay a second time, beside the gradient, with whatever number it is given.
        super().__init__(name=name, weight_decay=None, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum = momentum
        self.decay = weight_decay
        self.trust_coefficient = trust_coefficient
        exclude = tuple(exclude)
        self._positions = frozenset(each for each in exclude if isinstance(each, int))
        self._excluded = frozenset(self._var_key(each) for each in exclude if not isinstance(each, int))

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes a velocity for each variable, once; steps of a part of them find theirs later.

        Raises:
            ValueError: a position to exclude is beyond the variables.
        """
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        if beyond := sorted(self._positions - set(range(len(var_list)))):
            raise ValueError(
                f"exclude {beyond}: there are {len(var_list)} variables; build the optimizer on those of the model "
                "that it was saved with"
            )
        self._excluded |= {self._var_key(var_list[position]) for position in self._positions}
        self.momentums = [
            self.add_variable_from_reference(model_variable=variable, variable_name="momentum")
            for variable in var_list
        ]
        self._built = True

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        velocity = self.momentums[self._index_dict[self._var_key(variable)]]
        learning_rate = tf.cast(self.learning_rate, variable.dtype)
        ratio = tf.ones([], variable.dtype)
        if self._var_key(variable) not in self._excluded:  # one key for the copies on all replicas
            gradient = gradient + self.decay * variable
            weight_norm, gradient_norm = _norm(variable), _norm(gradient)
            both = (weight_norm > 0) & (gradient_norm > 0)
            adapted = self.trust_coefficient * tf.math.divide_no_nan(weight_norm, gradient_norm)
            ratio = tf.where(both, tf.cast(adapted, variable.dtype), ratio)
        velocity.assign(self.momentum * velocity + learning_rate * ratio * gradient)
        variable.assign_sub(velocity)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; of the excluded variables their positions among those that are trained.

        Raises:
            ValueError: there are some, and the optimizer has not been built: their positions are not known.
        """
        if self._excluded and not getattr(self, "_built", False):
            raise ValueError(
                f"exclude {len(self._excluded)} variables: a configuration has them by position, which an optimizer "
                "knows once it is built; call optimizer.build(model.trainable_variables) before it is saved"
            )
        positions = {self._index_dict[key] for key in self._excluded if key in self._index_dict}
        config = super().get_config()
        config.update(
            learning_rate=self._serialize_hyperparameter(self._learning_rate),
            momentum=self.momentum,
            weight_decay=self.decay,
            trust_coefficient=self.trust_coefficient,
            exclude=sorted(positions | self._positions),
        )
        return config


def _norm(x: tf.Tensor) -> tf.Tensor:
    """In float32 at least: the squares of half floats overflow."""
    x = tf.convert_to_tensor(x)
    return tf.norm(tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x)


def _check(*, momentum: float, weight_decay: float, trust_coefficient: float) -> None:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum {momentum}: must be in [0, 1)")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay {weight_decay}: must be 0 or more")
    if not trust_coefficient > 0:
        raise ValueError(f"trust_coefficient {trust_coefficient}: must be more than 0")
