"""Tensors of torch, JAX and other libraries that support DLPack <-> NumPy arrays.

Strategy. A tensor in this machine's main memory is viewed as a NumPy array, without a copy, and travels as one. A dtype
that NumPy lacks (bfloat16, the float8 family) travels as integers of that size, together with its name. It arrives as a
tensor of the library that sent it, if that is imported there, else as an array.

Limits. Gradients are not sent, and tensors on other devices are refused. JAX arrays view the memory in which they
arrive. torch gets a copy of its own: it has no read-only tensors, and writing to shared memory would end the process.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from mob.wire.refusals import UnsendableValue, text_of
from mob.wire.tables import imported

IN_MAIN_MEMORY = (1, 3)
"""DLPack's numbers of the devices whose memory the CPU can read: main memory, and main memory pinned by CUDA."""


def parts_of(library: str, value: Any) -> tuple[Any, str | None]:
    """Return the array, and the name of the dtype if NumPy has no equivalent."""
    try:
        device, _ = value.__dlpack_device__()
        if device in IN_MAIN_MEMORY:
            return _ENCODERS.get(library, _by_dlpack)(value)
    except Exception as failure:
        name = type(value).__name__
        raise UnsendableValue(f"NumPy cannot read this {name}, so it cannot be sent: {text_of(failure)}") from failure
    hint = "Send value.cpu()." if library == "torch" else "Copy it to CPU memory first."
    raise UnsendableValue(f"a {type(value).__name__} that is not in CPU memory cannot be sent. {hint}")


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


_ENCODERS = {"torch": _of_torch, "jax": _of_jax}


def made(library: str, array: Any, dtype: str | None = None) -> Any:
    """Return a tensor of a library, or an array if the program did not import that library here."""
    if library == "torch" and (torch := imported("torch")) is not None:
        tensor = torch.from_numpy(array.copy())
        return tensor if dtype is None else tensor.view(getattr(torch, dtype))
    array = array if dtype is None else _extended(array, dtype)
    if library == "jax" and (jax := imported("jax")) is not None:
        return jax.numpy.asarray(array)
    return array


def _extended(array: Any, dtype: str) -> Any:
    """Return an array of a dtype that NumPy lacks; without ml_dtypes, bfloat16 becomes 32-bit floats."""
    types = imported("ml_dtypes")
    if types is not None:
        return array.view(getattr(types, dtype))
    if dtype != "bfloat16":
        raise TypeError(f"NumPy has no {dtype}: import torch or ml_dtypes in the receiving process")
    return (array.astype("u4") << 16).view("f4")


def _numpy() -> Any:
    return importlib.import_module("numpy")
