"""`make golden`: how many of upstream's recorded answers minik8s gives, file by file.

    python -m tests.golden DIRECTORY [FILE ...] [--out DIRECTORY]

DIRECTORY holds golden.py, cases/ and answers/. The score goes to the terminal, the differences to `--out` (one text a file). Ends with 1
if an answer differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.golden import golden_answers as golden


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="Replays upstream's recorded answers.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("files", nargs="*", help="names of case files (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build/golden"), help="where the differences go")
    options = parser.parse_args()
    if not (options.directory / "golden.py").exists():
        print(f"no golden answers in {options.directory}; say where they are: make golden GOLDEN=DIRECTORY", file=sys.stderr)
        return 1
    known = golden.files(options.directory)
    if unknown := set(options.files) - set(known):
        parser.error(f"no cases {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    options.out.mkdir(parents=True, exist_ok=True)
    total = (0, 0, 0)
    started = time.monotonic()
    with ThreadPoolExecutor(golden.AT_A_TIME) as pool:
        replays = {pool.submit(golden.replay, options.directory, name): name for name in options.files or known}
        for done in as_completed(replays):
            name, outcome = replays[done], done.result()
            (options.out / f"{name}.txt").write_text(outcome.text)
            if outcome.broken:
                print(f"{name:<24}broken: {(outcome.text.strip() or 'no output').splitlines()[-1]}", flush=True)
                return 1
            score = (outcome.equal, outcome.of, outcome.to_the_letter)
            total = (total[0] + score[0], total[1] + score[1], total[2] + score[2])
            print(f"{name:<24}{told(score)}", flush=True)
    print(f"{'all':<24}{told(total)} in {time.monotonic() - started:.0f} s\ndifferences: {options.out}/")
    return 0 if total[0] == total[1] else 1


def told(score: tuple[int, int, int]) -> str:
    good, of, letter = score
    return f"{good:>5} of {of:>5} equal ({good / max(of, 1):6.1%}), {letter:>5} to the letter"


if __name__ == "__main__":
    sys.exit(main())
