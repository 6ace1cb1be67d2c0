"""The expressions of admission: of policies, of their variables, and of match conditions. One `Expressions` compiles all of one policy.

The same object serves validation (`problem`), enforcement (`compile`) and type checking (an `object_type`, and no demand on the answer).
Source: "CEL expressions" of ValidatingAdmissionPolicy and MutatingAdmissionPolicy; what may stand in them is `cel.admission_env`'s.
"""

from __future__ import annotations

from minik8s.api import cel


class Problem(ValueError):
    """Why an expression can't be used, in upstream's words."""


class Expressions:
    """Compiles the expressions of one policy, which see the variables that were added before them."""

    def __init__(
        self,
        *,
        params: bool = False,
        variables: bool = False,
        object_type: cel.Type | cel.Declared = cel.DYN,
        params_type: cel.Type | cel.Declared = cel.DYN,
    ) -> None:
        self._params = params_type if params else None
        self._object = object_type
        self._has_variables = variables
        self._variables: dict[str, cel.Type] = {}
        self._environments: dict[tuple[bool, bool], cel.Env] = {}
        self._conditions: cel.Env | None = None

    def compile(self, text: str, *results: str, authorizer: bool = True, patches: bool = False) -> cel.Program:
        """The program of an expression whose type is one of `results` (anything if none is given). Raises Problem."""
        return _compile(text, self._environment(authorizer, patches), results)

    def problem(self, text: str, *results: str, authorizer: bool = True, patches: bool = False) -> str:
        """What speaks against an expression; empty if nothing does."""
        try:
            self.compile(text, *results, authorizer=authorizer, patches=patches)
        except Problem as problem:
            return str(problem)
        return ""

    def condition(self, text: str) -> cel.Program:
        """The program of a match condition, which sees no variables. Raises Problem."""
        if self._conditions is None:
            self._conditions = cel.admission_env(self._object, params=self._params)
        return _compile(text, self._conditions, ("bool",))

    def condition_problem(self, text: str) -> str:
        """As `problem`, of a match condition."""
        try:
            self.condition(text)
        except Problem as problem:
            return str(problem)
        return ""

    def variable(self, name: str, text: str) -> cel.Program:
        """Adds a variable, for all expressions from now on; one that can't be compiled is there too, as anything. Raises Problem."""
        kind: cel.Type = cel.DYN
        try:
            program = self.compile(text)
            kind = _kept(program.type)
            return program
        finally:
            self._variables[name] = kind
            self._environments = {key: env.with_variable(name, kind) for key, env in self._environments.items()}

    def add_variable(self, name: str, text: str) -> str:
        """Adds a variable; what speaks against its expression."""
        try:
            self.variable(name, text)
        except Problem as problem:
            return str(problem)
        return ""

    def _environment(self, authorizer: bool, patches: bool) -> cel.Env:
        env = self._environments.get((authorizer, patches))
        if env is None:
            variables = self._variables if self._has_variables else None
            env = cel.admission_env(
                self._object, params=self._params, authorizer=authorizer, variables=variables, patches=patches
            )
            self._environments[authorizer, patches] = env
        return env


def _compile(text: str, env: cel.Env, results: tuple[str, ...]) -> cel.Program:
    try:
        program = cel.compile(text, env)
    except cel.CompileError as error:
        raise Problem(f"compilation failed: {error}") from None
    if results and (found := str(program.type)) not in results:
        wanted = results[0] if len(results) == 1 else f"one of [{' '.join(results)}]"
        raise Problem(f"must evaluate to {wanted} but got {found}")
    return program


def _kept(kind: cel.Type) -> cel.Type:
    """What is known of a variable's type: scalars, lists and maps; of the rest, nothing."""
    if kind.kind in _SCALARS:
        return kind
    if kind.kind == "list":
        return cel.list_of(_kept(kind.params[0]))
    if kind.kind == "map":
        return cel.map_of(_kept(kind.params[0]), _kept(kind.params[1]))
    return cel.DYN


_SCALARS = ("bool", "bytes", "double", "duration", "int", "null", "string", "timestamp", "uint")
