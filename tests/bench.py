"""Speed, as ratios measured within one run: `python -m tests.bench [NAME ...]`.

    loop     the training loop beside a bare jit + scan loop of the same network, and other rules beside bp
    run      a whole run of bp (evaluations, checkpoints and record included) beside the same bare loop
    rules    every rule's step beside bp's, per sample, on the network it is compared on
    seeds    many seeds of fa together beside one, on an accelerator
    help     `lab --help` imports no jax
    compile  what the second `lab train` of a shape spends before its first step
    memory   peak memory of `lab train` with 5 seeds on MNIST
    width    seconds per seed and epoch by cohort width
    conv     the convolution as it is written, beside XLA's primitive, inside a compiled loop
    probes   all pairs of 128 representations beside pair by pair, and nulls in closed form beside drawn ones
    stimuli  10,000 stimuli and 100 networks within a limit of memory
    peers    pc beside FabricPC, fa beside BioTorch: one thread each, the same network, batch and steps; they are no
             dependencies, so PEERS_PYTHON names a Python that has them (tests/peers/ says what is compared)

Machines differ and are shared, so what counts are the ratios; each is the median over rounds in which the things
compared take turns.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROUNDS = 7
STEPS = 20
EPOCHS_TIMED = 2


def main(names: list[str]) -> int:
    from tests import bench_probes

    benches = {
        "loop": loop,
        "run": whole_run,
        "rules": rules,
        "seeds": seeds_together,
        "help": help_without_jax,
        "compile": second_compile,
        "memory": memory,
        "width": width,
        "conv": conv,
        "probes": lambda: bench_probes.probes(say),
        "stimuli": lambda: bench_probes.many_stimuli(say),
        "peers": peers,
    }
    unknown = [name for name in names if name not in benches]
    if unknown:
        print(f"unknown benchmark {unknown[0]}; known: {', '.join(benches)}")
        return 2
    for name in names or benches:
        benches[name]()
    return 0


def mnist():
    from lab.datasets.dataset import split
    from lab.datasets.sources import load
    from lab.training import on_device

    parts = split(load("mnist"))
    return on_device(parts.train_x, parts.train_y)


def bare_epoch(batch: int = 128):
    """What one would write by hand: plain arrays, one function, `jit` and `scan`; no rule, no block, no record."""
    import jax
    import jax.numpy as jnp
    import optax

    sizes = (784, 256, 128, 10)
    optimizer = optax.adam(1e-3)

    def init(key):
        keys = jax.random.split(key, 3)
        return [
            (jax.random.normal(k, (m, n)) * (2 / m) ** 0.5, jnp.zeros(n))
            for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def loss(params, x, y):
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ W + b, y).mean()

    @jax.jit
    def epoch(params, state, key, x, y):
        steps = len(y) // batch
        order = jax.random.permutation(key, len(y))[: steps * batch].reshape(steps, batch)

        def step(carry, rows):
            params, state = carry
            inputs = x[rows].reshape(batch, -1).astype(jnp.float32) / 255
            value, grads = jax.value_and_grad(loss)(params, inputs, y[rows])
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, state), order)

    params = init(jax.random.key(0))
    return epoch, params, optimizer.init(params)


def lab_epoch(rule: str, examples, arch: str | None = None, width: int = 1, batch: int = 128):
    """One epoch of a cohort through the lab's own loop, as a function of the epoch's number.

    Args:
        arch: the rule's own default network if it is not given.
    """
    import jax

    from algorithms import RULES
    from lab.callstring import build
    from lab.networks import ARCHITECTURES
    from lab.optimizers import adam
    from lab.request import default_network
    from lab.training import Trainer

    made = build(rule, RULES, "--rule")[0]
    net = build(arch or default_network(made), ARCHITECTURES, "--arch")[0]((28, 28, 1), 10)
    steps = len(examples.y) // batch
    trainer = Trainer(made, net, adam(1e-3)(10 * steps), batch, width)
    seeds = trainer.seeds(list(range(width)))
    learner = trainer.start(seeds, examples)

    def epoch(number: int) -> None:
        nonlocal learner
        learner = trainer.advance(learner, seeds, seeds, number, 0, steps, examples)
        jax.block_until_ready(learner.loss_sum)

    return epoch


def timed(function, *args, clock=time.perf_counter) -> float:
    begun = clock()
    function(*args)
    return clock() - begun


def take_turns(competitors: dict, rounds: int = ROUNDS, clock=time.perf_counter) -> dict[str, list[float]]:
    """Seconds of each competitor in each round; the first call of each, which compiles, is not counted."""
    for function in competitors.values():
        function(0)
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(1, rounds + 1):
        for name, function in competitors.items():
            seconds[name].append(timed(function, number, clock=clock))
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median of the round-by-round ratios."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def say(line: str, target: str = "") -> None:
    print(line + (f"   (target: {target})" if target else ""), flush=True)


def loop() -> None:
    import jax

    examples = mnist()
    step, params, state = bare_epoch()
    carry = (params, state)

    def bare(number: int) -> None:
        nonlocal carry
        carry, losses = step(*carry, jax.random.key(number), examples.x, examples.y)
        jax.block_until_ready(losses)

    rules = ("bp", "fa", "dfa", "ff", "frozen")
    seconds = take_turns({"bare": bare} | {rule: lab_epoch(rule, examples) for rule in rules})
    for name, values in seconds.items():
        say(f"loop: {name:<6} {statistics.median(values):.3f} s per seed and epoch of 55,000")
    say(f"loop: bp through the lab / bare loop = {ratio(seconds, 'bp', 'bare'):.3f}", "at most 1.15")
    for rule in rules[1:]:
        say(f"loop: {rule} / bp = {ratio(seconds, rule, 'bp'):.3f}")


TARGETS = {
    **dict.fromkeys(("fa", "dfa", "usf", "kp", "drtp"), 1.2),
    "local": 1.4,
    "pepita": 3.5,
    "ff": 3.5,
    "pc": 4.0,
    "ep": 12.0,
}
"""Cost of a step as a multiple of bp's that a rule may have."""


