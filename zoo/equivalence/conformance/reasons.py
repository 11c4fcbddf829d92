"""Why stock importers fail, where their answer alone does not say so: one line that their maintainers can act on.

Each was found by running or reading the version that the table names.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import chain

from zoo.equivalence.conformance.judging import REFUSES, WRONG, Verdict

_FLATTEN = "nir.Flatten's axes do not count the batch, but are passed to torch.nn.Flatten as they are"
_DEPTH_FIRST = "nodes run in depth-first order: one branch runs after the node that sums it"
_LEAKY = "IF becomes Leaky(beta=0.9, init_hidden=False), whose (spikes, state) pair is passed on as it is"
_FIRST_TAU = "the threshold is scaled by the first of the time constants"
_CYCLE = "does not return from sorting a graph with a cycle"
_SINABS_IF = "several spikes per step, subtraction instead of reset, fires at >= threshold, r and v_reset ignored"

REASONS: tuple[tuple[str, str, str], ...] = (
    ("spyx*", "conv2d-dilation", "dilation is ignored"),
    ("spyx*", "flatten*", "every Flatten flattens all axes, with channels last"),
    ("*", "flatten*", _FLATTEN),
    ("*", "sumpool2d-padding", "the padding of nir.SumPool2d is dropped (nirtorch issue 44)"),
    ("*", "edge-twice*", "an edge that is listed twice counts once"),
    ("sinabs*", "two-outputs", "one Output is returned"),
    ("norse*", "two-outputs", "one Output is returned"),
    ("spyx*", "two-outputs", "graphs are run as a chain"),
    ("*", "two-outputs", "nirtorch's executor puts each Output back into its queue while the other one is waiting"),
    ("snntorch*", "two-inputs", "both Inputs get the same name in torch.fx"),
    ("spikingjelly*", "two-inputs", "both Inputs get the same name in torch.fx"),
    ("*", "two-inputs", "the model takes one input; the other one is dropped without a word"),
    ("norse*", "fan-in*", _DEPTH_FIRST),
    ("sinabs*", "fan-in*", _DEPTH_FIRST),
    ("spyx*", "fan-in*", "graphs are run as a chain; neurons fire before they integrate and subtract"),
    ("*", "fan-in-at-output", "several edges into an Output are returned side by side, not summed"),
    ("nirtorch*", "affine*", "the default map assigns weight.bias instead of bias, so that the bias stays random"),
    ("snntorch*", "if*", _LEAKY),
    ("snntorch*", "broadcast-if*", _LEAKY),
    ("snntorch*", "*v_reset", "v_reset is ignored"),
    ("snntorch*", "lif-per-neuron-tau", _FIRST_TAU),
    ("snntorch*", "broadcast-lif-channels", _FIRST_TAU),
    ("snntorch*", "cycle-without-delay", "the input of the recurrent subgraph also passes through w_rec"),
    ("norse*", "*-r*", "r is ignored"),
    ("norse*", "lif-v_leak", "the initial potential is v_leak instead of 0"),
    ("norse*", "*v_reset", "v_reset of the file is ignored"),
    ("norse*", "feedback", "Delay has no module and is dropped without a word"),
    (
        "norse*",
        "cycle-with-bias",
        "recurrent weights do not run in the first step, so that their bias is missing there",
    ),
    ("norse*", "classifier", _FLATTEN),
    ("norse*", "paper-cnn", _FLATTEN),
    ("spikingjelly*", "*-v_reset", "v_reset is also the initial potential, and neurons fire at v >= threshold"),
    ("sinabs*", "li*", "decays by exp(-1/tau), and tau is in steps"),
    ("sinabs*", "broadcast-li", "decays by exp(-1/tau), and tau is in steps"),
    ("spyx*", "*scale*", "Scale has no module and is dropped without a word"),
    ("spyx*", "conv1d*", "Conv1d has no module and is dropped without a word"),
    ("spyx*", "avgpool2d*", "AvgPool2d has no module and is dropped without a word"),
    ("spyx*", "delay", "Delay has no module and is dropped without a word"),
    ("spyx*", "broadcast-delay", "Delay has no module and is dropped without a word"),
    ("spyx*", "delay-*", "Delay has no module and is dropped without a word"),
    ("spyx*", "threshold", "Threshold alone has no module and is dropped without a word"),
    ("spyx*", "broadcast-threshold", "Threshold alone has no module and is dropped without a word"),
    ("spyx*", "i", "I has no module and is dropped without a word"),
    ("spyx*", "cubali", "CubaLI has no module and is dropped without a word"),
    ("spyx*", "broadcast-*", "the shape of a neuron is taken from its parameters"),
    ("spyx*", "feedback", _CYCLE),
    ("spyx*", "soft-reset", _CYCLE),
    ("spyx*", "cycle-through-subgraph", _CYCLE),
    ("spyx*", "cycle-into-weights", _CYCLE),
)
"""(subject, case, why), as patterns; the first that fits holds."""
DYNAMICS: tuple[tuple[str, str, str], ...] = (
    ("spikingjelly*", "*", "neurons fire at v >= threshold, nir says v > threshold"),
    ("sinabs*", "if*", _SINABS_IF),
    ("sinabs*", "broadcast-if*", _SINABS_IF),
    ("sinabs*", "*", f"decays by exp(-1/tau), {_SINABS_IF.partition(', r and')[0]}"),
    (
        "spyx*",
        "*",
        "neurons fire before they integrate (one step late) and subtract; r, v_leak and v_reset are ignored",
    ),
)
"""The same for neurons that follow other equations: why numbers are wrong where nothing else explains it."""


MESSAGES: tuple[tuple[str, str], ...] = (
    ("Cannot find the input of an empty graph", "a node type has no module, and is dropped without a word"),
    ("must be divisible by groups", "channels are read from weight.shape[1], which nir divides by groups"),
    ("feature_group_count must equal", "groups is ignored"),
    ("no attribute 'detach'", "nir holds numpy arrays, not tensors"),
    ("The truth value of an array", "parameters (C, H, W) are compared as if they were one number"),
)
"""What errors mean that do not say it."""


def reason(subject: str, case: str, verdict: Verdict) -> str:
    """What is known of a failure; empty where nothing is, and for refusals, which speak for themselves."""
    if verdict.outcome == REFUSES:
        return ""
    meant = (text for part, text in MESSAGES if part in verdict.detail)
    known = REASONS + DYNAMICS if verdict.outcome == WRONG else REASONS
    fits = (text for who, which, text in known if fnmatchcase(subject, who) and fnmatchcase(case, which))
    return next(chain(meant, fits), "")
