"""Import the course's library for the API reference on a machine without torch.

Sphinx's ``autodoc_mock_imports`` gives instances where the library needs classes: ``stages.register`` reads
the class of a model from an annotation. The stand-ins here are real classes. They are in place while the
library is imported, and gone afterwards.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from sphinx.application import Sphinx
from sphinx.util import logging

LIBRARY = "course_lib"
logger = logging.getLogger(__name__)


class _StubType(type):
    """Metaclass of the stand-ins: any attribute of a stand-in is one again, of that name."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "_stub" not in cls.__dict__:  # a library class that inherits from a stand-in
            raise AttributeError(name)
        attribute = make_stub(name, f"{cls.__module__}.{cls.__qualname__}")
        setattr(cls, name, attribute)
        return attribute

    def __getitem__(cls, item: Any) -> _StubType:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class Stub(metaclass=_StubType):
    """Stand-in for a class, function or value of a package that is not needed."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if "_stub" in cls.__dict__ and len(args) == 1 and isinstance(args[0], FunctionType):
            return args[0]  # used as a decorator
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and isinstance(args[0], FunctionType) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, item: Any) -> Stub:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def _same(self, *_: Any) -> Stub:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __pow__ = __rpow__ = __matmul__ = __neg__ = __or__ = __ror__ = _same


def make_stub(name: str, module: str) -> _StubType:
    """Make a stand-in class that calls itself ``module.name``."""
    return _StubType(name, (Stub,), {"__module__": module, "__qualname__": name, "_stub": True})


class _StubModule(ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = make_stub(name, self.__name__)
        setattr(self, name, attribute)
        return attribute


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def stubbed(names: Sequence[str]) -> Iterator[None]:
    """Put stand-ins in the place of packages, installed or not, and take them away again.

    Parameters
    ----------
    names : sequence of str
        Top-level packages.
    """

    def belongs(module: str) -> bool:
        return module.partition(".")[0] in names

    real = {name: module for name, module in sys.modules.items() if belongs(name)}
    for name in real:
        del sys.modules[name]
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if belongs(name)]:
            del sys.modules[name]
        sys.modules.update(real)


def show_one_signature(module: ModuleType) -> None:
    """Replace generic functions (``singledispatch``) by what they wrap: autodoc lists one signature a class."""
    for name, value in list(vars(module).items()):
        if isinstance(value, FunctionType) and hasattr(value, "registry") and hasattr(value, "__wrapped__"):
            setattr(module, name, value.__wrapped__)


def import_library_with_stubs(app: Sphinx) -> None:
    """Import all modules of the library, so that autodoc finds them in ``sys.modules``."""
    names = app.config.edition_stub_imports
    if str(app.srcdir) not in sys.path:
        sys.path.insert(0, str(app.srcdir))
    if not (Path(app.srcdir) / LIBRARY).is_dir():
        return
    with stubbed(names):
        library = importlib.import_module(LIBRARY)
        for module in pkgutil.walk_packages(library.__path__, f"{LIBRARY}."):
            if not module.name.rpartition(".")[2].startswith("__"):
                try:
                    show_one_signature(importlib.import_module(module.name))
                except ImportError as error:  # autodoc repeats it as a warning where the module is documented
                    logger.info("edition: %s cannot be imported: %s", module.name, error)
