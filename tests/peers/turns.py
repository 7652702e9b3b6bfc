"""What the competitors of `python -m tests.bench peers` share: settings, one thread on one core, data, a clock.

Every competitor is a process of its own. By hand it trains some rounds and prints one line of JSON with the median
seconds per sample. With `--turns` it waits for a line on its input before every round and answers with a line each,
so that several can take turns on one core. Read by interpreters that have not this project: imports nothing of it.
"""

import argparse
import json
import os
import statistics
import sys
import time

CLASSES = 10


class Turns:
    """One competitor's settings and clock.

    Attributes:
        widths: units of every layer, inputs and classes included.
        batch, steps: samples of a batch; relaxation steps where the rule has any.
        samples: examples of a round, which is one epoch.
        count: rounds, the first one included, which is not counted.
    """

    def __init__(self) -> None:
        """Read the arguments and settle on one thread of one core. To be done before JAX or torch is imported."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--widths", type=int, nargs="+", default=[784, 256, 128, CLASSES])
        parser.add_argument("--batch", type=int, default=128)
        parser.add_argument("--steps", type=int, default=20, help="relaxation steps of predictive coding")
        parser.add_argument("--samples", type=int, default=4096)
        parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more comes first")
        parser.add_argument("--core", type=int, help="where to stay; the last one allowed if not given")
        parser.add_argument("--turns", action="store_true", help="wait for a line before every round")
        parser.add_argument("--rule", default="bp", help="of this project, where it is the competitor")
        given = parser.parse_args()
        self.widths, self.batch, self.steps, self.rule = tuple(given.widths), given.batch, given.steps, given.rule
        self.samples = given.samples // given.batch * given.batch
        self.count, self._wait = given.rounds + 1, given.turns
        if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere one thread has to do
            # Threads that JAX and torch start later inherit it.
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if given.core is None else given.core})
        os.environ.update(
            OMP_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
            OPENBLAS_NUM_THREADS="1",
            XLA_FLAGS="--xla_cpu_multi_thread_eigen=false",
            JAX_PLATFORMS="cpu",
        )

    def pixels(self):
        """Random examples of MNIST's shape: rows of uint8 pixels, and labels."""
        import numpy as np

        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (self.samples, self.widths[0]), dtype=np.uint8)
        return x, rng.integers(0, self.widths[-1], self.samples).astype(np.int32)

    def floats(self):
        """The same examples as the peers' own loaders would give them, in [0, 1]; made once, outside the clock."""
        import numpy as np

        x, y = self.pixels()
        return x.astype(np.float32) / np.float32(255), y

    def rounds(self, name: str):
        """Yield once for every round: the time until the generator is asked again is the round's.

        The first round, which compiles, is not counted. Both clocks are read: the wall's, and that of the process,
        which what else the machine is doing stretches far less.
        """
        counted: dict[str, list[float]] = {"cpu": [], "wall": []}
        if self._wait:
            print(json.dumps({"name": name}), flush=True)
        for number in range(self.count):
            if self._wait and not sys.stdin.readline():
                sys.exit("nobody is asking any more")
            wall, cpu = time.perf_counter(), time.process_time()
            yield
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            spent = {"cpu": cpu / self.samples, "wall": wall / self.samples}
            if self._wait:
                print(json.dumps(spent), flush=True)
            elif number:
                for clock, seconds in spent.items():
                    counted[clock].append(seconds)
        if not self._wait:
            medians = {clock: statistics.median(seconds) for clock, seconds in counted.items()}
            print(json.dumps({"name": name, "batch": self.batch, "rounds": self.count - 1, **medians}), flush=True)
