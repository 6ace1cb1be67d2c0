"""The Common Expression Language as Kubernetes 1.36 has it: checked against declared types, evaluated within a cost limit.

    env = cel.Env({"self": cel.schema_type(schema), "oldSelf": cel.schema_type(schema)})
    program = cel.compile("self.replicas <= self.maxReplicas", env)
            # CompileError: str(error) is upstream's text, "ERROR: <input>:1:6: ..."
    program.type                      # of the answer: `program.type == cel.BOOL`; str(program.type) == "bool"
    program.uses("oldSelf")           # whether the variable occurs
    program.estimate.max              # the worst cost by the schema's limits, at most 2**64-1
            # upstream's limits of it: EXPRESSION_LIMIT a rule, TOTAL_LIMIT (cost times cardinality, summed) a CRD
    meter = cel.Meter()               # one for a request: sums what its evaluations cost
    program.evaluate({"self": obj["spec"], "oldSelf": old}, meter)
            # EvaluationError: str(error) is "no such key: x", "index out of bounds: 3"
            # CostError, one of them: beyond CALL_LIMIT, "operation cancelled: actual cost limit exceeded"
    meter.cost                        # compare with REQUEST_BUDGET (CRD rules, policies), MATCH_BUDGET (match conditions)

**Types.** A variable's type is a `Type` (`STRING`, `INT`, `DYN`, `list_of(STRING)`, `map_of(STRING, DYN)`, `optional_of(T)`) or a
`Declared`, which also knows how JSON becomes values and how large it may be:
    schema_type(schema, root=False)   # of an OpenAPI v3 / structural schema as JSON (a dict); None if CEL can't see it
            # root=True at the root of a resource: apiVersion, kind, metadata.{name,generateName} are visible
    declared.cardinality              # how often, at worst, a request can hold such data (upstream's MaxCardinality)
    declared.optional()               # as optional_type(T), for oldSelf with optionalOldSelf; bind cel.Optional(value) or cel.NONE
    builtin_type(group, version, kind)      # of a built-in kind (to warn of what a policy gets wrong); None if there is none
    admission_env(object_type=DYN, params=DYN or None, authorizer=True, variables={} or None, patches=False)
            # of policies and match conditions: object, oldObject, request, namespaceObject, params, variables, authorizer,
            # authorizer.requestResource; patches: also Object{...}, Object.spec{...}, JSONPatch{...}, jsonpatch.escapeKey
`Env.extended({...})` gives an Env with more variables. An Env is immutable and may be kept.

**Values.** Bindings are JSON as Python holds it, used without being copied or changed, and read by their variable's type (so
`format: date-time` is a timestamp, and `self.__namespace__` reads "namespace"). Answers are CEL values: bool, int, str, ... as Python has
them; `to_json(value)` makes JSON of any (of `Object{...}`, of a list of `JSONPatch{...}`: dicts with op, path, from, value), or raises
EvaluationError.

**Variables of a policy** are composed: compile each in the env of the ones before it, with its type, then bind `Lazy`:
    env = cel.admission_env(variables={})
    first = cel.compile("object.spec.replicas", env)
    env = env.with_variable("r", first.type)               # now `variables.r` compiles
    bindings["variables"] = cel.Lazy({"r": lambda: first.evaluate(bindings, meter)})    # evaluated when first read, once

**The authorizer**: bind "authorizer" to `cel.Authorizer(ask, request_resource)`; authorizer.requestResource comes with it.
    ask(check: cel.Check) -> (allowed, reason, error)      # check.verb, path | group, resource, subresource, namespace, name,
                                                           # field_selector, label_selector, service_account; it can't await
    request_resource = cel.Check(group="apps", version="v1", resource="deployments", namespace="x", name="y")

Limits: no protobuf messages, no cel.bind (Kubernetes has neither). After a syntax error, nothing more is said.
Source: the CEL specification, cel-go, and the libraries that Kubernetes documents under "Common Expression Language in Kubernetes".
Knows `api/schema`, `api/quantity`, `api/regex`.
"""

from minik8s.api.cel.admission import admission_env, builtin_type
from minik8s.api.cel.errors import CompileError, CostError, EvaluationError
from minik8s.api.cel.libraries.authorizer import Authorizer, Check
from minik8s.api.cel.program import (
    CALL_LIMIT,
    EXPRESSION_LIMIT,
    MATCH_BUDGET,
    REQUEST_BUDGET,
    TOTAL_LIMIT,
    Env,
    Meter,
    Program,
    compile,
)
from minik8s.api.cel.schemas import Declared, escape, schema_type
from minik8s.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Type,
    list_of,
    map_of,
    optional_of,
)
from minik8s.api.cel.values import NONE, Duration, Lazy, Optional, Timestamp, UInt, to_json

__all__ = [
    "BOOL",
    "BYTES",
    "CALL_LIMIT",
    "DOUBLE",
    "DURATION",
    "DYN",
    "EXPRESSION_LIMIT",
    "INT",
    "MATCH_BUDGET",
    "NONE",
    "NULL",
    "REQUEST_BUDGET",
    "STRING",
    "TIMESTAMP",
    "TOTAL_LIMIT",
    "UINT",
    "Authorizer",
    "Check",
    "CompileError",
    "CostError",
    "Declared",
    "Duration",
    "Env",
    "EvaluationError",
    "Lazy",
    "Meter",
    "Optional",
    "Program",
    "Timestamp",
    "Type",
    "UInt",
    "admission_env",
    "builtin_type",
    "compile",
    "escape",
    "list_of",
    "map_of",
    "optional_of",
    "schema_type",
    "to_json",
]
