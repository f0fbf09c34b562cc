"""Sixteen neighbouring cells of a row as one value of compiled code, so that kernels are fast without tricks.

Rows are stored in whole groups of LANES cells, so a kernel can load a group, compute on it as if it were one
number and store it. Left to itself the compiler makes such instructions of a loop over cells only if it can
prove that arrays do not overlap: it adds checks and a remainder to every loop, and gives up where many arrays
meet. With groups spelled out a whole step is one loop, and compiles in a second instead of five. Every
operation is the IEEE one lane by lane, so the bits are those of the same formula on single cells, on every
machine.

Compiled code only: `load`, `store`, `+ - * /`, `min`, `max`, `math.sqrt` and the functions below.
"""

# Most of the compiler's own interface carries no types.
# mypy: disable-error-code="misc, no-untyped-call, untyped-decorator, call-arg"

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import cfunc, from_dtype, types
from numba import njit as _njit
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, models, overload, register_model

from diffusion_ops.blocks.block import LANES

# numba's annotations do not know that there need not be an entry for C or Python.
njit: Any = _njit

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

kernel: Decorator = njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
"""Decorator of what Python calls: compiled once per machine and sort of argument, see `test_compiled_cache`."""

INLINED: Any = {
    "forceinline": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""Options of what only compiled code calls: every call becomes a copy in the compiler's back end.

Copies of the source, inline="always", have their types inferred once more each; and an entry for Python that nobody
uses took a third of the time that a kernel compiles for.
"""


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let kernels call a function; for Python it stays what it is, and for the cache on disk one known by its name."""

    @overload(function, jit_options=INLINED, strict=False, prefer_literal=True)
    def compiled(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        return function

    return function


copied: Decorator = njit(inline="always")
"""Decorator of functions that are copied as source: visits to whole rows, which are 5 % faster in short rows by it.

Those that take arrays are up to twice as fast: arrays given to a function are counted. Branches on a constant vanish
before types are inferred.
"""

# numba's annotations count the typing context, which no caller gives, among an intrinsic's arguments.
intrinsic: Any = _intrinsic


class Lanes(types.Type):
    """The compiler's type of a group of floats or, with dtype boolean, of yes and no."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, ir.VectorType(_element(kind.dtype), LANES))


def _element(dtype: Any) -> Any:
    return {types.boolean: ir.IntType(1), types.float32: ir.FloatType(), types.float64: ir.DoubleType()}[
        dtype
    ]


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector with a number in every lane."""
    vector = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _pick(builder: Any, first: Any, second: Any, start: int) -> Any:
    """Return LANES lanes of first and second side by side, from lane `start` on."""
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(start, start + LANES)))
    return builder.shuffle_vector(first, second, lanes)


