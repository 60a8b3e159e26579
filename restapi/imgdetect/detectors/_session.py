"""The one place where a network runs: ONNX Runtime, with as many threads as a child may use."""

from __future__ import annotations

import os
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgdetect.detectors._graph import GraphFile

ENGINE = "onnxruntime"
# Which package brings the library, that for graphics cards first.
_PACKAGES = ("onnxruntime-gpu", "onnxruntime")
_CUDA = "+cuda"
_DEVICE = Path("/dev/nvidiactl")


def version() -> str:
    """The version of ONNX Runtime, without loading it.

    Raises:
        ValueError: it is not installed.
    """
    for package in _PACKAGES:
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        return f"{found}{_CUDA}" if package == _PACKAGES[0] else found
    if find_spec("onnxruntime") is None:
        raise ValueError("onnx: needs ONNX Runtime, which is not installed: pip install 'imgdetect[onnx]'")
    return "unknown"


def on_graphics_card() -> bool:
    """Whether networks run on a graphics card here: CUDA's library and a card are there."""
    return _DEVICE.exists() and version().endswith(_CUDA)


class Session:
    """A network that is loaded.

    A fork does not copy the threads of a session. So it belongs to the process that made it, and another makes its own.

    Args:
        file: the model.
        threads: for one look.
        cuda: whether a graphics card may be used where there is one.
    """

    def __init__(self, file: GraphFile, threads: int, cuda: bool) -> None:
        self.file = file
        self._threads = threads
        self._cuda = cuda
        self._loaded: tuple[int, Any] = (0, None)

    def run(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The outputs by name.

        Raises:
            ValueError, and what ONNX Runtime raises: the model or the input is not usable.
        """
        names = [output.name for output in self.file.outputs]
        outputs = self._session().run(names, {self.file.inputs[0].name: values})
        return {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.file.size_bytes

    @property
    def device(self) -> str:
        """Where the network is to run: cuda or cpu."""
        return "cuda" if self._cuda and on_graphics_card() else "cpu"

    @property
    def loaded(self) -> bool:
        """Whether this process has loaded it."""
        return self._loaded[0] == os.getpid()

    def load(self) -> None:
        """Load it, where this process has not done so; a run does so by itself.

        Raises:
            ValueError, and what ONNX Runtime raises: the model is not usable.
        """
        self._session()

    @property
    def providers(self) -> list[str]:
        """What the network runs on, by ONNX Runtime's names."""
        found: list[str] = self._session().get_providers()
        return found

    def _session(self) -> Any:
        if not self.loaded:
            self._loaded = os.getpid(), self._load()
        return self._loaded[1]

    def _load(self) -> Any:
        import onnxruntime  # noqa: PLC0415 - it starts threads, which the process that forks children must not have

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Threads that wait would burn the time of the other children.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        wanted = ["CUDAExecutionProvider"] if self._cuda and "CUDAExecutionProvider" in available else []
        return onnxruntime.InferenceSession(self.file.content(), options, providers=[*wanted, "CPUExecutionProvider"])
