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
        exclude: Iterable[tf.Variable] = (),
        name: str = "LARS",
        **kwargs: Any,
    ) -> None:
        """
        Args:
            learning_rate: number or schedule.
            momentum: in [0, 1).
            weight_decay: λ ≥ 0, added to the gradient before its norm is taken.
            trust_coefficient: of the ratio.
            exclude: variables that take neither decay nor ratio (batch-norm parameters, biases).
            name: of the optimizer.
            **kwargs: of `tf_keras.optimizers.Optimizer`.
        """
        super().__init__(name=name, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum = momentum
        self.decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self._excluded = frozenset(self._var_key(variable) for variable in exclude)

    def build(self, var_list: list[tf.Variable]) -> None:
        super().build(var_list)
        if not hasattr(self, "momentums"):
            self.momentums = [
                self.add_variable_from_reference(model_variable=variable, variable_name="momentum")
                for variable in var_list
            ]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        velocity = self.momentums[self._index_dict[self._var_key(variable)]]
        learning_rate = tf.cast(self.learning_rate, variable.dtype)
        ratio = tf.ones([], variable.dtype)
        if self._var_key(variable) not in self._excluded:  # one key for the copies on all replicas
            gradient = gradient + self.decay * variable
            weight_norm, gradient_norm = tf.norm(variable), tf.norm(gradient)
            both = (weight_norm > 0) & (gradient_norm > 0)
            ratio = tf.where(both, self.trust_coefficient * tf.math.divide_no_nan(weight_norm, gradient_norm), ratio)
        velocity.assign(self.momentum * velocity + learning_rate * ratio * gradient)
        variable.assign_sub(velocity)

    def get_config(self) -> dict[str, Any]:
        """Everything but `exclude`: variables belong to a model, not to a configuration."""
        config = super().get_config()
        config.update(
            learning_rate=self._serialize_hyperparameter(self._learning_rate),
            momentum=self.momentum,
            weight_decay=self.decay,
            trust_coefficient=self.trust_coefficient,
        )
        return config
