"""Stochastic arithmetic for any JAX program: the rounding noise of a user's own model.

A program is traced once, in float64, and then evaluated operation by operation, each result disturbed by a random
rounding of a narrower dtype. The spread of many such runs is the rounding noise of the computation itself (Parker 1997,
"Monte Carlo arithmetic"). JAX has no fused composites: softmax, norms and attention come as exponentials, sums and
quotients, forward and backward, and an optimiser's step like everything else.

    noisy = Stochastic(jax.value_and_grad(loss), "float32", unit_roundoff=2.0**-40)
    exact = noisy.again(unit_roundoff=0.0).run(weights, batch)
    runs = [noisy.again(seed).run(weights, batch) for seed in range(8)]
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .stochastic_operations import apply, is_taken_apart
from .stochastic_primitives import CALLS, RANDOM, is_key, wide, widened
from .stochastic_rounding import Rounding

Value = Any
"""A NumPy array, floats in float64, or a JAX array of random keys, which NumPy does not have."""


class Stochastic:
    """A JAX program in stochastic arithmetic.

    Float64 stands for the dtype that is imitated: every argument and literal is widened, casts to narrower dtypes
    included, so that nothing rounds but the disturbances. What a program casts to a dtype of its own, as mixed
    precision does, is rounded as in that one, unless float64 is imitated. Results that need no rounding get none: whole
    numbers, selections, moved elements, infinite masks. What `jax.random` draws counts as given; traced in float64,
    drop-out takes other bits than in float32.

    Args:
        function: of arrays or pytrees of them, to the same; pure, and traceable by `jax.jit`. Arrays that it holds
            itself are constants, which have to be rounded where the dtype does not have them; arguments are exact.
        dtype: whose rounding is imitated: float64, float32, bfloat16 or float16.
        unit_roundoff: in place of that of `dtype`, relative. Smaller ones, and the spread scaled up, leave no ReLU
            another side to take. 0.0: the same program undisturbed, which is the centre of the noise.
        seed: of the disturbances.
        traced: the dtype in which the program is traced, and which stands for the one that is imitated. Float32 is for
            programs that cannot run in float64, and for what `jax.random` draws there; constants are float32's then.
        alike: equal values are rounded alike, as they are in every dtype. Of many equal values errors then add up,
            which draws of their own average out.

    Attributes:
        whole: how often each primitive stands in the programs that were run so far that could not be taken apart and
            got one rounding only, by name; the noise behind it is not to be believed.
        seen: the same of all primitives.

    Raises:
        InputError: an unknown dtype.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        dtype: str = "float32",
        unit_roundoff: float | None = None,
        seed: int = 0,
        traced: str = "float64",
        alike: bool = False,
    ) -> None:
        self._function, self._traced, self._alike = function, traced, alike
        self._dtype, self._unit_roundoff, self._seed = dtype, unit_roundoff, seed
        self._programs: dict[Any, _Program] = {}
        self.whole: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self._rounding(0.0)

    def again(
        self, seed: int | None = None, unit_roundoff: float | None = None, alike: bool | None = None
    ) -> Stochastic:
        """The same program by other draws; what was traced and counted is shared.

        Args:
            seed, unit_roundoff, alike: None: the same.
        """
        found = copy.copy(self)
        found._alike = self._alike if alike is None else alike
        found._seed = self._seed if seed is None else seed
        found._unit_roundoff = self._unit_roundoff if unit_roundoff is None else unit_roundoff
        return found

    def run(self, *args: Any) -> Any:
        """What the function returns for these arguments, as NumPy arrays, floats in float64.

        Operations run one by one on the CPU; loops turn by turn.

        Args:
            args: arrays or pytrees, of any float dtype; taken to be exact.
        """
        leaves, tree = jax.tree.flatten(args)
        given = [widened(leaf) for leaf in leaves]
        key = tree, tuple((value.shape, str(value.dtype)) for value in given)
        if key not in self._programs:
            self._programs[key] = program = _Program(self._function, tree, given, self._traced)
            _count(program.closed.jaxpr, self.seen, self.whole)
        program = self._programs[key]
        # Infinite masks and saturated exponentials are part of right programs.
        with _on_the_cpu(wide=True), np.errstate(all="ignore"):
            evaluation = _Evaluation(self._rounding(self._unit_roundoff), program.plans)
            given = [x if is_key(x) else x.astype(kind) for x, kind in zip(given, program.kinds, strict=True)]
            return jax.tree.unflatten(program.tree, evaluation.closed(program.closed, given))

    def _rounding(self, unit_roundoff: float | None) -> Rounding:
        return Rounding(self._dtype, unit_roundoff, self._seed, self._traced, self._alike)


