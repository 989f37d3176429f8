#!/bin/bash
# kill-node.sh NODE [--keep-jobs]: a power cut on one node: its slurmd, its steps and their processes die at once.
# With --keep-jobs only slurmd dies: the node looks dead, and its jobs go on. start.sh brings it back.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/settings.sh"
node=${1:?which node?}
victims=()
file=$LAB/run/slurmd-$node.pid
! is_running "$file" slurmd || victims+=("$(cat "$file")")
if [ "${2:-}" != --keep-jobs ]; then
    # A step listens on the socket SPOOL/NODE/NODE_JOB.STEP, which tells the node it belongs to.
    inodes=$(awk -v start="$LAB/spool/$node/" 'index($8, start) == 1 {print $7}' /proc/net/unix)
    for folder in /proc/[0-9]*; do
        case "$(readlink "$folder/exe" 2>/dev/null)" in */slurmstepd*) ;; *) continue ;; esac
        open=$(ls -l "$folder/fd" 2>/dev/null)
        for inode in $inodes; do
            if [[ $open == *"socket:[$inode]"* ]]; then
                # shellcheck disable=SC2207
                victims+=("${folder#/proc/}" $(descendants "${folder#/proc/}")); break
            fi
        done
    done
fi
[ ${#victims[@]} = 0 ] || kill -KILL "${victims[@]}" 2>/dev/null
say "killed: ${victims[*]:-nobody}"
