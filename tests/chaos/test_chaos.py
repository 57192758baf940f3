"""Workers, nodes, drivers and mirrors are killed at random; afterwards every row is there, once, and right."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from chaos_support import SWEEP, Chaos, compare
from cluster_support import cluster

from hushsweep.sweeps import run
from hushsweep.sweeps.verify import verify


@pytest.mark.timeout(800)
def test_what_is_killed_at_random_costs_nothing_but_time(tmp_path: Path) -> None:
    sweep, reference = tmp_path / "chaos.yaml", tmp_path / "reference"
    sweep.write_text(SWEEP)
    assert run(sweep, results=reference, local=True, mirror=False).exit_code == 0
    with cluster() as nodes:
        chaos = Chaos(nodes, sweep, seed=7)
        chaos.start_nodes()
        for number in itertools.count():  # a sweep that ends before all kills are done is begun anew
            if len(chaos.kills) == 5:
                break
            results = tmp_path / f"results-{number}"
            chaos.run(results, 5 - len(chaos.kills))
            found = compare(reference, results)
            assert found.expected > 0
            assert found.wrong == 0, found
            assert verify(results).faults == ()
    assert Counter(kill.kind for kill in chaos.kills) == {"worker": 2, "node": 1, "driver": 1, "mirror": 1}