def _arithmetic(function: Any, build: Callable[[Any, Any, Any], Any], mask: bool = False) -> None:
    """Let compiled code call function(x, y) of two groups of floats, or of a group and a number."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            groups = [a for a in args if isinstance(a, Lanes)]
            if kws or len(args) != 2 or not groups:
                return None
            result = Lanes(types.boolean) if mask else groups[0]
            return signature(result, *(a if isinstance(a, Lanes) else groups[0].dtype for a in args))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = (
            a if isinstance(t, Lanes) else _spread(builder, a) for a, t in zip(args, sig.args, strict=True)
        )
        return build(builder, *both)

    infer_global(function)(Template)
    for one, other in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(function, one, other)(codegen)


_arithmetic(operator.add, lambda b, x, y: b.fadd(x, y))
_arithmetic(operator.sub, lambda b, x, y: b.fsub(x, y))
_arithmetic(operator.mul, lambda b, x, y: b.fmul(x, y))
_arithmetic(operator.truediv, lambda b, x, y: b.fdiv(x, y))
# y where x is not a number: a conductance then stays a number.
_arithmetic(min, lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
_arithmetic(max, lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
_arithmetic(operator.and_, lambda b, x, y: b.and_(x, y))

# Never true where one of the two is not a number.
_arithmetic(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), mask=True)
_arithmetic(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), mask=True)


@infer_global(math.sqrt)
class _Sqrt(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Lanes) else None


@lower_builtin(math.sqrt, Lanes)
def _sqrt(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = args[0].type
    name = f"llvm.sqrt.v{LANES}f{32 if sig.args[0].dtype == types.float32 else 64}"
    return builder.call(builder.module.declare_intrinsic(name, fnty=ir.FunctionType(kind, [kind])), args)


@intrinsic
def begin(typingctx: Any, array: Any) -> Any:
    """Return the address of a contiguous array, for `load` and `store`; the array must outlive it.

    Compiled code counts references to arrays with atomic operations, also where a helper is inlined: handing
    seven arrays to a helper once per row took 65 ns a row, as long as the work on 600 cells. Addresses are
    not counted.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, at: Any) -> Any:
    """Ask for an element of a contiguous array that is needed soon; nothing waits for it, and no bit depends on it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        # To be read, into the nearest cache, as data.
        given = [builder.bitcast(place, byte), number(0), number(3), number(1)]
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind), given)
        return context.get_dummy_value()

    return types.none(array, at), codegen


@intrinsic
def shift(typingctx: Any, address: Any, count: Any) -> Any:
    """Return the address of the element `count` further on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return address(address, types.intp), codegen


def _group(builder: Any, address: Any, index: Any) -> Any:
    """Return the address of the group of lanes that begins at an element."""
    element = address.type.pointee
    return builder.bitcast(builder.gep(address, [index]), ir.VectorType(element, LANES).as_pointer())


@intrinsic
def load(typingctx: Any, address: Any, index: Any) -> Any:
    """Return the elements index ... index + LANES - 1; booleans come as a mask."""
    dtype = address.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        group = builder.load(
            _group(builder, *args), align=context.get_abi_alignment(context.get_data_type(dtype))
        )
        if dtype == types.boolean:
            return builder.icmp_unsigned("!=", group, ir.Constant(group.type, [0] * LANES))
        return group

    return Lanes(dtype)(address, types.intp), codegen


@intrinsic
def element(typingctx: Any, address: Any, index: Any) -> Any:
    """Return one element."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return address.dtype(address, types.intp), codegen


@intrinsic
def store(typingctx: Any, address: Any, index: Any, lanes: Any) -> Any:
    """Put lanes in the elements index ... index + LANES - 1."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        alignment = context.get_abi_alignment(context.get_data_type(address.dtype))
        builder.store(args[2], _group(builder, args[0], args[1]), align=alignment)
        return context.get_dummy_value()

    return types.none(address, types.intp, lanes), codegen


@intrinsic
def fill(typingctx: Any, number: Any) -> Any:
    """Return a group of equal numbers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return Lanes(number)(number), codegen


@intrinsic
def previous(typingctx: Any, before: Any, here: Any) -> Any:
    """Return the left neighbour of every lane of `here`, where `before` is the group at its left."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _pick(builder, *args, LANES - 1)

    return here(before, here), codegen


@intrinsic
def following(typingctx: Any, here: Any, ahead: Any) -> Any:
    """Return the right neighbour of every lane of `here`, where `ahead` is the group at its right."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _pick(builder, *args, 1)

    return here(here, ahead), codegen


@intrinsic
def where(typingctx: Any, mask: Any, lanes: Any) -> Any:
    """Return the lanes where the mask is true, and 0 elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], ir.Constant(args[1].type, [0.0] * LANES))

    return lanes(mask, lanes), codegen


@intrinsic
def choose(typingctx: Any, mask: Any, lanes: Any, other: Any) -> Any:
    """Return the lanes where the mask is true, and those of `other` elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return lanes(mask, lanes, other), codegen


@intrinsic
def known(typingctx: Any, lanes: Any) -> Any:
    """Return the mask of the lanes that are not NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fcmp_ordered("ord", args[0], args[0])

    return Lanes(types.boolean)(lanes), codegen