def rules() -> None:
    """Each rule on its default network, with a bp right before it in every round; bp beside itself shows the noise.

    On a CPU it is the processor's seconds that count, which the lab reports as a rule's cost. Beside one bp a round and
    by the clock on the wall, what else the machine did decided: bp itself came out at 0.3 to 4 times bp.
    """
    import jax

    from algorithms import RULES

    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    examples = mnist()
    few = type(examples)(examples.x[:12_800], examples.y[:12_800])
    bp = lab_epoch("bp", few)
    for rule in RULES:
        seconds = take_turns({"bp": bp, "rule": lab_epoch(rule, few)}, rounds=5, clock=clock)
        target = f"at most {TARGETS[rule]:g}" if rule in TARGETS else ""
        say(f"rules: {rule:<10} / bp = {ratio(seconds, 'rule', 'bp'):.2f}", target)


def seeds_together() -> None:
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        say("seeds: nothing to measure on a CPU, where a cohort is one seed")
        return
    examples = mnist()
    seconds = take_turns({str(width): lab_epoch("fa", examples, width=width) for width in (1, 64)}, rounds=3)
    say(f"seeds: 64 seeds of fa / one = {ratio(seconds, '64', '1'):.2f} on {device.device_kind}", "at most 3")


def whole_run() -> None:
    """Seconds beyond compiling, from the record of the second run of a shape; what a user of `lab train` waits for."""
    import jax

    from lab.request import Wish, make_request
    from lab.runner import train
    from runs import Store

    epochs = 10
    examples = mnist()
    step, params, state = bare_epoch()
    carry = (params, state)

    def bare(first: int) -> None:
        nonlocal carry
        for number in range(first, first + epochs):
            carry, losses = step(*carry, jax.random.key(number), examples.x, examples.y)
            jax.block_until_ready(losses)

    with tempfile.TemporaryDirectory() as folder:
        ratios = []
        for turn in range(4):
            request = make_request(Wish(rule="bp", seeds=f"{turn},{turn + 100}", epochs=epochs), [])
            cohorts = train(request, Store(folder)).manifest["cohorts"]
            # The second seed of a run finds everything compiled, as every seed but the first does.
            ratios.append(cohorts[1]["seconds"] / timed(bare, 10 * turn))
    say(f"run: a whole run of bp / bare loop = {statistics.median(ratios[1:]):.2f} ({epochs} epochs, per seed)")


