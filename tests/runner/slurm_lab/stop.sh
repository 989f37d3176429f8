#!/bin/bash
# stop.sh [--wipe]: end the cluster that start.sh started, by number, and nothing that is not of its folder.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/settings.sh"
[ -d "$LAB" ] || exit 0
export SLURM_CONF=$LAB/etc/slurm.conf
exec 9>"$LAB/lock"; flock 9

# end PIDFILE PROGRAM SECONDS: ask, wait, then kill, if that number still is that program
end() {
    local pid tries=$(($3 * 20))
    if is_running "$1" "$2"; then
        pid=$(cat "$1")
        kill -TERM "$pid"
        while runs "$pid" && [ $((tries--)) -gt 0 ]; do sleep 0.05; done
        if runs "$pid"; then say "$2 ($pid) did not end: killed"; kill -KILL "$pid"; fi
    fi
    rm -f "$1"
}

# Jobs end politely while the daemons can see to it.
if timeout 3 scontrol ping 2>/dev/null | grep -q 'is UP'; then
    timeout 5 squeue -h -o %A 2>/dev/null | sort -u | xargs -r timeout 10 scancel --quiet --full 2>/dev/null
    for _ in $(seq 35); do [ -n "$(timeout 3 squeue -h 2>/dev/null)" ] || break; sleep 0.1; done
fi
for file in "$LAB"/run/slurmd-*.pid; do [ ! -e "$file" ] || end "$file" slurmd 5; done
end "$LAB/run/slurmctld.pid" slurmctld 20
end "$LAB/run/slurmdbd.pid" slurmdbd 10

# Steps that outlived their slurmd work in our log folder; processes that outlived their step carry our SLURM_CONF.
ours=" " ancestor=$$
while [ "${ancestor:-0}" -gt 1 ]; do ours+="$ancestor "; ancestor=$(awk '/^PPid:/ {print $2}' "/proc/$ancestor/status"); done
for folder in /proc/[0-9]*; do
    pid=${folder#/proc/}
    [[ $ours != *" $pid "* ]] || continue
    case "$(readlink "$folder/exe" 2>/dev/null)" in
        */slurmstepd*) [ "$(readlink "$folder/cwd" 2>/dev/null)" = "$LAB/log" ] || continue ;;
        *) grep -zqs '^SLURM_JOB_ID=' "$folder/environ" && grep -zqsxF "SLURM_CONF=$SLURM_CONF" "$folder/environ" || continue ;;
    esac
    say "left over: $pid, killed"
    # shellcheck disable=SC2046
    kill -KILL "$pid" $(descendants "$pid") 2>/dev/null
done
end "$LAB/run/mariadb.pid" mariadbd 20
end "$LAB/run/munged.pid" munged 5

# Slurm leaves empty cgroups; rmdir takes away none that is in use.
for spool in "$LAB"/spool/*/; do
    for group in /sys/fs/cgroup/*/slurm_"$(basename "$spool")"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    done
done
[ "${1:-}" != --wipe ] || rm -rf "$LAB"
say stopped
