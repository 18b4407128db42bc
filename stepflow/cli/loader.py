"""From `serve`'s TARGET to the `Stepflow` in it.

========================== =========================================================
target                     what is loaded
========================== =========================================================
`shop.py`                  the file, and the one `Stepflow` in it
`shop.py:flow`             the one of that name
`acme.shop`                the module, found from the present directory
`acme.shop:flow`           likewise
========================== =========================================================

A file's own directory goes first on the path, as for `python shop.py`; a file inside a package is
loaded under the package's name, so that its relative imports work.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepflow.cli.errors import DEFECT, Failure
from stepflow.errors import ConfigurationError, OperatorError
from stepflow.flow import Stepflow

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load_or_fail", "load_target", "split_target", "target_directory"]


def load_target(target: str) -> Stepflow:
    """Return the `Stepflow` that `target` names.

    Raises `ConfigurationError` that names the candidates; what the module itself raises comes
    through.
    """
    place, name = split_target(target)
    module = _load_file(Path(place)) if _is_file(place) else _load_module(place)
    return _named(module, place, name) if name else _only(module, place)


def load_or_fail(target: str) -> Stepflow:
    """Return the target's `Stepflow`; an error of the application is shown as Python would."""
    try:
        return load_target(target)
    except OperatorError:
        raise
    except Exception as error:
        # From the application's own first frame on.
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not _is_loading(frame.filename)]
        text = "".join(traceback.format_list(own)) + "".join(traceback.format_exception_only(error))
        click.echo(text.rstrip(), err=True)
        raise Failure(f"loading {target} failed", DEFECT, "mend the error above") from error


def _is_loading(filename: str) -> bool:
    return filename.startswith("<frozen") or filename.endswith(
        ("cli/loader.py", "importlib/__init__.py")
    )


def split_target(target: str) -> tuple[str, str]:
    """Return the file or module and the name after the colon, empty when there is none."""
    place, colon, name = target.rpartition(":")
    # `C:\flows.py` has a colon too, and no name behind it.
    if not colon or not name.isidentifier() or (len(place) == 1 and place.isalpha()):
        return target.removesuffix(":"), ""
    return place, name


def target_directory(target: str) -> Path:
    """Return the directory whose code `--reload` watches."""
    place, _ = split_target(target)
    return Path(place).resolve().parent if _is_file(place) else Path.cwd()


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    root, name = _module_name(path)
    _first_on_path(root)
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(path):
            return known
        # `queue.py` must not stand in for the standard library's module of that name.
        name = f"stepflow_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file")
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _module_name(path: Path) -> tuple[Path, str]:
    """Return the directory to search from and the dotted name of the file."""
    parts = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def _load_module(name: str) -> ModuleType:
    _first_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the target itself imports is the target's business.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise ConfigurationError(
            f"there is no module {name!r} in {Path.cwd()}; for a file write its name with .py"
        ) from error


def _first_on_path(directory: Path) -> None:
    text = str(directory)
    if text in sys.path:
        sys.path.remove(text)
    sys.path.insert(0, text)


def _candidates(module: ModuleType) -> dict[str, Stepflow]:
    found = {key: value for key, value in vars(module).items() if isinstance(value, Stepflow)}
    return {key: value for key, value in found.items() if not key.startswith("_")} or found


def _named(module: ModuleType, place: str, name: str) -> Stepflow:
    found = getattr(module, name, None)
    if isinstance(found, Stepflow):
        return found
    what = "nothing" if found is None else f"a {type(found).__name__}"
    raise ConfigurationError(f"{place}:{name} is {what}, not a Stepflow; {_choices(module, place)}")


def _only(module: ModuleType, place: str) -> Stepflow:
    found = _candidates(module)
    if len({id(flow) for flow in found.values()}) == 1:
        return next(iter(found.values()))
    if not found:
        raise ConfigurationError(f"{place} has no Stepflow: write `flow = Stepflow()` in it")
    raise ConfigurationError(f"{place} has {len(found)} Stepflows; {_choices(module, place)}")


def _choices(module: ModuleType, place: str) -> str:
    names = [f"{place}:{name}" for name in sorted(_candidates(module))]
    return f"say which: {' or '.join(names)}" if names else "it has no Stepflow"
