"""The cost model on small programs whose cost is counted by hand."""

import pytest

from poyo_jax.aot.cost import cost_of, part_of
from poyo_jax.aot.hlo import parse

FUSIONS = """
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%take (table: f32[1000,128], place: s32[]) -> f32[1,128] {
  %table = f32[1000,128]{1,0} parameter(0)
  %place = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,128]{1,0} dynamic-slice(%table, %place, %zero), dynamic_slice_sizes={1,128}
}

%put (table.1: f32[1000,128], new: f32[1,128], place.1: s32[]) -> f32[1000,128] {
  %table.1 = f32[1000,128]{1,0} parameter(0)
  %new = f32[1,128]{1,0} parameter(1)
  %place.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %update = f32[1000,128]{1,0} dynamic-update-slice(%table.1, %new, %place.1, %zero.1)
}

%product (left: f32[32,64], right: f32[64,16]) -> f32[32,16] {
  %left = f32[32,64]{1,0} parameter(0)
  %right = f32[64,16]{1,0} parameter(1)
  ROOT %dot = f32[32,16]{1,0} dot(%left, %right), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (carried: (s32[], f32[1000,128])) -> (s32[], f32[1000,128]) {
  %carried = (s32[], f32[1000,128]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%carried), index=0
  %held = f32[1000,128]{1,0} get-tuple-element(%carried), index=1
  %row.1 = f32[1,128]{1,0} fusion(%held, %turn), kind=kLoop, calls=%take
  %held.1 = f32[1000,128]{1,0} fusion(%held, %row.1, %turn), kind=kLoop, calls=%put
  ROOT %next = (s32[], f32[1000,128]{1,0}) tuple(%turn, %held.1)
}

%reduce_scatter (whole: f32[1000]) -> f32[250] {
  %whole = f32[1000]{0} parameter(0)
  %summed = f32[1000]{0} all-reduce(%whole), replica_groups={{0,1,2,3}}, to_apply=%sum
  %first = s32[] constant(0)
  ROOT %own = f32[250]{0} dynamic-slice(%summed, %first), dynamic_slice_sizes={250}
}

%condition (carried.1: (s32[], f32[1000,128])) -> pred[] {
  %carried.1 = (s32[], f32[1000,128]{1,0}) parameter(0)
  %turn.1 = s32[] get-tuple-element(%carried.1), index=0
  %limit = s32[] constant(7)
  ROOT %more = pred[] compare(%turn.1, %limit), direction=LT
}
"""


def cost(entry: str, seconds=lambda size, flops: size):
    lines = "".join(f"  {line}\n" for line in entry.strip().splitlines())
    return cost_of(parse(f"{FUSIONS}\nENTRY %main () -> f32[] {{\n{lines}}}\n"), seconds)


def test_a_product_in_a_fusion():
    made = cost(
        """
%x = f32[32,64]{1,0} parameter(0)
%w = f32[64,16]{1,0} parameter(1)
ROOT %out = f32[32,16]{1,0} fusion(%x, %w), kind=kOutput, calls=%product, \
metadata={op_name="jit(step)/jvp(Backbone)/processor/dot_general"}
"""
    )
    assert made.flops == 2 * 32 * 64 * 16
    assert made.traffic == 4 * (32 * 64 + 64 * 16 + 32 * 16)
    assert (made.count, made.padding) == (1, 0)
    assert made.operations[0].part == "processor"


LOOP = """
%x = (s32[], f32[1000,128]{1,0}) parameter(0)
ROOT %loop = (s32[], f32[1000,128]{1,0}) while(%x), condition=%condition, body=%body"""
ROW = 4 * 128


@pytest.mark.parametrize(
    ("told", "turns"),
    [("", 7), (', backend_config={"known_trip_count":{"n":"24"}}', 24)],
    ids=["by its condition", "told"],
)
def test_a_loop_counts_as_often_as_it_turns_and_slices_count_in_part(told, turns):
    """A turn reads a row and writes it elsewhere; the number of the turn takes 4 bytes, twice."""
    made = cost(LOOP + told)
    assert made.count == 2 * turns
    assert made.traffic == turns * (2 * ROW + 4 + 2 * ROW + 4)
    assert made.endless_loops == 0


