"""The check of annotations at run time notices a wrong value, in every test anew."""

import pytest
import typecheck


def test_the_first_calls_of_a_test_are_checked():
    @typecheck.checked
    def half(number: float) -> None: ...

    for _ in range(typecheck.CALLS_CHECKED - 1):
        half(1.0)
    with pytest.raises(Exception, match="violates type hint"):
        half("one")
    half("one")  # a later call
    typecheck.begin_test()
    with pytest.raises(Exception, match="violates type hint"):
        half("one")
