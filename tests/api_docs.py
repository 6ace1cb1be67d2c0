"""Writes `docs/api.md`: every group, version, kind, verb and subresource that is served, and what becomes of each kind.

    python -m tests.api_docs

Made of the resource table, of discovery's table of subresources, of api_facts.py, and of the first lines of tests/e2e/clients; so it
can't say what is not so. tests/test_api_docs.py holds the file equal to what is made here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from minik8s.api.resources import RESOURCES, STANDARD_VERBS, Resource
from minik8s.apiserver import discovery
from tests.api_facts import FACTS, Fact

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "api.md"

HEAD = """# The API

What the API server serves, and what becomes of it. This page is made by `make docs` of the resource table
([minik8s/api/resources.py](../minik8s/api/resources.py)) and of facts that tests hold
([tests/api_facts.py](../tests/api_facts.py)); how far answers equal upstream's is told in [conformance.md](conformance.md).

All of it can be read and written as JSON, YAML and protobuf, patched in the four ways of Kubernetes (JSON patch, merge patch, strategic
merge patch, server-side apply), listed in pieces, watched, and shown as Tables; `kubectl explain` and `kubectl api-resources` know it
(what fields mean is told where the extra is installed that has the descriptions: `.venv/bin/pip install -e '.[explain]'`).
*Acted on* means that a part of minik8s does what Kubernetes does with such an object, and a test shows it. *Stored only* means that
objects are defaulted, validated, kept and watched as upstream's, for whoever acts on them: a controller that you install, say.

In the tables, *all* verbs are {verbs}.
"""
HEADINGS = "| kind | resource | verbs | subresources | what becomes of it | by |"
CUSTOM = """## Custom and aggregated resources

[CustomResourceDefinitions](extending.md) add groups, versions and kinds with all verbs and, as they say, `status` and `scale`;
APIServices hand a group version to another API server. Discovery, OpenAPI v2 and v3, RBAC, quotas, garbage collection and
namespaces' ends know both.
"""
PATHS = {
    "/": "all paths",
    "/.well-known/openid-configuration": "who issues ServiceAccounts' tokens",
    "/api": "discovery of the core group; aggregated where it is asked for",
    "/apis": "discovery of all other groups; aggregated where it is asked for",
    "/debug/api_priority_and_fairness/dump_priority_levels": "priority levels and what they hold",
    "/debug/api_priority_and_fairness/dump_queues": "their queues",
    "/debug/api_priority_and_fairness/dump_requests": "requests that wait or run",
    "/healthz": "health (old name); each check below it",
    "/index.html": "all paths",
    "/livez": "whether the server is alive; each check below it",
    "/metrics": "Prometheus metrics, under upstream's names",
    "/metrics/resources": "what pods ask for and may have, as metrics",
    "/metrics/slis": "metrics of the checks of health",
    "/openapi/v2": "OpenAPI 2.0 of everything",
    "/openapi/v3": "the index of OpenAPI 3.0's documents, one a group version, below it",
    "/openid/v1/jwks": "the keys that sign ServiceAccounts' tokens",
    "/readyz": "whether the server takes requests; each check below it",
    "/version": "the version",
}


def made() -> str:
    """The page."""
    sections = [HEAD.format(verbs=_code(STANDARD_VERBS)), _summary()]
    for group in ["", *discovery.groups(RESOURCES)]:
        sections += [_group(group, version) for version in discovery.versions(RESOURCES, group)]
    return "\n".join([*sections, CUSTOM, _subresources(), _paths(), _clients()])


def acted_on(row: Resource) -> bool:
    return bool(FACTS[row.group, row.kind].by)


def _summary() -> str:
    kinds = {(row.group, row.kind): row for row in RESOURCES}
    acted = sum(acted_on(row) for row in kinds.values())
    stored = sorted(row.kind for row in kinds.values() if not acted_on(row))
    return (
        f"{len(RESOURCES)} resources of {len({row.group for row in RESOURCES})} groups: {len(kinds)} kinds, of which {acted} are acted on; "
        f"stored only: {', '.join(stored)}.\n"
    )


def _group(group: str, version: str) -> str:
    rows = sorted((row for row in RESOURCES if (row.group, row.version) == (group, version)), key=lambda row: row.kind)
    lines = [f"## {rows[0].api_version}\n", HEADINGS, re.sub(r"[a-z ]+", " --- ", HEADINGS)]
    for row in rows:
        names = f"`{row.plural}`" + (f" ({', '.join(row.short_names)})" if row.short_names else "")
        scope = "" if row.namespaced else ", of the cluster"
        fact = FACTS[row.group, row.kind]
        lines.append(
            f"| {row.kind} | {names}{scope} | {_verbs(row)} | {_code(row.subresources)} | {_fate(fact, row)} | {_where(fact)} |"
        )
    return "\n".join([*lines, ""])


def _verbs(row: Resource) -> str:
    missing = [verb for verb in STANDARD_VERBS if verb not in row.verbs]
    if not missing:
        return "all"
    return f"all but {_code(missing)}" if len(missing) == 1 else _code(row.verbs)


def _fate(fact: Fact, row: Resource) -> str:
    alike = f" (the same objects as `{row.stored_as.lstrip('/')}`)" if row.stored_as else ""
    return fact.what + alike if fact.by else f"**stored only**: {fact.what}{alike}"


def _where(fact: Fact) -> str:
    """Links to the modules that act, and to the tests that show it."""
    modules = ", ".join(f"[{_short(path)}](../minik8s/{path})" for path in fact.by)
    tests = ", ".join(f"[{number}](../tests/{path})" for number, path in enumerate(fact.shown, 1))
    return f"{modules}; tests {tests}" if modules else ""


def _short(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__")


def _subresources() -> str:
    lines = ["## Subresources\n", "| name | verbs | speaks |", "| --- | --- | --- |"]
    for name, spoken in sorted(discovery.SUBRESOURCES.items()):
        kind = spoken.kind.format(kind="").lstrip() or "the object itself"
        group = f" ({'/'.join(filter(None, (spoken.group, spoken.version)))})" if spoken.group else ""
        lines.append(f"| `{name}` | {_code(spoken.verbs)} | {'text' if name == 'log' else kind + group} |")
    return "\n".join([*lines, ""])


def _paths() -> str:
    lines = ["## Outside the resources\n", "| path | what it is |", "| --- | --- |"]
    lines += [f"| `{path}` | {text} |" for path, text in PATHS.items()]
    return "\n".join([*lines, "\nAgents join and dial by paths of their own, which are no API for others.\n"])


def _clients() -> str:
    lines = ["## Clients\n", "Unmodified clients that tests hold against a server:\n"]
    lines += [f"- [{path.stem}](../{path.relative_to(ROOT)}): {text}" for path, text in clients()]
    return "\n".join([*lines, "- Go: kubectl is client-go; a program of the tests' own would need Go's module proxy.", ""])


def clients() -> Iterator[tuple[Path, str]]:
    """The tests of clients, with the first sentence of each."""
    for path in sorted((ROOT / "tests" / "e2e" / "clients").glob("test_*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        yield path, re.sub(r"\s+", " ", text.partition("\n\n")[0]).rstrip(".")


def _code(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    FILE.write_text(made())
