"""Reading compiled programs: small texts with known answers."""

import pytest

from poyo_jax.aot.hlo import Array, arrays_of, parse

TEXT = """HloModule jit_step, is_scheduled=true

%inner (p.0: f32[8]) -> f32[8] {
  %p.0 = f32[8]{0} parameter(0)
  ROOT %twice = f32[8]{0} add(%p.0, %p.0), metadata={op_name="jit(step)/encoder/add"}
}

ENTRY %main (x: f32[8], y: (s32[], f32[8])) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %y = (s32[], /*index=1*/f32[8]{0}) parameter(1)
  %kernel.2 = (f32[8]{0:T(128)S(1)}, bf16[2,8]{1,0:T(8,128)(2,1)}) custom-call(%x, /*index=1*/%y), \
custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"block": "{1, (2}"
}}, metadata={op_name="jit(step)/transpose(jvp(processor))/pallas_call"}
  ROOT %out = f32[8]{0} fusion(%x), kind=kLoop, calls=%inner
}
"""


def test_instructions_and_what_they_call():
    program = parse(TEXT)
    assert [each.op for each in program.entry] == [
        "parameter",
        "parameter",
        "custom-call",
        "fusion",
    ]
    assert program.entry.root.name == "out"
    assert program.entry.root.called("calls") == "inner"
    assert program.entry.root.called("body") is None
    assert program.computations["inner"].root.operands == ("p.0", "p.0")
    assert program.computations["inner"].parameters[0].name == "p.0"
    assert [each.name for each in program.entry.users["x"]] == ["kernel.2", "out"]


def test_an_attribute_of_several_lines_belongs_to_its_instruction():
    kernel = parse(TEXT).entry.instructions["kernel.2"]
    assert kernel.operands == ("x", "y")
    assert kernel.target == "tpu_custom_call"
    assert kernel.scope == "jit(step)/transpose(jvp(processor))/pallas_call"
    assert [array.space for array in kernel.arrays] == [1, 0]


@pytest.mark.parametrize(
    ("text", "logical", "padded"),
    [
        ("f32[8,128]{1,0:T(8,128)}", 4096, 4096),
        ("bf16[64,16]{1,0:T(8,128)(2,1)}", 2048, 64 * 128 * 2),  # 16 of 128 lanes
        ("bf16[64,16]{0,1:T(8,128)(2,1)}", 2048, 16 * 128 * 2),  # transposed: 64 of 128 lanes
        ("f32[3,5,7]{2,1,0:T(8,128)}", 420, 3 * 8 * 128 * 4),
        ("f32[300]{0:T(128)}", 1200, 384 * 4),
        ("f32[300]{0}", 1200, 1200),  # GPUs have no tiles
        ("pred[]", 1, 1),
    ],
)
def test_bytes_with_the_padding_of_tiles(text, logical, padded):
    (array,) = arrays_of(text)
    assert (array.logical_bytes, array.bytes) == (logical, padded)


def test_types_without_bytes_are_left_out():
    assert arrays_of("(token[], opaque[], u8[0]{0})") == (Array("u8", (0,), (0,)),)


def test_a_text_that_is_no_program():
    with pytest.raises(ValueError, match="holds no ENTRY computation"):
        parse("HloModule nothing\n")
