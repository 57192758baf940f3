"""How long ``hushsweep query`` takes from the shell, each time in a fresh process.

python benchmarks/query.py RESULTS [--times 7]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

QUESTIONS = ("overview", "best", "missing", "tradeoff", "SELECT 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results")
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for question in QUESTIONS:
        seconds = [ask(options.results, question) for _ in range(options.times)]
        print(
            f"{question:10} median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s (target < 1.5 s)"
        )


def ask(results: str, question: str) -> float:
    """Return the seconds that one answer takes."""
    command = [sys.executable, "-m", "hushsweep.sweeps", "query", question, "--results", results]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
