"""Tensors: what supports DLPack is sent as an array. torch and JAX themselves are tested where they are installed."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from mob.errors import BadMessage
from mob.wire.codec import Codec
from mob.wire.sharing import LARGE, LARGE_BUFFER, looked_at
from mob.wire.tensors import made
from tests.wire.samples import over
from tests.wire.test_sharing import Memory
from tests.wire.test_tables import sharing_codec


class Tensor:
    """The minimum that a library of tensors offers."""

    def __init__(self, array: Any, device: int = 1) -> None:
        self.array = array
        self.device = device
        self.nbytes = array.nbytes

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


class Broken(Tensor):
    def __dlpack_device__(self) -> tuple[int, int]:
        raise RuntimeError("no such device")


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.arange(6, dtype="i2").reshape(2, 3).T, np.array(2.5)]
)
@pytest.mark.parametrize("device", [1, 3])
def test_a_tensor_of_any_library_arrives_as_an_array(codec: Codec, array: Any, device: int) -> None:
    arrived = over(codec, {"t": Tensor(array, device)})["t"]
    assert type(arrived) is np.ndarray
    assert arrived.dtype == array.dtype
    assert np.array_equal(arrived, array)


def test_a_large_tensor_is_copied_once_into_shared_memory() -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    tensor = Tensor(np.arange(LARGE))
    assert looked_at((tensor,)) == LARGE_BUFFER
    (arrived,) = codec.decode(codec.encode_sharing((tensor,), memory.share))
    assert np.shares_memory(arrived, np.frombuffer(memory.buffers[0], "u1"))
    assert np.array_equal(arrived, tensor.array)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor(np.zeros(2), device=2), r"a Tensor that is not in CPU memory cannot be sent\. Copy it"),
        (Broken(np.zeros(2)), "NumPy cannot read this Broken, so it cannot be sent: RuntimeError: no such device"),
    ],
)
def test_a_tensor_that_cannot_be_looked_at_is_refused(codec: Codec, tensor: Tensor, said: str) -> None:
    with pytest.raises(BadMessage, match=rf"cannot send args\[0\]: {said}"):
        codec.encode([tensor])


def test_for_a_tensor_of_torch_the_hint_is_that_of_torch(codec: Codec) -> None:
    kind = type("Tensor", (Tensor,), {"__module__": "torch"})
    with pytest.raises(BadMessage, match=r"Send value\.cpu\(\)"):
        codec.encode(kind(np.zeros(2), device=2))


# -- the libraries themselves, each played by the least of it ----------------------------------------------------------


class PlayedTensor(Tensor):
    """A tensor like torch's, whose bfloat16 have two bytes each and are unknown to NumPy."""

    def __init__(self, array: Any, dtype: str = "float64") -> None:
        super().__init__(array)
        self.dtype = f"torch.{dtype}"

    def detach(self) -> PlayedTensor:
        return self

    resolve_conj = resolve_neg = detach

    def numpy(self) -> Any:
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array

    def view(self, dtype: str) -> PlayedTensor:
        return PlayedTensor(self.array, dtype)

    def element_size(self) -> int:
        return self.array.itemsize


PlayedTensor.__module__, PlayedTensor.__name__ = "torch", "Tensor"
HALVES = np.array([0x3F80, 0xC000], "u2")
"""1 and -2 in bfloat16."""