def help_without_jax() -> None:
    code = (
        "import sys\nfrom lab.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nprint('jax' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with_jax = found.stdout.strip().splitlines()[-1] == "True"
    seconds = statistics.median(
        timed(lambda: subprocess.run([sys.executable, "-m", "lab.cli", "--help"], capture_output=True, check=True))
        for _ in range(5)
    )
    say(f"help: lab --help imports jax: {'yes' if with_jax else 'no'}; {seconds:.2f} s", "no")


TRAIN = "from lab.cli import main; main({args}, prog_name='lab')"


def run_train(folder: str, *args: str, log: str = "") -> subprocess.CompletedProcess:
    """`lab train` in a process of its own, with a fresh store but a shared compilation cache."""
    environment = {**os.environ, "XDG_CACHE_HOME": folder, "LAB_STORE": tempfile.mkdtemp(dir=folder)}
    code = log + TRAIN.format(args=["train", *args, "-q"])
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


COUNT_COMPILING = """
import atexit, jax, sys
spent = {"trace and lower": 0.0, "compile or load": 0.0}
def listen(event, seconds, **_):
    if event in ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration"):
        spent["trace and lower"] += seconds
    if event == "/jax/core/compile/backend_compile_duration":
        spent["compile or load"] += seconds
jax.monitoring.register_event_duration_secs_listener(listen)
atexit.register(lambda: print(*spent.values(), file=sys.stderr))
"""


def second_compile() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first", "second"):
            done = run_train(folder, "--rule", "fa", "--epochs", "1", "--seeds", "1", log=COUNT_COMPILING)
            tracing, compiling = map(float, done.stderr.strip().splitlines()[-1].split())
            target = "below 1 s compiling" if turn == "second" else ""
            say(f"compile: {turn} lab train: {compiling:.2f} s compiling or loading, {tracing:.2f} s tracing", target)


def memory() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_train(folder, "--rule", "bp", "--epochs", "2", "--seeds", "5")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    say(f"memory: lab train, 5 seeds on MNIST: {peak:.2f} GiB at its peak", "below 2")


def width() -> None:
    examples = mnist()
    widths = (1, 2, 4, 8)
    seconds = take_turns({str(w): lab_epoch("bp", examples, width=w) for w in widths}, rounds=3)
    for w in widths:
        say(f"width: {w} seeds together: {statistics.median(seconds[str(w)]) / w:.3f} s per seed and epoch")


def conv() -> None:
    import jax

    import lab.blocks as blocks

    examples = mnist()
    small = type(examples)(examples.x[:6400], examples.y[:6400])
    as_written = blocks.convolve

    def primitive(h, W):
        return jax.lax.conv_general_dilated(h, W, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    competitors = {}
    for name, function in (("written", as_written), ("primitive", primitive)):
        blocks.convolve = function
        competitors[name] = lab_epoch("bp", small, arch="conv(6,16)")
        competitors[name](0)  # traced while this convolution stands
    blocks.convolve = as_written
    seconds = take_turns(competitors, rounds=3)
    say(f"conv: primitive / as written = {ratio(seconds, 'primitive', 'written'):.1f}")


class NoPeer(Exception):
    """A competitor that did not start, with the last thing it said."""


class Competitor:
    """A process of its own that trains an epoch whenever it is called: see `tests/peers/turns.py`.

    Attributes:
        name: what it is and its version.
        cpu: CPU seconds of its process, per sample, in each round; the first one, which compiles, included.
    """

    def __init__(self, *command: str, batch: int):
        settings = ("--batch", str(batch), "--steps", str(STEPS), "--rounds", str(ROUNDS), "--turns")
        self.cpu: list[float] = []
        try:
            self.process = subprocess.Popen(
                [*command, *settings],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise NoPeer(str(error)) from None
        self.name = self.answer()["name"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise NoPeer((self.process.communicate()[1].strip().splitlines() or ["it said nothing"])[-1])
        return json.loads(line)

    def __call__(self, number: int) -> None:
        print(file=self.process.stdin, flush=True)
        self.cpu.append(self.answer()["cpu"])

    def __enter__(self) -> "Competitor":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()  # this very process, which by now has nothing left to do
        self.process.communicate()


def peers() -> None:
    """Our training and that of the peers, in turns on one core, by CPU time: others use the machine too."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    for rule, script in ((f"pc(steps={STEPS})", "predictive_coding.py"), ("fa", "feedback_alignment.py")):
        for batch in (64, 128):
            with ExitStack() as both:
                try:
                    peer = both.enter_context(Competitor(python, str(Path("tests", "peers", script)), batch=batch))
                except NoPeer as error:
                    say(f"peers: {rule} not compared, {python}: {error} (PEERS_PYTHON names another Python)")
                    break
                ours = both.enter_context(
                    Competitor(sys.executable, "-m", "tests.peers.ours", "--rule", rule, batch=batch)
                )
                wall = take_turns({"ours": ours, "peer": peer})
            cpu = {"ours": ours.cpu[1:], "peer": peer.cpu[1:]}
            each = {name: 1e6 * statistics.median(seconds) for name, seconds in cpu.items()}
            say(f"peers: batch {batch}: {rule} {each['ours']:.1f}, {peer.name} {each['peer']:.1f} µs of CPU per sample")
            say(
                f"peers: {rule} ours / {peer.name.split()[0]} = {ratio(cpu, 'ours', 'peer'):.2f} "
                f"({ratio(wall, 'ours', 'peer'):.2f} by the wall's clock), batch {batch}",
                "at most 1",
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
