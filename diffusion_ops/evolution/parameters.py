"""Describe the parameters of operators: unit, range, default, other words, automatic choice, and the checks of them."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, TypeAlias

from diffusion_ops.blocks.statistic import STATISTICS, Statistic, statistic_from

AUTO: Literal["auto"] = "auto"
"""The word for a parameter that chooses itself; see `Parameter.automatic`."""

NumberOrStatistic: TypeAlias = float | Statistic | Mapping[str, object] | Literal["auto"]
"""A number, or what finds it in the whole image: a statistic, {"quantile": 0.9}, or "auto" where there is a rule."""

Automatic: TypeAlias = Callable[[Mapping[str, Any]], Statistic | tuple[Statistic, ...] | Literal["auto"]]
"""A function of the other parameters that gives the statistic for "auto", or "auto" where none is needed."""

_REQUIRED: Any = ...
_KEY = "parameter"
_UNIT_WORDS = {"1": "without unit", "unit length": "in units of the spacing"}


@dataclass(frozen=True, kw_only=True)
class Parameter(ABC):
    """What one parameter of an operator may be: the base of `Number`, `Count`, `Choice`.

    Checks, the list of operators, the schema of specs and the documentation of methods are all made from it. One
    description may serve several operators; `parameter` puts it on a field.

    Parameters
    ----------
    unit : str
        Such as "image units per unit length"; "1" for a number without unit.
    aliases : tuple of str
        Other words for it, where they mean the same: ("kappa", "k").
    alias_values : mapping of str to mapping
        Values that an alias is written with elsewhere: {"option": {1: "exponential", 2: "rational"}}.
    statistic : bool
        True where a statistic of the whole image may stand for the number.
    optional : bool
        True where None is possible.
    automatic : function, optional
        Gives the statistic that the word "auto" stands for, from a mapping with the values of all parameters.
    default : object
        Set by `parameter`.
    """

    unit: str = ""
    aliases: tuple[str, ...] = ()
    alias_values: Mapping[str, Mapping[Any, object]] = field(default_factory=dict)
    statistic: bool = False
    optional: bool = False
    automatic: Automatic | None = None
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """True where the user has to give a value."""
        return self.default is _REQUIRED

    @property
    def type(self) -> str:
        """The possible types in words: "float | Statistic"."""
        more = {"Statistic": self.statistic, "'auto'": self.automatic is not None, "None": self.optional}
        return " | ".join([self.plain_type, *(word for word, possible in more.items() if possible)])

    @property
    def range(self) -> str:
        """The possible values in words, without the unit: "a number > 0, or a statistic"."""
        return self.plain_range + self._more

    @property
    def allowed(self) -> str:
        """The possible values in words: "a number > 0, in image units, or a statistic"."""
        unit = _UNIT_WORDS.get(self.unit, f"in {self.unit}")
        return f"{self.plain_range}, {unit}{self._more}" if self.unit else self.range

    @property
    def _more(self) -> str:
        more = {"a statistic": self.statistic, "'auto'": self.automatic is not None, "None": self.optional}
        return "".join(f", or {word}" for word, possible in more.items() if possible)

    def schema(self) -> dict[str, Any]:
        """Return the possible values as JSON Schema."""
        kinds = [self.plain_schema()]
        if self.statistic:
            names = {"enum": list(STATISTICS)}
            kinds.append({"type": "object", "propertyNames": names, "minProperties": 1, "maxProperties": 1})
        if self.automatic is not None:
            kinds.append({"const": AUTO})
        if self.optional:
            kinds.append({"type": "null"})
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}

    def check(self, name: str, value: object) -> None:
        """Refuse a value that is not possible.

        Raises
        ------
        ValueError
            With the parameter, what was given, the range and its unit.
        """
        whole_image = isinstance(value, Statistic) and self.statistic
        if not (whole_image or (value is None and self.optional) or self.fits(value)):
            raise ValueError(f"{name}={value!r} is not {self.refusal}. Allowed: {self.allowed}.")

    def read(self, name: str, value: Any) -> Any:
        """Return a value as it is kept, with the statistics that mappings stand for."""
        return statistic_from(name, value) if self.statistic else value

    refusal: ClassVar[str] = "possible"

    @property
    @abstractmethod
    def plain_type(self) -> str:
        """The type of a plain value: "float"."""

    @property
    @abstractmethod
    def plain_range(self) -> str:
        """The range of plain values, without the unit: "a number > 0"."""

    @abstractmethod
    def plain_schema(self) -> dict[str, Any]:
        """Return the range of plain values as JSON Schema."""

    @abstractmethod
    def fits(self, value: object) -> bool:
        """Return whether a plain value is in the range."""


@dataclass(frozen=True, kw_only=True)
class Number(Parameter):
    """A finite number in a range.

    Parameters
    ----------
    above, least, most : float, optional
        The number is > above, >= least, <= most.
    infinite : bool
        True where infinity is possible too.
    """

    above: float | None = None
    least: float | None = None
    most: float | None = None
    infinite: bool = False

    plain_type = "float"

    @property
    def plain_range(self) -> str:
        """The range in words."""
        if self.most is not None and self.least is not None:
            return f"a number from {self.least:g} to {self.most:g}"
        ends = {">": self.above, ">=": self.least, "<=": self.most}
        words = " and ".join(f"{sign} {end:g}" for sign, end in ends.items() if end is not None)
        return f"a number {words}" if words else "a number" if self.infinite else "a finite number"

    def plain_schema(self) -> dict[str, Any]:
        """Return the range as JSON Schema."""
        ends = {"exclusiveMinimum": self.above, "minimum": self.least, "maximum": self.most}
        return {"type": "number", **{word: end for word, end in ends.items() if end is not None}}

    def fits(self, value: object) -> bool:
        """Return whether it is a number in the range; True and False are none."""
        too_large = isinstance(value, Integral) and abs(int(value)) > 1 << 1000  # for a float
        if not isinstance(value, Real) or isinstance(value, bool) or too_large:
            return False
        if math.isnan(number := float(value)) or (math.isinf(number) and not self.infinite):
            return False
        return (
            (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
        )


@dataclass(frozen=True, kw_only=True)
class Count(Parameter):
    """A whole number in a range.

    Parameters
    ----------
    least : int
    most : int, optional
    odd : bool
        True where it must be odd.
    """

    least: int = 1
    most: int | None = None
    odd: bool = False

    plain_type = "int"

    @property
    def plain_range(self) -> str:
        """The range in words."""
        what = "an odd whole number" if self.odd else "a whole number"
        return f"{what} >= {self.least}" if self.most is None else f"{what} from {self.least} to {self.most}"

    def plain_schema(self) -> dict[str, Any]:
        """Return the range as JSON Schema."""
        most = {} if self.most is None else {"maximum": self.most}
        # 1, 3, 5 ... are no multiples of anything but not the multiples of 2.
        odd = {"not": {"multipleOf": 2}} if self.odd else {}
        return {"type": "integer", "minimum": self.least, **most, **odd}

    def fits(self, value: object) -> bool:
        """Return whether it is a whole number in the range; True and False are none."""
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < self.least:
            return False
        most = (1 << 63) - 1 if self.most is None else self.most  # kernels take 64 bits
        return int(value) <= most and (not self.odd or int(value) % 2 == 1)


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    """One of a few values; True is not taken for 1.

    Parameters
    ----------
    values : sequence
    """

    values: Sequence[object] = field(kw_only=False)
    refusal = "known"

    @property
    def plain_type(self) -> str:
        """The types of the values."""
        return " | ".join(dict.fromkeys(type(value).__name__ for value in self.values))

    @property
    def plain_range(self) -> str:
        """All values."""
        return ", ".join(str(value) for value in self.values)

    def plain_schema(self) -> dict[str, Any]:
        """Return all values as JSON Schema."""
        flags = all(isinstance(value, bool) for value in self.values)
        return {"type": "boolean"} if flags else {"enum": list(self.values)}

    def fits(self, value: object) -> bool:
        """Return whether it is one of the values."""
        return any(isinstance(value, bool) == isinstance(v, bool) and value == v for v in self.values)


def parameter(
    description: Parameter,
    *,
    default: Any = _REQUIRED,
    **changes: Any,
) -> Any:
    """Return the field of an operator for a parameter: `r: float = parameter(Number(unit="1 / time"), default=1.0)`.

    Parameters
    ----------
    description : Parameter
        Unit, range and aliases.
    default : object, optional
        Without it the user has to give a value.
    **changes
        In the place of the description's: aliases, automatic, unit and so on.
    """
    own = dataclasses.replace(description, default=default, **changes)
    return field(default=dataclasses.MISSING if own.required else default, metadata={_KEY: own})


def number(value: NumberOrStatistic) -> float:
    """Return the value of a parameter that no statistic stands for any more."""
    assert not isinstance(value, Statistic | Mapping | str), f"{value!r} has to be reduced first"
    return value


def described(cls: Any) -> dict[str, Parameter]:
    """Return the parameters of a dataclass of such fields, in order.

    Raises
    ------
    TypeError
        For a field without a description, with what to write.
    """
    found = {}
    for one in dataclasses.fields(cls):
        if _KEY not in one.metadata:
            raise TypeError(
                f"{cls.__name__}.{one.name} has no unit and no range. Write `{one.name}: {one.type} = "
                'parameter(Number(unit="..."), default=...)`; see diffusion_ops.evolution.parameters.'
            )
        found[one.name] = one.metadata[_KEY]
    return found


def words_of(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """Return every alias with the parameter that it stands for."""
    return {word: name for name, one in parameters.items() for word in one.aliases}


def settle(
    owner: str, parameters: Mapping[str, Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the value of every parameter: aliases resolved, defaults put in, "auto" chosen, all of them checked.

    Parameters
    ----------
    owner : str
        Name of the class, for messages.
    parameters : mapping of str to Parameter
    args, kwargs
        What the user gave, by position and by word.

    Raises
    ------
    TypeError
        For an unknown word, one that is given twice, one that is missing.
    ValueError
        For a value out of range.
    """
    given = _by_name(owner, parameters, args, kwargs)
    missing = [name for name, one in parameters.items() if one.required and name not in given]
    if missing:
        raise TypeError(
            f"{owner} needs {', '.join(missing)}. Allowed: {missing[0]} is {parameters[missing[0]].allowed}."
        )
    values = {name: given.get(name, one.default) for name, one in parameters.items()}
    rules = {
        name: one.automatic
        for name, one in parameters.items()
        if one.automatic is not None and _is_auto(values[name])
    }
    for name, one in parameters.items():
        if name not in rules:
            values[name] = one.read(name, values[name])
            one.check(name, values[name])
    # The others are known to be possible now, so that a rule may look them up.
    return {**values, **{name: rule(values) for name, rule in rules.items()}}


