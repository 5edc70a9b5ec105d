"""Labels of classes: numbers and names from texts, truth values and categories."""

from typing import Any

import numpy as np

from poyo_jax.data.classes import in_order
from poyo_jax.errors import SessionError


def numbers_and_names(values: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Return the numbers of classes [samples] and their names, or other values without names.

    Texts, truth values and the categories of pandas are classes; -1 stands for None, NaN and empty
    texts. Raises SessionError for texts among other things, or more than one label a sample.
    """
    if hasattr(getattr(values, "dtype", None), "categories"):
        return _coded(list(map(_category_name, values)), name)
    try:
        array = np.asarray(values, object if isinstance(values, list | tuple) else None)
    except ValueError:  # rows of different lengths, of which `to_numbers` tells
        return values, ()
    if array.dtype.kind == "b" or _holds_alone(array, bool):
        return _coded(array.astype(str), name)
    if array.dtype.kind in "UT" or _has_text(array):
        return _coded(array, name)
    return values, ()


def _category_name(label: Any) -> str | None:
    return None if _is_missing(label) else str(label)


def _has_text(array: np.ndarray) -> bool:
    return array.dtype == object and any(isinstance(label, str) for label in array.flat)


def _holds_alone(array: np.ndarray, kind: type) -> bool:
    of_objects = array.dtype == object and array.size > 0
    return of_objects and all(isinstance(label, kind) for label in array.flat)


def _is_missing(label: Any) -> bool:
    return label is None or label == "" or (isinstance(label, float) and bool(np.isnan(label)))


def _coded(values: Any, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    labels = np.asarray(values, object)
    if labels.ndim != 1:
        raise SessionError(f"{name} has labels of shape {labels.shape}; pass one label a sample.")
    missing = np.array([_is_missing(label) for label in labels], bool)
    wrong = [label for label in labels[~missing] if not isinstance(label, str)]
    if wrong:
        raise SessionError(
            f"{name} has the label {wrong[0]!r} of type {type(wrong[0]).__name__} among texts; pass"
            " texts alone, with None where there is no label."
        )
    names = in_order(labels[~missing].tolist())
    codes = np.full(len(labels), -1.0 if names else np.nan)
    for number, class_name in enumerate(names):
        codes[labels == class_name] = number
    return codes, names
