"""Describe what a compiled step tells, in lines of text."""

from collections import defaultdict

from poyo_jax.aot.estimate import Estimate, collective_seconds
from poyo_jax.aot.hlo import Array
from poyo_jax.words import in_bytes

MANY_OPERATIONS = 0.5  # share of the longest bound
MUCH_PADDING = 0.15  # share of the traffic
LONG_WAIT = 0.05  # share of the step
FEW_TOKENS = 0.6  # share of the places
MUCH_REPEATED = 1.5  # operations over those that the arithmetic needs


def describe(estimate: Estimate) -> str:
    """Lines of text for a user."""
    topology, shape, workload = estimate.topology, estimate.shape, estimate.workload
    chip, memory, cost = topology.chip, estimate.memory, estimate.cost
    windows = estimate.config.data.batch_size
    bounds = ", ".join(f"{name} {1e3 * value:.1f}" for name, value in estimate.bounds.items())
    lines = {
        "compiled for": (
            f"{topology.name}, {estimate.num_devices} devices that are not there; all figures are"
            " bounds from the compiled program, none is measured"
        ),
        "batch": (
            f"{windows} windows, {shape.windows} on a device, {workload.tokens:,.0f} tokens each by"
            f" {workload.source}; the first of {len(workload.shapes)} shapes, {shape.rows} rows of"
            f" {shape.tokens} tokens; {estimate.microbatch} windows pass the processor at a time"
        ),
        "compiling": f"{estimate.seconds:.0f} s",
        "memory": (
            f"{in_bytes(memory.total)} of {in_bytes(chip.memory)} on a device: arguments"
            f" {in_bytes(memory.arguments)}, temporary {in_bytes(memory.temporary)}, results"
            f" {in_bytes(memory.results)}"
        ),
        "traffic": f"{in_bytes(cost.traffic)} a step; {in_bytes(cost.padding)} of it pads tiles",
        "operations": f"{cost.count:,} a step",
        "arithmetic": (
            f"{cost.flops / 1e9:,.0f} GFLOP in products; the model needs"
            f" {estimate.needed_flops / 1e9:,.0f}"
        ),
        "attention": _attention(estimate),
        "collectives": _collectives(estimate),
        "step": (
            f"at least {1e3 * estimate.step_seconds:.1f} ms, bounded by {estimate.bound_by} (ms:"
            f" {bounds} at {1e6 * chip.operation:.0f} us each, assumed; waiting for chips"
            f" {1e3 * estimate.waiting:.2f})"
        ),
        "windows/s": f"at most {windows / estimate.step_seconds:,.0f} on all devices",
    }
    text = [f"{name:14}{line}" for name, line in lines.items()]
    text += ["", *_parts(estimate)]
    text += [f"slow: {warning}" for warning in warnings(estimate)]
    return "\n".join(text)


def warnings(estimate: Estimate) -> list[str]:
    """Sentences about what is known to be slow in the compiled step."""
    cost, chip = estimate.cost, estimate.topology.chip
    bounds = estimate.bounds
    found = []
    if not cost.attention_kernels:
        found.append(
            "no kernel of flash attention is used; RunConfig.compute_dtype 'bfloat16' and"
            " ModelConfig.attention_dropout 0 allow it"
        )
    longest = max(bounds.values())
    if bounds["number of operations"] > MANY_OPERATIONS * longest:
        found.append(
            f"{cost.count:,} operations are many for a step of {1e3 * longest:.1f} ms; a larger"
            " RunConfig.microbatch_windows, or fewer chips, make them longer"
        )
    if cost.padding > MUCH_PADDING * cost.traffic:
        worst = max(cost.operations, key=lambda each: each.times * each.padding)
        arrays = ", ".join(_shape(array) for array in worst.instruction.arrays[:2])
        found.append(
            f"{cost.padding / cost.traffic:.0%} of the traffic pads tiles, most of it in"
            f" {worst.instruction.name} ({worst.part}; {arrays})"
        )
    if estimate.filled < FEW_TOKENS:
        found.append(
            f"{1 - estimate.filled:.0%} of the places for tokens hold none; a smaller"
            " DataConfig.chunk_tokens, or fewer chips, fill more of them"
        )
    if estimate.waiting > LONG_WAIT * estimate.step_seconds:
        found.append(
            f"chips wait {1e3 * estimate.waiting:.2f} ms for each other; no other work covers it"
        )
    if cost.flops > MUCH_REPEATED * estimate.needed_flops:
        found.append(
            f"{cost.flops / estimate.needed_flops:.1f} times the operations that the model needs"
            " are carried out: padding, products computed again, and what every chip repeats"
        )
    if estimate.config.run.compute_dtype == "float32" and chip.platform == "tpu":
        found.append(
            "TPUs round the factors of float32 products to bfloat16, unless told otherwise by"
            " jax_default_matmul_precision"
        )
    if cost.endless_loops:
        found.append(f"{cost.endless_loops} loops do not tell their turns and count once")
    return found


def _attention(estimate: Estimate) -> str:
    kernels = estimate.cost.attention_kernels
    return ", ".join(f"{name} x {count}" for name, count in sorted(kernels.items())) or "no kernel"


def _collectives(estimate: Estimate) -> str:
    """Number, bytes and overlap of the collectives of each kind."""
    kinds = defaultdict(list)
    for each in estimate.cost.collectives:
        kinds[each.kind].append(each)
    texts = []
    for kind, members in kinds.items():
        size = sum(each.times * each.size for each in members)
        count = sum(each.times for each in members)
        seconds = hidden = 0.0
        for each in members:
            needed = collective_seconds(each, estimate.topology.chip)
            seconds += each.times * needed
            hidden += each.times * min(needed, each.hidden or 0.0)
        share = hidden / seconds if seconds else 0.0
        took = f"{1e3 * seconds:.2f} ms, {share:.0%} of it overlapped"
        texts.append(f"{count} {kind}, {in_bytes(size)}, {took}")
    return "; ".join(texts) or "none"


def _parts(estimate: Estimate) -> list[str]:
    """Table of what the parts of the step cost."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for each in estimate.cost.operations:
        entry = sums[each.part]
        entry[0] += each.times * each.traffic
        entry[1] += each.times * each.flops
        entry[2] += each.times
    lines = [f"{'part':22}{'traffic':>12}{'GFLOP':>10}{'operations':>12}"]
    for part, (traffic, flops, count) in sorted(sums.items(), key=lambda pair: -pair[1][0]):
        lines.append(f"{part:22}{in_bytes(traffic):>12}{flops / 1e9:>10,.0f}{count:>12,.0f}")
    return lines


def _shape(array: Array) -> str:
    return f"{array.dtype}[{','.join(map(str, array.dims))}]"