@intrinsic
def between(typingctx: Any, start: Any, stop: Any) -> Any:
    """Return the mask of the lanes start <= lane < stop; both may lie outside the group."""
    integer = ir.IntType(32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lane = ir.Constant(ir.VectorType(integer, LANES), list(range(LANES)))
        low, high = (_spread(builder, builder.trunc(a, integer)) for a in args)
        return builder.and_(builder.icmp_signed(">=", lane, low), builder.icmp_signed("<", lane, high))

    return Lanes(types.boolean)(types.intp, types.intp), codegen


@intrinsic
def divide_by_power(typingctx: Any, p: Any, shifted: Any) -> Any:
    """Return p / 2**n for shifted = n + 1.5 * 2**mantissa_bits, by taking n off the bits of p's exponent.

    n stands in the low bits of `shifted`: the summand is so large that the sum is rounded to a whole number.
    Exact where the result is normal.
    """
    wide = (p.dtype if isinstance(p, Lanes) else p) == types.float64
    bits, mantissa = (ir.IntType(64), 52) if wide else (ir.IntType(32), 23)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        group = isinstance(p, Lanes)
        integer = ir.VectorType(bits, LANES) if group else bits
        shift = ir.Constant(integer, [mantissa] * LANES if group else mantissa)
        n = builder.shl(builder.bitcast(args[1], integer), shift)
        return builder.bitcast(builder.sub(builder.bitcast(args[0], integer), n), args[0].type)

    return p(p, shifted), codegen


@intrinsic
def cube_root_seed(typingctx: Any, lanes: Any) -> Any:
    """Return the cube root of normal numbers > 0 within 4 %, by a third of the exponent (Kahan 1991)."""
    wide = lanes.dtype == types.float64
    bits, bias = (ir.IntType(64), 715094163 << 32) if wide else (ir.IntType(32), 709958130)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integer = ir.VectorType(bits, LANES)
        three, constant = (ir.Constant(integer, [n] * LANES) for n in (3, bias))
        third = builder.udiv(builder.bitcast(args[0], integer), three)
        return builder.bitcast(builder.add(third, constant), args[0].type)

    return lanes(lanes), codegen


@intrinsic(prefer_literal=True)
def elements(typingctx: Any, address: Any, count: Any) -> Any:
    """Return `count` elements, a constant of the compiler, as a tuple."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        each = [builder.load(builder.gep(args[0], [ir.IntType(64)(k)])) for k in range(count.literal_value)]
        return context.make_tuple(builder, sig.return_type, each)

    return types.UniTuple(address.dtype, count.literal_value)(address, count), codegen


def compile_row(row: Callable[..., None], addresses: Sequence[Any], whole: int) -> Any:
    """Compile a function that kernels call by its `address`, with addresses of such types and so many whole numbers.

    What surrounds a row takes longer to compile than what makes it: so it is compiled once, and not for every sort of
    row. A call costs some nanoseconds, a row of a tile a hundred or more. What `row` captures shows in the compiler's
    cache on disk.
    """
    takes = [types.CPointer(from_dtype(np.dtype(one))) for one in addresses] + [types.int64] * whole
    return cfunc(types.void(*takes), cache=True, error_model="numpy", forceinline=True)(row)


@intrinsic
def call_row(typingctx: Any, function: Any, addresses: Any, whole: Any) -> Any:
    """Call what `compile_row` compiled, by its address, with a tuple of addresses and one of whole numbers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = [
            builder.extract_value(group, k)
            for group, kind in zip(args[1:], sig.args[1:], strict=True)
            for k in range(len(kind))
        ]
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in given])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.none(types.int64, addresses, types.UniTuple(types.int64, len(whole))), codegen
