#!/usr/bin/env bash
# tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# One process a GPU; several machines: NNODES, NODE_RANK (0 to NNODES - 1), MASTER_ADDR and PORT, the same PORT on each.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=1] [NODE_RANK=0] [MASTER_ADDR=127.0.0.1] [PORT=29500] $0 CONFIG PROCESSES [ARGUMENTS]" >&2
    exit 2
fi
config=$1
processes=$2
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$tools/train.py" "$config" --launcher pytorch "${@:3}"
