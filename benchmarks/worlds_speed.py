"""How many pictures of the synthetic world can be drawn a second?

    python benchmarks/worlds_speed.py [--sizes 128,256] [--threads 1,2]

Fifty worlds, four moments each, warmed up; median of five rounds by the clock on the wall, and by the processor's
(`per_core_s`), which holds on a machine that has other things to do. Appends to benchmarks/results/worlds_speed.csv.
"""

import argparse
import statistics
import time
from pathlib import Path

from table import append

RESULTS = Path(__file__).parent / "results" / "worlds_speed.csv"
WORLDS, ROUNDS = 50, 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="128,256")
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    from saccade.engine.bench.machine import describe_machine
    from saccade.worlds import make_world, render

    worlds = [make_world(seed) for seed in range(WORLDS)]
    machine, moments = describe_machine(), [0.0, 1.5, 3.0, 4.5]
    render(worlds[0], moments[:1], (32, 32))
    for size in (int(text) for text in options.sizes.split(",")):
        for threads in (int(text) for text in options.threads.split(",")):
            rates, per_core = [], []
            for _ in range(ROUNDS):
                begin, spent = time.perf_counter(), time.process_time()
                for world in worlds:
                    render(world, moments, (size, size), threads=threads)
                rates.append(WORLDS * len(moments) / (time.perf_counter() - begin))
                per_core.append(WORLDS * len(moments) / (time.process_time() - spent))
            row = {
                "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"], "size": size,
                "threads": threads, "pictures_per_s": f"{statistics.median(rates):.0f}",
                "low": f"{min(rates):.0f}", "high": f"{max(rates):.0f}",
                "per_core_s": f"{statistics.median(per_core):.0f}",
            }  # fmt: skip
            append(RESULTS, [row])
            print(row, flush=True)


if __name__ == "__main__":
    main()
