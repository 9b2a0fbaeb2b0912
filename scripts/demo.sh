#!/bin/sh
# The main workflow on real data, from training to pictures; about 12 minutes on two cores. Run it
# through `make demo`, which sets up and builds first.
set -eu
out=demo
step() { printf '\n=== %s\n' "$*"; }

step "1/4 train YOLO for 600 steps (two minutes) on handwritten digits (scikit-learn's, placed on backgrounds)"
detcore train --model yolo --data digits --steps 600 --lr 4e-3 --precision auto \
  --out $out/run --overwrite

step "2/4 evaluate on pictures of digits that are in no training picture (pycocotools)"
detcore eval --checkpoint $out/run --data digits --split val --json $out/metrics.json

step "3/4 draw the detections on held-out pictures"
detcore predict --checkpoint $out/run --data digits --split val --count 8 --out $out/pictures
cp $out/run/loss.png $out/loss.png

step "4/4 compare each op with torchvision"
detcore bench --json $out/bench.json

python - <<'PY'
import json

metrics = json.load(open("demo/metrics.json"))
ap50 = metrics.get("metrics", metrics)["AP50"]
print(f"\nAP50 on held-out digits: {ap50:.3f} (must be above 0.80)")
print("Look at demo/pictures/overview.png (found digits), demo/loss.png (the loss while training),")
print("demo/metrics.json (all figures) and demo/bench.json (each op compared with torchvision).")
raise SystemExit(0 if ap50 > 0.8 else 1)
PY