def _by_name(
    owner: str, parameters: Mapping[str, Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    if len(args) > len(parameters):
        raise TypeError(
            f"{owner} takes {len(parameters)} parameters, {len(args)} were given. "
            f"Allowed: {', '.join(parameters) or 'none'}."
        )
    given = dict(zip(parameters, args, strict=False))
    meant = words_of(parameters)
    for word, value in kwargs.items():
        name = meant.get(word, word)
        if name not in parameters:
            raise TypeError(
                f"{owner} has no parameter {word!r}. Allowed: {', '.join(parameters)}; "
                f"also {', '.join(meant) or 'no other words'}."
            )
        if name in given:
            raise TypeError(f"{owner}: {name!r} is given twice, the second time as {word!r}. Give it once.")
        given[name] = _meant_by(owner, word, value, parameters[name].alias_values.get(word, {}))
    return given


def _meant_by(owner: str, word: str, value: Any, values: Mapping[Any, object]) -> Any:
    if values and value not in values:
        raise ValueError(f"{owner}: {word}={value!r} is not known. Allowed: {', '.join(map(repr, values))}.")
    return values[value] if values else value


def _is_auto(value: object) -> bool:
    return isinstance(value, str) and value == AUTO


def check_number(name: str, value: object, *, positive: bool, unit: str) -> None:
    """Refuse what is not a finite number > 0, or >= 0 where `positive` is False; see `Parameter.check`."""
    (Number(unit=unit, above=0) if positive else Number(unit=unit, least=0)).check(name, value)


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`; see `Parameter.check`."""
    Count(least=least).check(name, value)


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuse what is not one of the allowed values; see `Parameter.check`."""
    Choice(tuple(allowed)).check(name, value)