def test_a_loop_that_does_not_tell_its_turns_counts_once():
    made = cost(LOOP.replace("%condition", "%sum"))
    assert (made.count, made.endless_loops) == (2, 1)


def test_padding_counts_and_fast_memory_does_not():
    made = cost(
        """
%x = bf16[64,16]{1,0:T(8,128)(2,1)} parameter(0)
ROOT %y = bf16[64,16]{1,0:T(8,128)(2,1)S(1)} copy(%x)
"""
    )
    assert made.traffic == 64 * 128 * 2
    assert made.padding == 64 * 112 * 2


def test_a_copy_that_goes_on_while_others_work_counts_at_its_start():
    made = cost(
        """
%x = f32[256]{0:T(256)} parameter(0)
%start = (f32[256]{0:T(256)S(1)}, f32[256]{0:T(256)}, u32[]{:S(2)}) copy-start(%x)
ROOT %done = f32[256]{0:T(256)S(1)} copy-done(%start)
"""
    )
    assert (made.traffic, made.count) == (1024, 1)


GATHER_AND_SCATTER = """
%table = f32[1000,128]{1,0} parameter(0)
%rows = s32[8,1]{1,0} parameter(1)
%vectors = f32[8,128]{1,0} gather(%table, %rows), offset_dims={1}
ROOT %new = f32[1000,128]{1,0} scatter(%table, %rows, %vectors), to_apply=%sum"""


def test_rows_of_a_table_count_and_the_table_does_not():
    made = cost(GATHER_AND_SCATTER)
    assert made.traffic == 4 * 8 * ROW


@pytest.mark.parametrize(
    ("window", "flops"),
    [
        ("size=64 pad=0_0", 2 * 8 * 1 * 64 * 16),  # one place, the whole window
        ("size=1 pad=0_0", 2 * 8 * 64 * 16),
        ("size=64 pad=63_63 rhs_reversal=1", 2 * 8 * 64 * 16 * 64),
    ],
)
def test_a_convolution_counts_places_that_are_not_padding(window, flops):
    out = {"0_0": 1, "63_63": 127}[window.split("pad=")[1][:5].strip().split(" ")[0]]
    out = 64 if window.startswith("size=1 ") else out
    made = cost(
        f"""
%x = f32[8,64,16]{{2,1,0}} parameter(0)
%w = f32[{window.split()[0][5:]},16,1]{{2,1,0}} parameter(1)
ROOT %y = f32[8,{out},1]{{2,1,0}} convolution(%x, %w), window={{{window}}}, dim_labels=b0f_0io->b0f
"""
    )
    assert made.flops == flops


def attention(name: str, target: str, more: str = "") -> str:
    return f"""
%q = bf16[2,4,256,64]{{3,2,1,0}} parameter(0)
%k = bf16[2,4,128,64]{{3,2,1,0}} parameter(1)
ROOT %{name}.3 = bf16[2,4,256,64]{{3,2,1,0}} custom-call(%q, %k, %k), \
custom_call_target="{target}"{more}
"""


PRODUCT = 2 * 2 * 4 * 256 * 128 * 64  # of queries and keys
DIMS = ', backend_config={"intermediate_tensor_shape": {"dimensions": ["2", "4", "256", "128"]}}'
FUSED = ', frontend_attributes={kernel_metadata={"use_fused_bwd_kernel\\": true"}}'


