"""Makes transformers' Auto classes know detector folders, without importing transformers.

``import unmask`` calls :func:`register_on_import`. Where transformers is loaded already, its Auto
classes learn ours at once; otherwise they do when transformers loads its own tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["register_on_import"]


def register_on_import() -> None:
    """Register our classes with each table that is loaded, with the others when they load."""
    for table, register in _TABLES.items():
        if table in sys.modules:
            register()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from unmask.models.configuration import UnmaskConfig

    AutoConfig.register(UnmaskConfig.model_type, UnmaskConfig, exist_ok=True)


def _register_model() -> None:
    from transformers.models.auto.modeling_auto import AutoModelForImageClassification

    from unmask.models.configuration import UnmaskConfig
    from unmask.models.modeling import UnmaskForImageClassification

    AutoModelForImageClassification.register(
        UnmaskConfig, UnmaskForImageClassification, exist_ok=True
    )


def _register_processor() -> None:
    from transformers.models.auto.image_processing_auto import AutoImageProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.utils import is_torchvision_available

    from unmask.models.configuration import UnmaskConfig

    classes = {"pil": CLIPImageProcessorPil}
    if is_torchvision_available():
        from transformers import CLIPImageProcessor

        classes["torchvision"] = CLIPImageProcessor
    # pipeline() only looks for an image processor where this table has the configuration.
    AutoImageProcessor.register(UnmaskConfig, image_processor_classes=classes, exist_ok=True)


_TABLES: Mapping[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.image_processing_auto": _register_processor,
}


class _Finder(MetaPathFinder):
    """Finds the tables of transformers as Python would, and registers after they are run."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec of a table, with a loader that registers; None for any other module."""
        register = _TABLES.get(fullname)
        if register is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, register)
                return spec
        return None


class _Loader(Loader):
    """Runs a module with its own loader, then registers."""

    def __init__(self, inner: Loader, register: Callable[[], None]) -> None:
        self._inner = inner
        self._register = register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the module's own loader makes."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module and leave it as if its own loader had done so; then register."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        self._register()
