#!/usr/bin/env python3
"""THIRD-PARTY-LICENSES: the packages that the wheel contains, and their licences.

.ci/notices.py            writes it
.ci/notices.py --check    fails where it is out of date
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "THIRD-PARTY-LICENSES"
# The packages of other platforms are not in the wheel of this one, and have the same licences.
PLATFORM = "x86_64-unknown-linux-gnu"
NAMES = ("license", "licence", "copying", "notice", "unlicense", "copyright")

HEAD = """\
The wheel `seccogc` contains the packages below, compiled. Each stands under the licences that it names; their
texts follow, each once, with the packages that bring it; of several licences to choose from the shorter one.

The images of MNIST that are embedded stand under CC BY-SA 3.0: see datasets/README.md.
"""


def cargo(*arguments: str) -> str:
    command = ["cargo", *arguments, "--locked", "--manifest-path", str(ROOT / "python" / "Cargo.toml")]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def packages() -> list[dict]:
    """What is linked into the native module: its normal dependencies, without those of builds and tests."""
    linked = cargo(
        "tree", "--package=seccogc-python", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}",
        f"--target={PLATFORM}",
    )  # fmt: skip
    names = {tuple(line.split()[:2]) for line in linked.splitlines()}
    metadata = cargo("metadata", "--format-version=1", f"--filter-platform={PLATFORM}")
    known = (package for package in json.loads(metadata)["packages"] if package["source"] is not None)
    found = [package for package in known if (package["name"], f"v{package['version']}") in names]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def texts(package: dict) -> list[str]:
    """The licence files of a package."""
    folder = Path(package["manifest_path"]).parent
    named = package["license_file"]
    files = {folder / named} if named else set()
    for path in [*folder.iterdir(), *folder.glob("LICENSES/*")]:
        if path.is_file() and (path.parent != folder or path.name.lower().startswith(NAMES)):
            files.add(path)
    # Of a choice the shorter licence is taken.
    if "OR" in (package["license"] or "") and any("mit" in path.name.lower() for path in files):
        files = {path for path in files if "apache" not in path.name.lower()}
    contents = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(files)]
    return ["\n".join(line.rstrip() for line in text.strip().splitlines()) for text in contents]


def document() -> str:
    linked = packages()
    lines = [HEAD]
    for package in linked:
        licence = package["license"] or "see its file"
        lines.append(
            f"{package['name']} {package['version']}: {licence}, {package['repository'] or ''}".rstrip(", ")
        )
    # Copies of a text differ in how it is broken into lines.
    bringing, first = defaultdict(list), {}
    for package in linked:
        for text in texts(package):
            words = " ".join(text.split()).lower()
            first.setdefault(words, text)
            bringing[words].append(f"{package['name']} {package['version']}")
    for words, names in sorted(bringing.items(), key=lambda item: item[1]):
        lines += ["", "-" * 80, ", ".join(names), "-" * 80, "", first[words]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = document()
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text(encoding="utf-8") != text:
            sys.exit("THIRD-PARTY-LICENSES is out of date: run .ci/notices.py")
    else:
        FILE.write_text(text, encoding="utf-8")
