"""BioTorch's feedback alignment: its dense layers in a chain, in the training loop of every torch program.

    python tests/peers/feedback_alignment.py --batch 64     (with an interpreter that has biotorch and torch)

Like `fa`: relu, cross-entropy, Adam at 0.001. Unlike it:

- B is uniform (Xavier), ours a second draw of normal weights; that costs nothing;
- its learning rate is constant, ours falls along a cosine;
- the loop is plain torch and not `biotorch.training`, which also counts accuracies and waits for the loss of every
  batch; Adam is torch's fused one; rows are float32 and shuffled in memory, without a DataLoader, which would take
  them one by one. All of this is faster than what BioTorch documents;
- torch runs operation by operation, ours compiles the epoch.
"""

import sys
from importlib.metadata import version
from itertools import pairwise

from turns import Turns


def main() -> None:
    turns = Turns()
    try:
        import torch
        from biotorch.layers.fa import Linear
    except ImportError as error:
        # Its own list of dependencies holds all of Jupyter.
        sys.exit(f"{error}: pip install numpy torch && pip install --no-deps biotorch==0.0.16")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = []
    for n_in, n_out in pairwise(turns.widths):
        layers += [Linear(n_in, n_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    x, y = (torch.from_numpy(array) for array in turns.floats())
    y = y.long()

    for _ in turns.rounds(f"BioTorch {version('biotorch')}"):
        for rows in torch.randperm(len(x)).split(turns.batch):
            optimizer.zero_grad()
            loss_of(model(x[rows]), y[rows]).backward()
            optimizer.step()


if __name__ == "__main__":
    main()
