#!/bin/sh
# Usage: scripts/train_stop_sign.sh [FOLDER]
# Makes restapi/imgdetect/detectors/cascades/stop_sign.xml from nothing but this repository and ten photographs that come
# What is there already in FOLDER (build/stop-sign) is not made again.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-build/stop-sign}
cascade=restapi/imgdetect/detectors/cascades/stop_sign.xml
fasthaar=.venv/bin/fasthaar
photographs="astronaut.png brick.png camera.png chelsea.png clock_motion.png coffee.png grass.png gravel.png
    hubble_deep_field.jpg rocket.jpg"
mkdir -p "$folder"

if [ ! -d "$folder/photographs" ]; then
    # Its pictures alone are needed, so it is not installed.
    .venv/bin/pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
        --dest "$folder/wheel" -r scripts/photographs.lock
    rm -rf "$folder/photographs.part"
    mkdir "$folder/photographs.part"
    .venv/bin/python -m zipfile -e "$folder"/wheel/scikit_image-*.whl "$folder/wheel"
    for name in $photographs; do
        cp "$folder/wheel/skimage/data/$name" "$folder/photographs.part/"
    done
    mv "$folder/photographs.part" "$folder/photographs"
    rm -r "$folder/wheel"
fi
[ -f "$folder/fronts.npz" ] || $fasthaar samples render "$folder/fronts.npz" \
    --recipe stop-sign --count 3600 --seed 1 --sheet "$folder/fronts.png"
[ -f "$folder/backs.npz" ] || $fasthaar samples render "$folder/backs.npz" \
    --recipe stop-sign-back --count 900 --seed 9 --sheet "$folder/backs.png"
# Mixed, since the last ones are held out.
.venv/bin/python - "$folder" <<'END'
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
samples = np.concatenate([np.load(folder / f"{name}.npz")["samples"] for name in ("fronts", "backs")])
np.savez_compressed(folder / "positives.npz", samples=np.random.default_rng(0).permutation(samples))
END
[ -d "$folder/negatives" ] || $fasthaar samples negatives "$folder/negatives" \
    --recipe stop-sign --backgrounds "$folder/photographs" --count 900 --seed 2
[ -d "$folder/scenes" ] || $fasthaar samples scenes "$folder/scenes" --recipe stop-sign --count 100 --seed 3

$fasthaar train "$folder/positives.npz" "$folder/negatives" --out "$folder/training" \
    --stages 18 --target 1e-7 --max-depth 2 --hold-out 0.15 --min-hit-rate 0.998 --max-false-alarm 0.45 \
    --negatives-per-stage 2500 --features-per-stage 15000 --seed 1
$fasthaar evaluate "$folder/training/cascade.xml" "$folder/scenes" --margin 0.06 --iou 0.3
cp "$folder/training/cascade.xml" "$cascade"
echo "$cascade"