class PlayedArray(Tensor):
    """An array like JAX's."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


PlayedArray.__module__, PlayedArray.__name__ = "jaxlib._jax", "ArrayImpl"


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    names = {"from_numpy": PlayedTensor, "uint16": "uint16", "bfloat16": "bfloat16"}
    torch = types.SimpleNamespace(**names)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


@pytest.mark.usefixtures("torch")
def test_a_tensor_of_torch_arrives_as_one_that_may_be_written_to(codec: Codec) -> None:
    arrived = over(codec, PlayedTensor(np.arange(3.0)))
    assert type(arrived) is PlayedTensor
    assert arrived.array.tolist() == [0, 1, 2]
    assert arrived.array.flags.writeable


@pytest.mark.usefixtures("torch")
def test_bfloat16_arrive_as_such_or_as_what_numpy_has(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    body = codec.encode(PlayedTensor(HALVES, "bfloat16"))
    arrived = codec.decode(body)
    assert (arrived.dtype, arrived.array.tolist()) == ("torch.bfloat16", HALVES.tolist())
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "ml_dtypes", raising=False)
    assert codec.decode(body).dtype == np.float32
    assert codec.decode(body).tolist() == [1, -2]
    monkeypatch.setitem(sys.modules, "ml_dtypes", types.SimpleNamespace(bfloat16="i2"))
    assert codec.decode(body).dtype == np.int16


def test_what_numpy_cannot_hold_says_what_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ml_dtypes", raising=False)
    with pytest.raises(TypeError, match="NumPy has no float8_e5m2: import torch or ml_dtypes in the receiving process"):
        made("numpy", np.zeros(1, "u1"), "float8_e5m2")


def test_an_array_of_jax_arrives_as_one(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    body = codec.encode(PlayedArray(np.arange(3.0)))
    assert type(codec.decode(body)) is np.ndarray
    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(numpy=types.SimpleNamespace(asarray=PlayedArray)))
    assert type(codec.decode(body)) is PlayedArray
    assert codec.decode(body).array.tolist() == [0, 1, 2]


def test_a_dtype_of_jax_that_numpy_lacks_travels_by_its_name(codec: Codec) -> None:
    odd = types.SimpleNamespace(type=types.SimpleNamespace(__module__="ml_dtypes"), itemsize=2, name="bfloat16")

    class Odd:
        dtype = odd

        def view(self, dtype: str) -> Any:
            return HALVES.view(dtype)

    tensor = PlayedArray(HALVES)
    tensor.array = Odd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "asarray", lambda value: value.__array__())
        body = codec.encode_data(tensor)
    assert body is not None
    assert codec.decode(body).tolist() == [1, -2]


@pytest.mark.usefixtures("torch")
def test_tensors_and_arrays_become_what_is_annotated(codec: Codec) -> None:
    assert type(codec.decoder(PlayedTensor)(codec.encode(np.arange(3.0)))) is PlayedTensor
    assert type(codec.decoder(np.ndarray)(codec.encode(PlayedTensor(np.arange(3.0))))) is np.ndarray
    assert codec.decoder(PlayedTensor | None)(codec.encode(None)) is None


# -- the real ones -----------------------------------------------------------------------------------------------------


REAL_TORCH = """
import torch, warnings, numpy as np
from tests.wire.samples import Mob, over
warnings.simplefilter("error")
codec = Mob().codec
plain = torch.arange(6.0).reshape(2, 3)
for sent in (plain, plain.T, plain[::2], torch.tensor(3.5), torch.ones(2, dtype=torch.bfloat16), torch.zeros(0, 3),
             torch.ones(3, dtype=torch.float8_e4m3fn), torch.tensor([True]),
             torch.ones(2, dtype=torch.complex64).conj(),
             torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(2))):
    arrived = over(codec, [sent])[0]
    assert type(arrived) is torch.Tensor and not arrived.requires_grad
    assert (arrived.dtype, arrived.shape) == (sent.dtype, sent.shape)
    assert torch.equal(arrived.to(torch.complex64), sent.detach().to(torch.complex64))
    arrived[...] = 0
assert type(codec.decoder(torch.Tensor)(codec.encode(np.arange(3)))) is torch.Tensor
assert type(codec.decoder(np.ndarray)(codec.encode(plain))) is np.ndarray
for sent in (torch.ones(3, device="meta"), torch.eye(3).to_sparse()):
    try: codec.encode(sent)
    except Exception as error: assert "is not data" in str(error), error
    else: raise AssertionError(sent)
"""
REAL_JAX = """
import jax, jax.numpy as jnp, warnings, numpy as np
from tests.wire.samples import Mob, over
warnings.simplefilter("error")
codec = Mob().codec
for sent in (jnp.arange(6.0).reshape(2, 3), jnp.float32(3), jnp.ones(3, jnp.bfloat16), jnp.zeros((0, 2)),
             jnp.array([True])):
    arrived = over(codec, [sent])[0]
    assert isinstance(arrived, jax.Array)
    assert (arrived.dtype, arrived.shape) == (sent.dtype, sent.shape)
    assert (arrived == sent).all()
assert isinstance(codec.decoder(jax.Array)(codec.encode(np.arange(3, dtype="f4"))), jax.Array)
assert type(codec.decoder(np.ndarray)(codec.encode(sent))) is np.ndarray
"""


@pytest.mark.parametrize(("library", "code"), [("torch", REAL_TORCH), ("jax", REAL_JAX)])
def test_the_library_itself_if_it_is_installed(library: str, code: str) -> None:
    """In a separate process: it is heavy, has threads, and would be imported for all other tests."""
    found = subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"{library} is not installed")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
