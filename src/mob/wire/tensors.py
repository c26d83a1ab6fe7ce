"""Tensors of torch, of JAX and of whatever else speaks DLPack <-> NumPy arrays.

Strategy. A tensor that lies in this machine's main memory is looked at as a NumPy array, without a copy, and travels as
one. A dtype that NumPy lacks (bfloat16, the float8 family) travels as integers of that size, beside its name. What
arrives is a tensor of the library that has sent it, if that is imported there, else an array.

Limits. Gradients stay where they are, and so do tensors on other devices. JAX arrays look at the memory in which they
arrive. torch gets a copy of its own: it has no read-only tensors, and to write to shared memory would end the process.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from mob.wire.refusals import UnsendableValue, text_of
from mob.wire.tables import imported

IN_MAIN_MEMORY = (1, 3)
"""DLPack's numbers of the devices that the processor can look at: its own memory, and what CUDA has pinned in it."""


def parts_of(library: str, value: Any) -> tuple[Any, str | None]:
    """Return the array, and the name of the dtype if NumPy has none that is like it."""
    try:
        device, _ = value.__dlpack_device__()
        if device in IN_MAIN_MEMORY:
            return _WAYS.get(library, _by_dlpack)(value)
    except Exception as failure:
        name = type(value).__name__
        raise UnsendableValue(f"a {name} that NumPy cannot look at is not data: {text_of(failure)}") from failure
    hint = "Send value.cpu()." if library == "torch" else "Copy it to the processor's memory first."
    raise UnsendableValue(f"a {type(value).__name__} on another device than the processor is not data. {hint}")


def _by_dlpack(value: Any) -> tuple[Any, str | None]:
    return _numpy().from_dlpack(value), None


def _of_torch(tensor: Any) -> tuple[Any, str | None]:
    torch = sys.modules["torch"]
    tensor = tensor.detach().resolve_conj().resolve_neg()
    try:
        return tensor.numpy(), None
    except TypeError:  # NumPy has no such dtype
        name = str(tensor.dtype).removeprefix("torch.")
        return tensor.view(getattr(torch, f"uint{8 * tensor.element_size()}")).numpy(), name


def _of_jax(array: Any) -> tuple[Any, str | None]:
    found = _numpy().asarray(array)
    if found.dtype.type.__module__ == "numpy":
        return found, None
    return found.view(f"u{found.dtype.itemsize}"), found.dtype.name


_WAYS = {"torch": _of_torch, "jax": _of_jax}


def made(library: str, array: Any, dtype: str | None = None) -> Any:
    """Return a tensor of a library, or an array if the program has not imported that here."""
    if library == "torch" and (torch := imported("torch")) is not None:
        tensor = torch.from_numpy(array.copy())
        return tensor if dtype is None else tensor.view(getattr(torch, dtype))
    array = array if dtype is None else _extended(array, dtype)
    if library == "jax" and (jax := imported("jax")) is not None:
        return jax.numpy.asarray(array)
    return array


def _extended(array: Any, dtype: str) -> Any:
    """Return an array of a dtype that NumPy lacks; floats of 32 bits hold each bfloat16, wherever nobody knows it."""
    types = imported("ml_dtypes")
    if types is not None:
        return array.view(getattr(types, dtype))
    if dtype != "bfloat16":
        raise TypeError(f"NumPy has no {dtype}: import torch or ml_dtypes where it arrives")
    return (array.astype("u4") << 16).view("f4")


def _numpy() -> Any:
    return importlib.import_module("numpy")