class _Program:
    """A traced function.

    Args:
        function, traced: see `Stochastic`.
        tree: of the arguments.
        leaves: of the arguments, wide.
    """

    def __init__(self, function: Callable[..., Any], tree: Any, leaves: Sequence[Any], traced: str) -> None:
        narrow = [x.astype(traced) if x.dtype == np.float64 else x for x in leaves]
        with _on_the_cpu(wide=traced == "float64"):
            self.closed, shapes = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(tree, narrow))
        self.tree = jax.tree.structure(shapes)
        # Without float64 JAX has no int64 either.
        self.kinds = [wide(variable.aval.dtype) for variable in self.closed.jaxpr.invars]
        self.plans: dict[int, list[tuple[Any, list[Any]]]] = {}


class _Evaluation:
    """One run.

    Args:
        rounding: of this run.
        plans: of each jaxpr that was met, by its `id`: equations, and what is not needed after each of them.
    """

    def __init__(self, rounding: Rounding, plans: dict[int, list[tuple[Any, list[Any]]]]) -> None:
        self._rounding, self._plans = rounding, plans
        self._constants: dict[int, Value] = {}

    def closed(self, closed: Any, args: Sequence[Value]) -> list[Value]:
        """The results of a program with its constants."""
        return self.open(closed.jaxpr, [self._constant(value) for value in closed.consts], args)

    def open(self, jaxpr: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Value]:
        """The results of a program."""
        values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Value:
            return self._constant(atom.val, atom) if _is_literal(atom) else values[atom]

        for equation, done in self._plan(jaxpr):
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
            for variable in done:
                values.pop(variable, None)
        return [read(atom) for atom in jaxpr.outvars]

    def _plan(self, jaxpr: Any) -> list[tuple[Any, list[Any]]]:
        if id(jaxpr) not in self._plans:
            last: dict[Any, int] = {}
            for place, equation in enumerate(jaxpr.eqns):
                last.update({v: place for v in [*equation.invars, *equation.outvars] if not _is_literal(v)})
            for variable in jaxpr.outvars:
                last.pop(None if _is_literal(variable) else variable, None)
            done: list[list[Any]] = [[] for _ in jaxpr.eqns]
            for variable, place in last.items():
                done[place].append(variable)
            self._plans[id(jaxpr)] = list(zip(jaxpr.eqns, done, strict=True))
        return self._plans[id(jaxpr)]

    def _constant(self, value: Any, literal: Any = None) -> Value:
        """A constant of the program, or the value of a literal, rounded where the dtype does not have it."""
        place = id(value if literal is None else literal)
        if place not in self._constants:
            found = widened(value)
            # What the program itself holds in another dtype has been rounded already.
            if (value if literal is None else literal.aval).dtype == self._rounding.traced:
                found = self._rounding.constant(found)
            self._constants[place] = found
        return self._constants[place]

    def _equation(self, equation: Any, ins: list[Value]) -> Sequence[Value]:
        name, p = equation.primitive.name, equation.params
        if name in CALLS:
            return self._call(equation, ins)
        if name in STRUCTURES:
            return STRUCTURES[name](self, p, ins)
        return apply(self._rounding, equation, ins)

    def _call(self, equation: Any, ins: Sequence[Value]) -> list[Value]:
        given = equation.params.get("name") in RANDOM and any(is_key(atom.aval) for atom in equation.invars)
        evaluation = _Evaluation(self._rounding.undisturbed(), self._plans) if given else self
        (inner,) = inner_programs(equation)
        if isinstance(inner, core.ClosedJaxpr):
            return evaluation.closed(inner, ins)
        return evaluation.open(inner, (), ins)

    def _scan(self, p: dict[str, Any], ins: Sequence[Value]) -> list[Value]:
        body, fixed, carried, length = p["jaxpr"], p["num_consts"], p["num_carry"], p["length"]
        consts, carry, over = ins[:fixed], ins[fixed : fixed + carried], ins[fixed + carried :]
        kept: list[Any] = [None] * length
        for turn in reversed(range(length)) if p["reverse"] else range(length):
            results = self.closed(body, [*consts, *carry, *(_at(x, turn) for x in over)])
            carry, kept[turn] = results[:carried], results[carried:]
        avals = body.out_avals[carried:]
        return [*carry, *(_stacked([turn[place] for turn in kept], aval) for place, aval in enumerate(avals))]

    def _while(self, p: dict[str, Any], ins: Sequence[Value]) -> list[Value]:
        asked, fixed = p["cond_nconsts"], p["body_nconsts"]
        of_test, of_body, carry = ins[:asked], ins[asked : asked + fixed], ins[asked + fixed :]
        while self.closed(p["cond_jaxpr"], [*of_test, *carry])[0]:
            carry = self.closed(p["body_jaxpr"], [*of_body, *carry])
        return list(carry)

    def _cond(self, p: dict[str, Any], ins: Sequence[Value]) -> list[Value]:
        branches = p["branches"]
        return self.closed(branches[min(max(int(ins[0]), 0), len(branches) - 1)], ins[1:])

    def _linear_solve(self, p: dict[str, Any], ins: Sequence[Value]) -> list[Value]:
        lengths = p["const_lengths"]
        begin = lengths.matvec + lengths.vecmat
        right = ins[begin + lengths.solve + lengths.transpose_solve :]
        return self.closed(p["jaxprs"].solve, [*ins[begin : begin + lengths.solve], *right])


