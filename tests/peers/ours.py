"""One of our rules, through the lab's own loop, as a competitor: `python -m tests.peers.ours --rule fa --batch 64`."""

from tests.peers.turns import Turns


def main() -> None:
    turns = Turns()
    from lab.training import on_device
    from tests.bench import lab_epoch

    x, y = turns.pixels()
    arch = f"mlp({','.join(map(str, turns.widths[1:-1]))})"
    epoch = lab_epoch(turns.rule, on_device(x.reshape(-1, 28, 28, 1), y), arch, batch=turns.batch)
    for number, _ in enumerate(turns.rounds(turns.rule)):
        epoch(number)


if __name__ == "__main__":
    main()
