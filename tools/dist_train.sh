#!/usr/bin/env bash
# tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# One process a GPU; several machines: NNODES, NODE_RANK (0 to NNODES - 1), MASTER_ADDR and PORT, the same PORT on each.
# MAX_RESTARTS above 0: when a process or a machine is lost, the others wait for it and all resume from the last
# checkpoint in the work dir; docs/launchers.md tells more, and what LOCAL_ADDR and RDZV_ID are for.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=1] [NODE_RANK=0] [MASTER_ADDR=127.0.0.1] [PORT=29500]" \
        "[MAX_RESTARTS=0] [LOCAL_ADDR=...] [RDZV_ID=r2kd_mm] $0 CONFIG PROCESSES [ARGUMENTS]" >&2
    exit 2
fi
config=$1
processes=$2
node_rank=${NODE_RANK:-0}
master=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=("$tools/train.py" "$config" --launcher pytorch)

if [ "${MAX_RESTARTS:-0}" = 0 ]; then
    rendezvous=(--node_rank="$node_rank" --master_addr="$master" --master_port="$port")
else
    # a store of each attempt's own: with torchrun's shared one a machine that comes back waits for ever (pytorch #135712)
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    # machine 0 keeps the list of those present: said outright, since torchrun guesses it from the host name
    rendezvous=(
        --max-restarts="$MAX_RESTARTS"
        --rdzv-backend=c10d
        --rdzv-endpoint="$master:$port"
        --rdzv-id="${RDZV_ID:-r2kd_mm}"
        --rdzv-conf="is_host=$((node_rank == 0))"
        ${LOCAL_ADDR:+--local-addr="$LOCAL_ADDR"} # ranks follow the order of the addresses
    )
    program+=(--resume)
fi

export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    "${rendezvous[@]}" \
    --nproc_per_node="$processes" \
    "${program[@]}" "${@:3}"