@pytest.mark.parametrize(
    ("name", "target", "more", "products", "kernel"),
    [
        ("splash_mha_fwd_residuals", "tpu_custom_call", "", 2, "splash_mha_fwd_residuals"),
        ("splash_mha_dq_no_residuals", "tpu_custom_call", "", 3, "splash_mha_dq_no_residuals"),
        ("splash_mha_dkv", "tpu_custom_call", "", 4, "splash_mha_dkv"),
        ("splash_mha_dkv", "tpu_custom_call", FUSED, 5, "splash_mha_dkv"),
        ("fwd", "__cudnn$fmhaSoftmax", DIMS, 2, "fmhaSoftmax"),
        ("bwd", "__cudnn$fmhaSoftmaxBackward", DIMS, 5, "fmhaSoftmaxBackward"),
    ],
)
def test_kernels_of_attention(name, target, more, products, kernel):
    made = cost(attention(name, target, more))
    assert made.flops == products * PRODUCT
    assert made.attention_kernels == {kernel: 1}


def test_a_kernel_that_tells_its_operations():
    told = ', backend_config={"cost_estimate":{"flops":"1234"}}'
    made = cost(attention("layer", "tpu_custom_call", told))
    assert made.flops == 1234
    assert made.attention_kernels == {}


def test_a_product_of_cublas():
    more = ', backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}'
    made = cost(
        f"""
%x = f32[32,64]{{1,0}} parameter(0)
%w = f32[64,16]{{1,0}} parameter(1)
ROOT %y = (f32[32,16]{{1,0}}, s8[100]{{0}}) custom-call(%x, %w), \
custom_call_target="__cublas$lt$matmul"{more}
"""
    )
    assert made.flops == 2 * 32 * 64 * 16


SYNCHRONOUS = """
%x = f32[1000]{0} parameter(0)
%all = f32[1000]{0} all-reduce(%x), replica_groups={{0,1,2,3}}, to_apply=%sum
ROOT %wide = f32[4000]{0} all-gather(%all), replica_groups=[2,4]<=[8], dimensions={0}
"""


def test_collectives_that_a_chip_waits_for():
    reduce, gather = cost(SYNCHRONOUS).collectives
    assert (reduce.kind, reduce.times, reduce.size, reduce.group) == ("all-reduce", 1, 4000, 4)
    assert (gather.kind, gather.size, gather.group) == ("all-gather", 16_000, 4)
    assert reduce.hidden is gather.hidden is None


def test_a_collective_that_other_work_covers():
    made = cost(
        """
%x = f32[1000]{0} parameter(0)
%y = f32[500]{0} parameter(1)
%start = f32[1000]{0} all-reduce-start(%x), replica_groups={{0,1}}, to_apply=%sum
%z = f32[500]{0} negate(%y)
%done = f32[1000]{0} all-reduce-done(%start)
ROOT %w = f32[500]{0} negate(%z)
""",
        seconds=lambda size, flops: size / 1000,
    )
    (reduce,) = made.collectives
    assert reduce.hidden == pytest.approx(4.0)  # 500 values are read and written
    assert made.count == 2


def test_collectives_in_fusions_count():
    """TPUs fuse a sum over chips and the slice of it that a chip keeps."""
    made = cost(
        """
%x = f32[1000]{0} parameter(0)
ROOT %y = f32[250]{0} fusion(%x), kind=kCustom, calls=%reduce_scatter
"""
    )
    (reduce,) = made.collectives
    assert (reduce.kind, reduce.size, reduce.group, reduce.hidden) == ("all-reduce", 4000, 4, None)


def test_the_dearest_branch_counts():
    made = cost(
        """
%x = f32[1000,128]{1,0} parameter(0)
%i = s32[] parameter(1)
ROOT %y = f32[] conditional(%i, %x, %x), branch_computations={%sum, %take}
"""
    )
    assert made.traffic == 2 * ROW
    assert made.count == 1


@pytest.mark.parametrize(
    ("scope", "part"),
    [
        ("jit(train_step)/jvp(Backbone.attend)/encoder.attend/dot_general", "encoder"),
        ("jit(train_step)/transpose(jvp(Backbone.predict))/decoder/mul", "decoder, backward"),
        ("jit(train_step)/muon/dot_general", "rest"),
        ("", "rest"),
    ],
)
def test_parts_of_the_step(scope, part):
    assert part_of(scope) == part
