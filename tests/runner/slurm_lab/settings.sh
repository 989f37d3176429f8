# What start.sh, stop.sh and kill-node.sh share; sourced by them. Every value can be given in the environment.
# shellcheck shell=bash disable=SC2034
LAB=${SLURMLAB_DIR:-/tmp/bioimage-slurm-lab}   # short: a socket's path has 107 characters at most
NODES=${SLURMLAB_NODES:-4}                     # virtual nodes, all of this machine
PREFIX=${SLURMLAB_NODE_PREFIX:-bpnode}         # their names; two labs on one machine need different ones (cgroups)
CPUS=${SLURMLAB_CPUS:-4}                       # what each node pretends to have
MEMORY=${SLURMLAB_MEM:-4000}                   # MiB, likewise
PORT=${SLURMLAB_PORT:-27817}                   # controller; +1 slurmdbd, +2 mariadb, +10… the nodes
DATABASE=${SLURMLAB_DB:-yes}                   # no: no accounting, hence no sacct, accounts or QOS
EXTRA=${SLURMLAB_EXTRA_CONF:-}                 # more lines for slurm.conf; the last one of a key counts
ON_NODE=${SLURMLAB_ON_NODE:-}                  # a program that starts a node's daemon where that shall run: PROGRAM NODE COMMAND...
PATIENCE=${SLURMLAB_WAIT:-90}                  # seconds for each thing that is waited for

began=$EPOCHREALTIME
say() { printf 'slurm-lab %5.1fs: %s\n' "$(bc_minus "$EPOCHREALTIME" "$began")" "$*" >&2; }
bc_minus() { awk -v a="$1" -v b="$2" 'BEGIN {print a - b}'; }
fail() { say "FAILED: $*"; exit 1; }

# A process that only waits for its parent to notice its death answers kill -0, so its state is asked for.
runs() { [ -n "${1:-}" ] && grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }
# is_running PIDFILE PROGRAM: the number in the file is alive and is that program
is_running() {
    local pid; pid=$(cat "$1" 2>/dev/null) || return 1
    runs "$pid" && [ "$(cat "/proc/$pid/comm")" = "$2" ]
}
descendants() { local child; for child in $(ps -o pid= --ppid "$1"); do descendants "$child"; echo "$child"; done; }
