"""How a training grows with its data: seconds per epoch and memory, by the number of images.

    python benchmarks/scaling.py [--images 1000 4000] [--json FILE]

Localization of the embedded animals by a tiny network, so that the data count; each size in a
process of its own, twice, since the first run draws the images. ``data.ram_limit_mb`` is 1, so
that they stay on disk: own memory is what the process holds itself, mapped is what the system lends
it of files and takes back when somebody needs it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import results
from results import ROOT

SIZES = (1000, 4000)
RUN = f'''
import sys
from pathlib import Path
sys.path.insert(0, "{ROOT}")
import hydra
from phasewise.training.run import train
words = sys.argv[2:]
with hydra.initialize_config_dir("{ROOT / "conf"}", "train", version_base="1.3"):
    train(hydra.compose("config", words), Path(sys.argv[1]), overrides=words)
for line in open("/proc/self/status"):
    if line.startswith("Rss"):
        print("RSS", line)
'''
WORDS = """
task=localization model.backbone=test_resnet data.image_size=64 data.val_images=64
data.test_images=64 data.batch_size=64 data.ram_limit_mb=1 trainer.max_epochs=4 figures.images=0
test=false
"""


def measure(images: int, folder: Path) -> dict[str, float]:
    """Of a run on so many images whose cache is there."""
    words = [*WORDS.split(), f"data.train_images={images}", f"data.cache_dir={folder}/cache"]
    for number in range(2):
        run = folder / f"{images}_{number}"
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(run), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
    found = [line.split() for line in done.stdout.splitlines() if line.startswith("RSS")]
    memory = {words[1]: int(words[2]) / 1024 for words in found}
    from phasewise.records.history import read_history

    seconds = median(row["seconds"] for row in read_history(run)[1:])
    size = sum(file.stat().st_size for file in (folder / "cache").rglob("*") if file.is_file())
    return {
        "images": images,
        "seconds per epoch": seconds,
        "ms per image": 1000 * seconds / images,
        "own memory MB": memory["RssAnon:"],
        "mapped MB": memory["RssFile:"],
        "cache MB": size / 2**20,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    print(results.machine())
    rows = []
    for images in args.images:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(images, Path(folder)))
        line = "  ".join(f"{key} {value:.4g}" for key, value in rows[-1].items())
        print(line, flush=True)
    results.write(args.json, rows=rows)


if __name__ == "__main__":
    main()