STRUCTURES: dict[str, Callable[..., list[Value]]] = {
    "scan": _Evaluation._scan,
    "while": _Evaluation._while,
    "cond": _Evaluation._cond,
    "custom_linear_solve": _Evaluation._linear_solve,
}


def _is_literal(atom: Any) -> bool:
    return isinstance(atom, core.Literal)


def inner_programs(equation: Any) -> list[Any]:
    """The programs that an operation consists of; none if it is a primitive one."""
    name, p = equation.primitive.name, equation.params
    if name in CALLS:
        return [next(p[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call") if key in p)]
    inner = {"scan": ["jaxpr"], "while": ["cond_jaxpr", "body_jaxpr"]}
    if name == "cond":
        return list(p["branches"])
    return [p["jaxprs"].solve] if name == "custom_linear_solve" else [p[key] for key in inner.get(name, ())]


def _count(jaxpr: Any, seen: Counter[str], whole: Counter[str]) -> None:
    for equation in jaxpr.eqns:
        inner = inner_programs(equation)
        for program in inner:
            _count(getattr(program, "jaxpr", program), seen, whole)
        if not inner:
            seen[equation.primitive.name] += 1
            if not is_taken_apart(equation):
                whole[equation.primitive.name] += 1


def _at(x: Value, turn: int) -> Value:
    return np.asarray(x[turn]) if isinstance(x, np.ndarray) else x[turn]


def _stacked(values: Sequence[Value], aval: Any) -> Value:
    if is_key(aval):
        return jnp.stack(values)
    # A loop without turns returns arrays without elements.
    return np.stack(values) if values else np.zeros((0, *aval.shape), widened(np.zeros((), aval.dtype)).dtype)


@contextlib.contextmanager
def _on_the_cpu(wide: bool) -> Iterator[None]:
    with jax.enable_x64(wide), jax.default_device(jax.devices("cpu")[0]):
        yield
