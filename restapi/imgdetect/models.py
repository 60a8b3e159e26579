"""The folder of models: each NAME.onnx with NAME.json, which says what it is, is the detector NAME."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from imgdetect.detection import sha256_of
from imgdetect.detectors import onnx

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PARAMETER = re.compile(r"family|form|transform|size|confidence|iou_threshold|top_k|provider")


@dataclass(frozen=True)
class Model:
    """A model in the folder; NAME.json is this."""

    name: str
    task: str
    sha256: str  # of NAME.onnx, hexadecimal
    size_bytes: int
    licence: str = ""  # SPDX, or what whoever added it said; "" when nobody said
    source: str = ""  # where it came from
    labels: tuple[str, ...] = ()  # class names; empty: those of the file or the family
    parameters: dict[str, str] = field(default_factory=dict)  # of the detector's URL


class Models:
    """What is in the folder.

    Args:
        folder: may be missing, which means that there is no model.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Model]:
        """Every model, by name.

        Raises:
            ValueError: an NAME.json is broken, or its model is missing; one line.
        """
        return [self._read(path) for path in sorted(self._folder.glob("*.json"))]

    def get(self, name: str) -> Model:
        """One model.

        Raises:
            ValueError: there is none of this name.
        """
        if not _NAME.fullmatch(name) or not self._path(name, ".json").exists():
            known = ", ".join(path.stem for path in sorted(self._folder.glob("*.json"))) or "none"
            raise ValueError(f"there is no model {name[:64]!r} in {self._folder}; there are: {known}")
        return self._read(self._path(name, ".json"))

    def path(self, name: str) -> Path:
        """The file of a model."""
        return self._path(name, ".onnx")

    def urls(self) -> dict[str, str]:
        """The backend URL of each model's detector."""
        return {model.name: self.url(model) for model in self.all()}

    def url(self, model: Model) -> str:
        """The backend URL of a model's detector; the file has to be the one that was added."""
        given = model.parameters | {"sha256": model.sha256}
        if model.labels:
            given["labels"] = str(self._path(model.name, ".labels").absolute())
        return f"onnx:{self.path(model.name).absolute()}?{urlencode(given)}"

    def add(
        self,
        file: Path,
        name: str,
        parameters: dict[str, str],
        *,
        labels: str = "",
        licence: str = "",
        source: str = "",
        replace: bool = False,
        limits: dict[str, Any] | None = None,
    ) -> tuple[Model, onnx.Vetted]:
        """Try a model out in a process of its own, and keep a copy of it.

        Args:
            file: an ONNX file.
            parameters: of the detector's URL, without labels.
            labels: a file of class names, or the name of a known list.
            replace: whether it may take the place of one of the same name.
            limits: of the process: working_pixels, memory_bytes, seconds.
        Returns:
            The model, and what it showed.
        Raises:
            ValueError: it cannot be used; nothing has changed.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:64]!r} is no name: 1 to 64 letters, digits, dots, dashes and underscores")
        if unknown := [key for key in parameters if not _PARAMETER.fullmatch(key)]:
            raise ValueError(f"there is no parameter {unknown[0]!r} of a model")
        if self._path(name, ".json").exists() and not replace:
            raise ValueError(f"there is a model {name} already; remove it first")
        names = onnx.read_labels(labels) if labels else ()
        self._folder.mkdir(parents=True, exist_ok=True)
        # In the folder itself, so that moving it into place is one step that cannot fail halfway.
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=self._folder) as there:
            trial = Models(Path(there))
            copy = shutil.copyfile(file, trial.path(name))
            if names:
                _write(trial._path(name, ".labels"), json.dumps(names))
            content = copy.read_bytes()
            model = Model(name, "", sha256_of(content), len(content), licence, source, names, parameters)
            del content
            seen = onnx.vet(name, trial.url(model), **({"working_pixels": 2_100_000} | (limits or {})))
            model = Model(**(asdict(model) | {"task": seen.task}))
            _write(trial._path(name, ".json"), json.dumps(asdict(model), indent=2, ensure_ascii=False))
            for ending in (".labels", ".onnx", ".json"):  # the JSON last: without it there is no model
                if trial._path(name, ending).exists():
                    trial._path(name, ending).replace(self._path(name, ending))
        return model, seen

    def remove(self, name: str) -> None:
        """Remove a model.

        Raises:
            ValueError: there is none of this name.
        """
        if not _NAME.fullmatch(name) or not self._path(name, ".json").exists():
            self.get(name)
        for ending in (".json", ".onnx", ".labels"):
            self._path(name, ending).unlink(missing_ok=True)

    def _path(self, name: str, ending: str) -> Path:
        return self._folder / f"{name}{ending}"

    def _read(self, path: Path) -> Model:
        try:
            told = json.loads(path.read_text("utf-8"))
            model = Model(**(told | {"labels": tuple(told.get("labels", ()))}))
            if model.name != path.stem or not all(isinstance(v, str) for v in (model.sha256, model.task)):
                raise ValueError("it does not describe the model beside it")
            if not all(isinstance(v, str) for v in (*model.parameters, *model.parameters.values())):
                raise ValueError("its parameters are no texts")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"model {path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
        if not self.path(model.name).exists():
            raise ValueError(f"model {path}: {model.name}.onnx is missing beside it")
        return model


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
