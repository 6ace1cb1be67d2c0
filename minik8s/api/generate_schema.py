"""Writes `schema.json.gz`, the facts of all types of the API: `python -m minik8s.api.generate_schema`.

From two sources: the definitions of the package kubernetes-validate (fields, types, formats, required, list types, map keys,
patch strategies), and `emission.tsv` (what upstream's JSON does with an empty or absent field, found out from its Go types
and its answers). How a fact is written: see `schema.py`, which reads it. A test keeps the file equal to its sources.
"""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

LEVEL = "v1.36.0-local"
HERE = Path(__file__).parent
LEAVES = {
    "apimachinery.pkg.api.resource.Quantity": "q",
    "apimachinery.pkg.apis.meta.v1.MicroTime": "u",
    "apimachinery.pkg.apis.meta.v1.Time": "t",
    "apimachinery.pkg.util.intstr.IntOrString": "x",
    "apimachinery.pkg.apis.meta.v1.FieldsV1": "*",
    "apimachinery.pkg.runtime.RawExtension": "*",
}
SCALARS = {
    ("string", ""): "s",
    ("string", "byte"): "y",
    ("string", "date-time"): "t",
    ("boolean", ""): "b",
    ("integer", "int32"): "i",
    ("integer", "int64"): "l",
    ("integer", ""): "l",
    ("number", "double"): "d",
}


def generate() -> dict[str, Any]:
    """Definition (without `io.k8s.`) -> its facts."""
    text = files("kubernetes_validate").joinpath("kubernetes-json-schema", LEVEL, "_definitions.json").read_bytes()
    emissions = {}
    for line in (HERE / "emission.tsv").read_text().splitlines():
        if not line.startswith("#"):
            letter, name, fields = line.split("\t")
            emissions.update({(name, field): letter for field in fields.split()})
    return {_short(name): _facts(_short(name), schema, emissions) for name, schema in orjson.loads(text)["$defs"].items()}


def write() -> None:
    (HERE / "schema.json.gz").write_bytes(gzip.compress(orjson.dumps(generate()), mtime=0))


def _facts(name: str, schema: dict[str, Any], emissions: dict[tuple[str, str], str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if name in LEAVES:
        facts["leaf"] = LEAVES[name]
    elif "type" not in schema:
        facts["leaf"] = "*"
    required = schema.get("required", [])
    if schema.get("properties"):
        facts["fields"] = {
            field: _field(part, field in required, emissions.get((name, field))) for field, part in schema["properties"].items()
        }
    if required:
        facts["required"] = " ".join(required)
    if "x-kubernetes-map-type" in schema:
        facts["map"] = schema["x-kubernetes-map-type"]
    if "x-kubernetes-group-version-kind" in schema:
        facts["kinds"] = [[k["group"], k["version"], k["kind"]] for k in schema["x-kubernetes-group-version-kind"]]
    if "x-kubernetes-unions" in schema:
        facts["unions"] = schema["x-kubernetes-unions"]
    return facts


def _field(schema: dict[str, Any], required: bool, emission: str | None) -> str:
    shape = _shape(schema)
    listing = schema.get("x-kubernetes-list-type") or schema.get("x-kubernetes-map-type") or ""
    if "x-kubernetes-list-map-keys" in schema:
        listing += ":" + ",".join(schema["x-kubernetes-list-map-keys"])
    patch = schema.get("x-kubernetes-patch-strategy", "")
    if "x-kubernetes-patch-merge-key" in schema:
        patch += ":" + schema["x-kubernetes-patch-merge-key"]
    return "|".join([shape, emission or _usual_emission(shape, required), listing, patch]).rstrip("|")


def _shape(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = _short(schema["$ref"].removeprefix("#/$defs/"))
        return LEAVES.get(name, f"&{name}")
    kind = schema.get("type", "")
    kind = kind if isinstance(kind, str) else next(each for each in kind if each != "null")
    if kind == "array":
        return "[" + _shape(schema["items"])
    if kind == "object":
        return "{" + _shape(schema["additionalProperties"]) if "additionalProperties" in schema else "*"
    return SCALARS.get((kind, schema.get("format", "")), "*")


def _usual_emission(shape: str, required: bool) -> str:
    """Where `emission.tsv` is silent: required values are always there, optional scalars and collections go when empty."""
    if shape[0] in "[{":
        return "k" if required else "o"
    if shape[0] in "sybild":
        return "z" if required else "o"
    return "z" if required and shape[0] in "&qx" else "k"


def _short(name: str) -> str:
    return name.removeprefix("io.k8s.")


if __name__ == "__main__":
    write()
