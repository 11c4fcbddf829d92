"""Why stock importers fail, where their answer alone does not say so: one line that their maintainers can act on.

Each was found by running or reading the version that the table names.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

REASONS: tuple[tuple[str, str, str], ...] = (
    ("*", "flatten*", "nir.Flatten's axes do not count the batch, but are passed to torch.nn.Flatten as they are"),
    ("*", "sumpool2d-padding", "the padding of nir.SumPool2d is dropped (nirtorch issue 44)"),
    ("*", "conv2d-depthwise", "in_channels is read from weight.shape[1], which nir divides by groups"),
    ("*", "two-outputs", "nirtorch's executor puts each Output back into its queue while the other one is waiting"),
    ("*", "fan-in-at-output", "several edges into an Output are returned side by side, not summed"),
    ("nirtorch*", "affine*", "the default map assigns weight.bias instead of bias, so that the bias stays random"),
    (
        "snntorch*",
        "if*",
        "IF becomes Leaky(beta=0.9, init_hidden=False), whose (spikes, state) pair is passed on as it is",
    ),
    ("snntorch*", "*v_reset", "v_reset is ignored"),
    ("snntorch*", "lif-per-neuron-tau", "the threshold is scaled by the first of the time constants"),
    ("snntorch*", "cycle-without-delay", "the input of the recurrent subgraph also passes through w_rec"),
    ("norse*", "*-r*", "r is ignored"),
    ("norse*", "lif-v_leak", "the initial potential is v_leak instead of 0"),
    ("norse*", "*v_reset", "v_reset of the file is ignored"),
    ("norse*", "fan-in", "nodes run in depth-first order: one branch runs after the node that sums it"),
    ("norse*", "fan-in-at-output", "nodes run in depth-first order: one branch runs after the Output"),
    ("norse*", "two-outputs", "one Output is returned"),
    ("norse*", "feedback", "Delay has no module and is dropped without a word"),
    (
        "norse*",
        "classifier",
        "nir.Flatten's axes do not count the batch, but are passed to torch.nn.Flatten as they are",
    ),
    (
        "norse*",
        "paper-cnn",
        "nir.Flatten's axes do not count the batch, but are passed to torch.nn.Flatten as they are",
    ),
    (
        "spikingjelly*",
        "*-v_reset",
        "v_reset is also taken as the initial potential, and neurons fire at v >= threshold",
    ),
    ("spikingjelly*", "*", "neurons fire at v >= threshold, nir says v > threshold"),
    ("sinabs*", "fan-in*", "nodes run in depth-first order: one branch runs after the node that sums it"),
    ("sinabs*", "two-outputs", "one Output is returned"),
    ("sinabs*", "li*", "decays by exp(-1/tau) with tau in seconds taken for steps, and input times 1 - exp(-1/tau)"),
    (
        "sinabs*",
        "if*",
        "several spikes per step, subtraction instead of reset, fires at >= threshold, r and v_reset ignored",
    ),
    (
        "sinabs*",
        "*",
        "decays by exp(-1/tau), several spikes per step, subtraction instead of reset, fires at >= threshold",
    ),
    ("spyx*", "scale*", "Scale has no module and is dropped without a word"),
    ("spyx*", "conv1d*", "Conv1d has no module and is dropped without a word"),
    ("spyx*", "avgpool2d*", "AvgPool2d has no module and is dropped without a word"),
    ("spyx*", "sumpool2d*", "pools as if channels came last"),
    ("spyx*", "flatten*", "every Flatten flattens all axes, channels last"),
    ("spyx*", "delay*", "Delay has no module and is dropped without a word"),
    ("spyx*", "threshold", "Threshold alone has no module and is dropped without a word"),
    ("spyx*", "i", "I has no module and is dropped without a word"),
    ("spyx*", "cubali", "CubaLI has no module and is dropped without a word"),
    ("spyx*", "feedback", "does not return from sorting a graph with a cycle"),
    ("spyx*", "soft-reset", "does not return from sorting a graph with a cycle"),
    ("spyx*", "*digits", "does not return from sorting a graph with branches"),
    ("spyx*", "fan-in*", "graphs are run as a chain; neurons fire before they integrate and subtract"),
    ("spyx*", "two-outputs", "graphs are run as a chain"),
    (
        "spyx*",
        "*",
        "neurons fire before they integrate (one step late) and subtract; r, v_leak and v_reset are ignored",
    ),
)


def reason(subject: str, case: str) -> str:
    """What is known of a failure; empty where nothing is."""
    return next((text for who, which, text in REASONS if fnmatchcase(subject, who) and fnmatchcase(case, which)), "")
