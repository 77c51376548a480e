"""Who provides the backends of a session, as files: what registers them, and where their code stands."""

from __future__ import annotations

import hashlib
import site
import sysconfig
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.code_files import code_files
from attnconf.errors import InvalidInputError
from attnconf.gate.plans.repository import repository_of
from attnconf.gate.provider import Provider, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.backends.registry import Origin
    from attnconf.gate.plans.repository import Repository
    from attnconf.running.session import Session


def providers_of(session: Session, names: Iterable[str], folder: Path) -> dict[str, Provider]:
    """Return the providers of the registered backends ``names``, by the names under which their evidence counts.

    The commit is that of the repository around ``folder``. No backend is imported or made for it: of those that were,
    the files of their classes are looked at, too.
    """
    try:
        repository = repository_of(folder)
    except InvalidInputError:
        repository = None
    found = {}
    for name in names:
        origin, declared = session.registry.origin(name), session.declared(name)
        code = code_files(origin) if declared is None else declared.files
        files = [Path(file) for file in dict.fromkeys(filter(None, (origin.place, *code)))]
        provider = _provider(origin, [file for file in files if not _is_installed(file)], repository)
        found[name if declared is None else declared.name] = provider
    return found


def _provider(origin: Origin, files: list[Path], repository: Repository | None) -> Provider:
    if origin.entries:
        entry = origin.entries[0]
        own = [file for file in files if repository is not None and repository.name_of(file) is not None]
        name, number = (None, None) if entry.dist is None else (entry.dist.name, entry.dist.version)
        return Provider(distribution=name, version=number, entry_point=entry.value, sources=_sources(own, repository))
    place = Path(origin.place)
    name = _distribution_of(place) if _is_installed(place) else None
    files = [file for file in files if not file.is_relative_to(_LIBRARY) or file == place]
    return Provider(distribution=name, version=_version(name), sources=_sources(files, repository))


def _sources(files: Iterable[Path], repository: Repository | None) -> tuple[Source, ...]:
    names = {file: None if repository is None else repository.name_of(file) for file in dict.fromkeys(files)}
    contents = {file: _content(file) for file in names}
    inside = {name: contents[file] or b"" for file, name in names.items() if name is not None}
    held = frozenset() if repository is None else repository.committed(inside)
    return tuple(
        Source(
            path=name or str(file),
            sha256=None if content is None else hashlib.sha256(content).hexdigest(),
            committed=name in held and content is not None,
        )
        for (file, name), content in zip(names.items(), contents.values(), strict=True)
    )


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (OSError, ValueError):
        return None


@cache
def _is_installed(file: Path) -> bool:
    """Whether ``file`` belongs to Python, or to what was installed into it."""
    return any(file.resolve().is_relative_to(folder) for folder in _INSTALLED)


def _distribution_of(file: Path) -> str | None:
    """Return the distribution that brought an installed ``file``."""
    for folder in _INSTALLED:
        if file.resolve().is_relative_to(folder):
            package = file.resolve().relative_to(folder).parts[0].removesuffix(".py")
            return next(iter(packages_distributions().get(package, ())), None)
    return None


def _version(name: str | None) -> str | None:
    try:
        return None if name is None else version(name)
    except PackageNotFoundError:
        return None


_LIBRARY = Path(__file__).parents[1]
_INSTALLED = tuple(
    dict.fromkeys(
        Path(folder).resolve()
        for folder in (
            *map(sysconfig.get_path, ("purelib", "platlib", "stdlib", "platstdlib")),
            *site.getsitepackages(),
            site.getusersitepackages(),
        )
    )
)
