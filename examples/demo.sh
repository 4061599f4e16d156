#!/bin/sh
# The main job from end to end on built-in data (1797 scanned digits): train, measure the speed, ship, evaluate.
# Run it as `make demo`, or with `saccade` on the path: sh examples/demo.sh [FOLDER]. About two minutes on two cores, after installing.
set -eu
out=${1:-demo-output}
rm -rf "$out"
mkdir -p "$out"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run saccade train --data digits --model shvit_s1 --size 64 --out "$out/run"

run saccade export --weights "$out/run" --to onnx --out "$out/bundle"

run saccade bench --models "timm/mobilevitv2_100,timm/shvit_s1,$out/run" --size 64 \
    --backends eager,torch,onnx --out "$out/speed.csv"

run saccade eval --data digits --weights "$out/run" --speeds "$out/speed.csv"

printf '\nThe report:  %s/run/report.html\nThe bundle:  %s\nThe speeds:  %s\n' \
    "$PWD/$out" "$out/bundle" "$out/speed.csv"
