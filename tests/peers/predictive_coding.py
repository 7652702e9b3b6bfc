"""FabricPC's predictive coding, through its own training loop, `fabricpc.training.train`.

    python tests/peers/predictive_coding.py --batch 64     (with an interpreter that has fabricpc)

Like `pc`: relu, linear outputs under squared error with a precision of 0.03, Adam at 0.001, states that start as in a
forward pass, the same number of steps at the same rate. Unlike it:

- its states move without momentum, ours with it;
- it sums up the energy of every batch, ours the loss;
- its learning rate is constant, ours falls along a cosine;
- its loop compiles one step and calls it for every batch from Python, ours compiles the epoch;
- it is given float32 rows and one-hot labels by a loader that shuffles them in memory, the cheapest there could be
  (its own for MNIST goes through TensorFlow); ours gathers uint8 images and scales them within the step.
"""

import sys
from itertools import pairwise

from turns import Turns


class Shuffled:
    """Batches of a fresh permutation of the rows, every time they are gone through."""

    def __init__(self, x, y, batch: int, rng):
        self.x, self.y, self.batch, self.rng = x, y, batch, rng

    def __len__(self) -> int:
        return len(self.x) // self.batch

    def __iter__(self):
        order = self.rng.permutation(len(self.x))
        for i in range(len(self)):
            rows = order[i * self.batch : (i + 1) * self.batch]
            yield self.x[rows], self.y[rows]


def main() -> None:
    turns = Turns()
    try:
        import fabricpc
        from fabricpc.core.activations import IdentityActivation, ReLUActivation
        from fabricpc.core.energy import GaussianEnergy
        from fabricpc.core.inference import InferenceSGD
        from fabricpc.core.topology import Edge
        from fabricpc.graph_assembly import TaskMap, graph
        from fabricpc.graph_initialization import initialize_params
        from fabricpc.nodes import IdentityNode, Linear
        from fabricpc.training import train
    except ImportError as error:
        sys.exit(f"{error}: pip install fabricpc==0.6.0")
    import jax
    import numpy as np
    import optax

    fabricpc.setup_jax()
    last = len(turns.widths) - 1
    nodes = [IdentityNode(shape=(turns.widths[0],), name="pixels")]
    for i, width in enumerate(turns.widths[1:], 1):
        nodes.append(
            Linear(
                shape=(width,),
                name=f"layer{i}",
                activation=IdentityActivation() if i == last else ReLUActivation(),
                energy=GaussianEnergy(precision=0.03 if i == last else 1.0),
            )
        )
    structure = graph(
        nodes=nodes,
        edges=[Edge(source=a, target=b.slot("in")) for a, b in pairwise(nodes)],
        task_map=TaskMap(x=nodes[0], y=nodes[-1]),
        inference=InferenceSGD(eta_infer=0.03, infer_steps=turns.steps),
    )
    x, y = turns.floats()
    loader = Shuffled(x, np.eye(turns.widths[-1], dtype=np.float32)[y], turns.batch, np.random.default_rng(1))
    start, training = jax.random.split(jax.random.PRNGKey(0))

    # Its `train` compiles anew whenever it is called, so all rounds are epochs of one call; between two of them it
    # calls back, with the metrics of the epoch read and so everything computed.
    rounds = turns.rounds(f"FabricPC {fabricpc.__version__}")
    next(rounds)
    train(
        params=initialize_params(structure, start),
        structure=structure,
        train_loader=loader,
        optimizer=optax.adam(1e-3),
        config={"num_epochs": turns.count},
        rng_key=training,
        verbose=False,  # with progress bars it waits for every batch
        epoch_callback=lambda _: next(rounds, None),
    )


if __name__ == "__main__":
    main()
