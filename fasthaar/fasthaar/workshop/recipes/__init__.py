"""Objects that the workshop can render without any picture of them.

A recipe is a module that is named here. Its class, or a function of it, makes a `Renderer` from `seed`, `photographs`
(pictures without the object that backgrounds may be taken from) and `scene_wh`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import Bytes, Size
from fasthaar.workshop.render import Renderer

RECIPES = {"stop-sign": ("stop_sign", "StopSign"), "stop-sign-back": ("stop_sign", "from_behind")}


def load(name: str, seed: int, photographs: Sequence[Bytes], scene_wh: Size) -> Renderer:
    """The renderer of a recipe.

    Raises:
        WorkshopError: there is none of this name.
    """
    if name not in RECIPES:
        raise WorkshopError(f"there is no recipe {name!r}; should be one of {', '.join(RECIPES)}")
    module, renderer = RECIPES[name]
    make: Callable[..., Renderer] = getattr(import_module(f"{__name__}.{module}"), renderer)
    return make(seed=seed, photographs=photographs, scene_wh=scene_wh)
