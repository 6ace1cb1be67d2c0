"""`make golden` and `make golden-node`: how many of upstream's recorded answers minik8s gives, file by file.

    python -m tests.golden DIRECTORY [FILE ...] [--node] [--runtime NAME] [--out DIRECTORY]

DIRECTORY holds golden.py, cases/, answers/ and node/. With `--node` it is the node's cases that are replayed, on each container
runtime. The score goes to the terminal, the differences to `--out` (one text a file and runtime). Ends with 1 if an answer differs, or
if a runtime is missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tests.golden import golden_answers as golden


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="Replays upstream's recorded answers.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("files", nargs="*", help="names of case files (default: all)")
    parser.add_argument("--node", action="store_true", help="what a node makes of pods, on each runtime")
    parser.add_argument("--runtime", action="append", help="with --node: only this one")
    parser.add_argument("--out", type=Path, default=Path("build/golden"), help="where the differences go")
    options = parser.parse_args()
    if not (options.directory / "golden.py").exists():
        print(f"no golden answers in {options.directory}; say where they are: make golden GOLDEN=DIRECTORY", file=sys.stderr)
        return 1
    known = golden.files(options.directory / "node" if options.node else options.directory)
    if unknown := set(options.files) - set(known):
        parser.error(f"no cases {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.files or known
    if options.node:
        return on_nodes(options.directory, names, options.runtime, options.out)
    outcomes = replayed(partial(golden.replay, options.directory), names, options.out)
    return 0 if all(outcome.good for outcome in outcomes.values()) else 1


def on_nodes(directory: Path, names: Sequence[str], only: Sequence[str] | None, out: Path) -> int:
    """Each runtime after the other; then both beside each other."""
    from tests.golden import golden_node

    found: dict[str, dict[str, golden.Outcome]] = {}
    for runtime in only or golden_node.RUNTIMES:
        if reason := golden_node.missing(runtime):
            print(f"{runtime}: {reason}", file=sys.stderr)
            return 1
        print(f"{runtime}:", flush=True)
        with golden_node.node(directory, runtime, out / f"node-{runtime}.log") as cluster:
            found[runtime] = replayed(partial(golden_node.replay, directory, cluster), names, out, f"node-{runtime}-")
    print("\n" + f"{'':<24}" + "".join(f"{runtime:>16}" for runtime in found))
    for name in sorted(names):
        print(f"{name:<24}" + "".join(f"{f'{outcomes[name].equal} of {outcomes[name].of}':>16}" for outcomes in found.values()))
    return 0 if all(outcome.good for outcomes in found.values() for outcome in outcomes.values()) else 1


def replayed(
    replay: Callable[[str], golden.Outcome], names: Sequence[str], out: Path, prefix: str = ""
) -> dict[str, golden.Outcome]:
    """Some files at a time; each file's outcome."""
    started = time.monotonic()
    outcomes: dict[str, golden.Outcome] = {}

    def note(name: str, outcome: golden.Outcome, suffix: str = "") -> None:
        outcomes[name] = outcome
        (out / f"{prefix}{name}.txt").write_text(outcome.text)
        print(f"{name:<24}{told(outcome)}{suffix}", flush=True)

    with ThreadPoolExecutor(golden.AT_A_TIME) as pool:
        replays = {pool.submit(replay, name): name for name in names}
        for done in as_completed(replays):
            note(replays[done], done.result())
    for name in [name for name, outcome in outcomes.items() if not outcome.good]:
        note(name, replay(name), ", once more")  # alone: a busy machine may have been late
    total = golden.Outcome(
        *(sum(getattr(o, field) for o in outcomes.values()) for field in ("equal", "of", "to_the_letter")), ""
    )
    print(f"{'all':<24}{told(total)} in {time.monotonic() - started:.0f} s; differences: {out}/{prefix}*")
    return outcomes


def told(outcome: golden.Outcome) -> str:
    if outcome.broken:
        return f"broken: {(outcome.text.strip() or 'no output').splitlines()[-1]}"
    share = outcome.equal / outcome.of
    return f"{outcome.equal:>5} of {outcome.of:>5} equal ({share:6.1%}), {outcome.to_the_letter:>5} to the letter"


if __name__ == "__main__":
    sys.exit(main())
