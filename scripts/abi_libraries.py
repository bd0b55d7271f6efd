"""Versions of real C libraries, one after the other, for scripts/abi-agreement: from sources that crates carry with them.

Cargo fetches the crates into its own store. Each version is built by gcc with the same flags, in a folder of the same name, as two builds
of one library are."""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import sys
import typing


class Library(typing.NamedTuple):
    name: str
    crate: str
    # (version of the crate, version of the library), oldest first.
    versions: list[tuple[str, str]]
    # Relative to the crate. `{}` is the library's version.
    sources: list[str]
    includes: list[str]
    # The folder of the headers that callers include.
    headers: str
    flags: list[str] = []
    but: list[str] = []


LIBRARIES = [
    Library("zlib", "libz-sys", [("1.1.8", "1.2.11"), ("1.1.9", "1.2.13"), ("1.1.16", "1.3.1")],
            ["src/zlib/*.c"], ["src/zlib"], "src/zlib", ["-DHAVE_UNISTD_H"]),
    Library("lz4", "lz4-sys", [("1.9.3", "1.9.2"), ("1.10.0", "1.9.4"), ("1.11.1+lz4-1.10.0", "1.10.0")],
            ["liblz4/lib/*.c"], ["liblz4/lib"], "liblz4/lib", but=["lz4file.c"]),
    Library("zstd", "zstd-sys",
            [("2.0.1+zstd.1.5.2", "1.5.2"), ("2.0.7+zstd.1.5.4", "1.5.4"), ("2.0.9+zstd.1.5.5", "1.5.5"),
             ("2.0.13+zstd.1.5.6", "1.5.6"), ("2.0.15+zstd.1.5.7", "1.5.7")],
            [f"zstd/lib/{part}/*.c" for part in ("common", "compress", "decompress", "dictBuilder")],
            ["zstd/lib", "zstd/lib/common"], "zstd/lib", ["-DZSTD_DISABLE_ASM", "-DZSTDLIB_HIDDEN="]),
    Library("sqlite", "libsqlite3-sys",
            [("0.27.0", "3.44.0"), ("0.28.0", "3.45.0"), ("0.30.1", "3.46.0"), ("0.33.0", "3.49.1")],
            ["sqlite3/sqlite3.c"], ["sqlite3"], "sqlite3", ["-DSQLITE_THREADSAFE=1", "-DSQLITE_ENABLE_FTS5"]),
    Library("mimalloc", "libmimalloc-sys", [("0.1.35", "2.1.2"), ("0.1.39", "2.1.7"), ("0.1.42", "2.2.3")],
            ["c_src/mimalloc/src/static.c"], ["c_src/mimalloc/include"], "c_src/mimalloc/include"),
    Library("libdeflate", "libdeflate-sys",
            [("1.19.3", "1.19"), ("1.20.0", "1.20"), ("1.21.0", "1.21"), ("1.22.0", "1.22")],
            ["libdeflate/lib/*.c", "libdeflate/lib/*/cpu_features.c"], ["libdeflate"], "libdeflate"),
    Library("tree-sitter", "tree-sitter",
            [("0.20.10", "0.20.10"), ("0.21.0", "0.21.0"), ("0.22.6", "0.22.6"), ("0.23.2", "0.23.2"), ("0.24.7", "0.24.7"),
             ("0.25.3", "0.25.3")],
            ["src/lib.c"], ["src", "include", "src/wasm"], "include"),
    Library("lua", "lua-src", [("546.0.2", "5.4.6"), ("547.0.0", "5.4.7")],
            ["lua-{}/*.c"], ["lua-{}"], "lua-{}", ["-DLUA_USE_POSIX"], ["lua.c", "luac.c"]),
    Library("lmdb", "lmdb-rkv-sys", [("0.11.0", "0.9.24"), ("0.11.2", "0.9.28")],
            ["lmdb/libraries/liblmdb/mdb.c", "lmdb/libraries/liblmdb/midl.c"], [], "lmdb/libraries/liblmdb"),
    Library("libwebp", "libwebp-sys", [("0.9.5", "1.3.2"), ("0.10.0", "1.4.0")],
            ["vendor/src/*/*.c", "vendor/sharpyuv/*.c"], ["vendor"], "vendor/src/webp", ["-D_REENTRANT"]),
]


class Built(typing.NamedTuple):
    module: pathlib.Path
    headers: pathlib.Path


def crate(work: pathlib.Path, name: str, version: str) -> pathlib.Path:
    """The folder of a crate's sources: fetched, if it is not in cargo's store."""
    project = work / "fetch" / f"{name}-{version}"
    (project / "src").mkdir(parents=True)
    (project / "src/lib.rs").touch()
    (project / "Cargo.toml").write_text(
        f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
        f'[dependencies]\n{name} = {{ version = "={version}", default-features = false }}\n'
    )
    said = subprocess.run(["cargo", "metadata", "--quiet", "--format-version", "1"], cwd=project, stdout=subprocess.PIPE, text=True)
    if said.returncode:
        sys.exit(f"the crate {name} {version} cannot be fetched")
    packages = json.loads(said.stdout)["packages"]
    found = next(package for package in packages if package["name"] == name and package["version"] == version)
    return pathlib.Path(found["manifest_path"]).parent


def build(work: pathlib.Path, library: Library, version: tuple[str, str]) -> Built:
    of_crate, number = version
    # A folder of its own for each, whose last parts are the same.
    root = work / f"{library.name}-{number}" / library.name
    shutil.copytree(crate(work, library.crate, of_crate), root, ignore=shutil.ignore_patterns("target", "tests", "testdata"))
    sources = sorted(path.relative_to(root) for pattern in library.sources for path in root.glob(pattern.format(number)))
    sources = [path for path in sources if path.name not in library.but]
    # What does not exist in a version is not looked for there; that there is nothing at all is.
    if not sources:
        sys.exit(f"{library.name} {number}: there are no sources")
    includes = [f"-I{folder.format(number)}" for folder in library.includes]
    module = pathlib.Path(f"lib{library.name}.so")
    command = ["gcc", "-w", "-g", "-O1", "-shared", "-fPIC", *library.flags, *includes, *map(str, sources), "-o", str(module), "-lm"]
    subprocess.run(command, cwd=root, check=True)
    return Built(root / module, root / library.headers.format(number))


def pairs(work: pathlib.Path) -> list[tuple[str, Built, Built]]:
    """All consecutive ones, as `zlib 1.2.11 1.2.13`."""
    all_versions = [(library, version) for library in LIBRARIES for version in library.versions]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda of: build(work, *of), all_versions))
    by_version = {(library.name, version): made for (library, version), made in zip(all_versions, built)}
    return [
        (f"{library.name} {old[1]} {new[1]}", by_version[library.name, old], by_version[library.name, new])
        for library in LIBRARIES
        for old, new in zip(library.versions, library.versions[1:])
    ]
