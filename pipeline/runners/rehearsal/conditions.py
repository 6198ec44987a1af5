"""Conditions under which a task runs: the part of CEL that TFX compiles predicates to."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Artifacts: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
_Term: TypeAlias = Callable[[Artifacts], Any]

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[-+]?\d+)?|'[^']*'|\w+|&&|\|\||[=!<>]=|[-!<>+()\[\].])")
_OPERATORS = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
    "+": operator.add, "&&": operator.and_, "||": operator.or_,
}  # fmt: skip
# From the loosest to the tightest.
_LEVELS = (("||",), ("&&",), ("==", "!=", "<=", ">=", "<", ">"), ("+",))


class Condition:
    """An expression such as `inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0`."""

    def __init__(self, text: str) -> None:
        """Reads it.

        Raises:
            ValueError: it is not of the part of CEL that TFX writes.
        """
        self._text = text
        self._tokens = self._split()
        self._inputs: set[str] = set()
        self._value = self._level(0)
        if self._tokens:
            raise self._error(f"goes on with {self._tokens[0]!r} after its end")

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the input artifacts that it looks at."""
        return frozenset(self._inputs)

    def holds(self, artifacts: Artifacts) -> bool:
        """Whether it is true of a task's inputs: lists of RuntimeArtifacts by name.

        Raises:
            ValueError: there is no such artifact or property, or values of two types meet, which CEL refuses.
        """
        return self._boolean(self._value(artifacts))

    def _split(self) -> list[str]:
        tokens, position, text = [], 0, self._text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error(f"cannot be read from {text[position:]!r} on")
            tokens.append(match.group(1))
            position = match.end()
        return tokens

    def _level(self, level: int) -> _Term:
        if level == len(_LEVELS):
            return self._term()
        term = self._level(level + 1)
        while self._tokens and self._tokens[0] in _LEVELS[level]:
            term = self._operation(self._tokens.pop(0), term, self._level(level + 1))
        return term

    def _operation(self, sign: str, left: _Term, right: _Term) -> _Term:
        def value(artifacts: Artifacts) -> Any:
            # Both sides always, so that what is wrong with the second shows even where the first decides.
            first, second = left(artifacts), right(artifacts)
            if sign in ("&&", "||"):
                first, second = self._boolean(first), self._boolean(second)
            if type(first) is not type(second):
                raise self._error(f"puts {sign} between {first!r} and {second!r}, which are of two types")
            return _OPERATORS[sign](first, second)

        return value

    def _term(self) -> _Term:
        token = self._next()
        if token == "!":
            negated = self._term()
            return lambda artifacts: not self._boolean(negated(artifacts))
        if token == "(":
            inner = self._level(0)
            self._expect(")")
            return inner
        if token == "inputs":
            return self._property()
        negative = token == "-"
        literal = self._literal(self._next() if negative else token)
        return lambda _: -literal if negative else literal

    def _literal(self, token: str) -> str | float:
        if token.startswith("'"):
            return token[1:-1]
        if token[0].isdigit():
            return float(token)
        raise self._error(f"has {token!r} where a value is due")

    def _property(self) -> _Term:
        self._expect(".", "artifacts", "[")
        name = str(self._literal(self._next()))
        self._expect("]", ".", "artifacts", "[")
        index = int(self._literal(self._next()))
        self._expect("]", ".")
        self._inputs.add(name)
        of_artifact, key = self._next(), ""
        if of_artifact == "metadata":
            self._expect("[")
            key = str(self._literal(self._next()))
            self._expect("]")
        elif of_artifact != "uri":
            raise self._error(f"reads {of_artifact!r} of an artifact; there are uri and metadata['property']")

        def value(artifacts: Artifacts) -> Any:
            if index >= len(artifacts.get(name, ())):
                raise self._error(f"reads artifact {index} of the input {name!r}, which there isn't")
            artifact = artifacts[name][index]
            if not key:
                return artifact["uri"]
            if key not in artifact.get("metadata", {}):
                raise self._error(f"reads the property {key!r}, which the artifact {name!r} lacks")
            found = artifact["metadata"][key]
            return float(found) if type(found) is int else found

        return value

    def _next(self) -> str:
        if not self._tokens:
            raise self._error("ends too early")
        return self._tokens.pop(0)

    def _expect(self, *tokens: str) -> None:
        for token in tokens:
            if (found := self._next()) != token:
                raise self._error(f"has {found!r} where {token!r} is due")

    def _boolean(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._error(f"takes {value!r} for a truth value")
        return value

    def _error(self, words: str) -> ValueError:
        return ValueError(f"the condition {self._text!r} {words}")
