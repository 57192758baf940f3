"""A small sweep on three nodes whose workers, nodes, driver and mirror are killed at random; then its rows are counted.

python benchmarks/chaos.py [--kills 30] [--seed 0]
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # the same cluster and the same kills

from chaos_support import SWEEP, Chaos, Findings, compare
from cluster_support import cluster
from common import print_machine, scratch

from hushsweep.sweeps import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print_machine()
    started, totals, rounds = time.monotonic(), Findings(), 0
    with scratch() as folder, cluster() as nodes:
        sweep, reference = Path(folder) / "chaos.yaml", Path(folder) / "reference"
        sweep.write_text(SWEEP)
        run(sweep, results=reference, local=True, mirror=False)
        chaos = Chaos(nodes, sweep, args.seed, say=lambda text: print(text, flush=True))
        chaos.start_nodes()
        while len(chaos.kills) < args.kills:
            results = Path(folder) / f"results-{rounds}"
            chaos.run(results, args.kills - len(chaos.kills))
            add(totals, compare(reference, results))
            rounds += 1
    table(chaos, totals, rounds, time.monotonic() - started)
    return int(totals.wrong > 0)


def add(totals: Findings, found: Findings) -> None:
    for name in ("expected", "lost", "doubled", "different", "runs_doubled", "runs_lost"):
        setattr(totals, name, getattr(totals, name) + getattr(found, name))
    totals.examples += found.examples


def table(chaos: Chaos, totals: Findings, rounds: int, seconds: float) -> None:
    print("\n| killed | times |\n| --- | --- |")
    for kind, count in sorted(Counter(kill.kind for kill in chaos.kills).items()):
        print(f"| {kind} | {count} |")
    print("\n| sweeps | seconds | rows | lost | doubled | different | MLflow runs lost | doubled |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {rounds} | {seconds:.0f} | {totals.expected:,} | {totals.lost} | {totals.doubled} "
        f"| {totals.different} | {totals.runs_lost} | {totals.runs_doubled} |"
    )
    for example in totals.examples[:10]:
        print("different:", example)


if __name__ == "__main__":
    sys.exit(main())
