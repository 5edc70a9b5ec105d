"""The check of annotations at run time notices a wrong value, in every file of tests anew."""

import pytest
import typecheck


def test_the_first_calls_in_a_file_are_checked():
    @typecheck.checked
    def half(number: float) -> None: ...

    for _ in range(typecheck.CALLS_CHECKED - 1):
        half(1.0)
    with pytest.raises(Exception, match="violates type hint"):
        half("one")
    half("one")  # a later call
    typecheck.begin_file()
    with pytest.raises(Exception, match="violates type hint"):
        half("one")
