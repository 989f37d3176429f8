#!/bin/bash
# Start a real Slurm cluster of several virtual nodes on this machine: Debian packages, as root, without systemd, with
# everything below one folder and nothing in /etc. What runs already is left alone, what has died is started again, and it
# returns when all nodes are up. Then:  . "$SLURMLAB_DIR/env.sh"
# $SLURMLAB_DIR/hidden is a folder whose content the nodes do not see: a disk that is not shared.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/settings.sh"
[ "$(id -u)" = 0 ] || fail "only root can start it"

# until_true WHAT COMMAND...
until_true() {
    local what=$1 end=$((SECONDS + PATIENCE)); shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            tail -n 5 "$LAB"/log/*.log >&2 || true
            fail "waited for $what in vain; logs are in $LAB/log"
        fi
        sleep 0.1
    done
}
# A daemon must not hold our output, else a caller's pipe never closes, nor the lock, nor stay in our session.
daemon() { setsid "$@" </dev/null >>"$LAB/log/start.log" 2>&1 9>&-; }

# ---- packages
wanted=(munge slurmctld slurmd slurm-client)
[ "$DATABASE" = no ] || wanted+=(slurmdbd mariadb-server-core mariadb-client-core)
missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    exec 8>/tmp/bioimage-slurm-lab-apt.lock; flock 8
    policy=/usr/sbin/policy-rc.d made=""
    if [ ! -e $policy ]; then  # the packages shall not start daemons of their own
        printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made=1
    fi
    code=0
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        </dev/null >/tmp/bioimage-slurm-lab-apt.log 2>&1 || code=$?
    [ -z "$made" ] || rm -f $policy
    [ $code = 0 ] || { tail -n 20 /tmp/bioimage-slurm-lab-apt.log >&2; fail "apt-get could not install"; }
    exec 8>&-
fi

# ---- folders
mkdir -p "$LAB"/{etc,log,run,state,database,munge,spool,hidden}
exec 9>"$LAB/lock"; flock 9
chmod 755 "$LAB" "$LAB"/{etc,log,run,state,spool}
chmod 700 "$LAB"/{database,munge}
for i in $(seq "$NODES"); do mkdir -p "$LAB/spool/$PREFIX$i"; done

# ---- configuration
host=$(hostname -s)
socket=$LAB/run/munge.socket
cgroups=no
if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ] && [ -d /sys/fs/cgroup/freezer ] \
        && mkdir "/sys/fs/cgroup/memory/bioimage-probe-$$" 2>/dev/null; then
    rmdir "/sys/fs/cgroup/memory/bioimage-probe-$$"; cgroups=yes
fi
tracking="ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill"
rm -f "$LAB/etc/cgroup.conf"
if [ $cgroups = yes ]; then
    tracking="ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
PrologFlags=Alloc,Contain"
    cat >"$LAB/etc/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
MinRAMSpace=8
CONF
fi
accounting="AccountingStorageType=accounting_storage/none"
[ "$DATABASE" = no ] || accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$socket
AccountingStorageEnforce=associations,limits,qos"
cat >"$LAB/etc/slurm.conf.new" <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool/%n
SlurmctldPidFile=$LAB/run/slurmctld.pid
SlurmdPidFile=$LAB/run/slurmd-%n.pid
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/slurmd-%n.log
MailProg=/bin/true
SwitchType=switch/none
MpiDefault=none
$tracking
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
$accounting
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PriorityType=priority/basic
DefMemPerCPU=400
MaxArraySize=1001
MaxJobCount=10000
MinJobAge=300
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
TCPTimeout=5
InactiveLimit=0
KillWait=2
UnkillableStepTimeout=20
CompleteWait=0
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
NodeName=${PREFIX}[1-$NODES] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((PORT + 10))-$((PORT + 9 + NODES))] CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEMORY State=UNKNOWN
PartitionName=main Nodes=${PREFIX}[1-$NODES] Default=YES LLN=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=short Nodes=${PREFIX}[1-$NODES] LLN=YES MaxTime=1 DefaultTime=1 State=UP
$EXTRA
CONF
( umask 077; cat >"$LAB/etc/slurmdbd.conf" ) <<CONF
AuthType=auth/munge
AuthInfo=socket=$socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=root
PidFile=$LAB/run/slurmdbd.pid
LogFile=$LAB/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 2))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
export SLURM_CONF=$LAB/etc/slurm.conf
echo "export SLURM_CONF=$SLURM_CONF" >"$LAB/env.sh"
changed=""
cmp -s "$SLURM_CONF.new" "$SLURM_CONF" || changed=1
mv "$SLURM_CONF.new" "$SLURM_CONF"

# ---- munge
if ! is_running "$LAB/run/munged.pid" munged; then
    [ -s "$LAB/munge/key" ] || ( umask 077; head -c 1024 /dev/urandom >"$LAB/munge/key" )
    rm -f "$socket" "$socket.lock"
    daemon munged --force --key-file="$LAB/munge/key" --seed-file="$LAB/munge/seed" --socket="$socket" \
        --pid-file="$LAB/run/munged.pid" --log-file="$LAB/log/munged.log" --num-threads=4 || fail "munged"
    until_true munged sh -c "munge -n -S '$socket' | unmunge -S '$socket'"
fi

# ---- accounting
if [ "$DATABASE" != no ]; then
    if ! is_running "$LAB/run/mariadb.pid" mariadbd; then
        [ -d "$LAB/database/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$LAB/database" \
            --skip-test-db --skip-name-resolve --auth-root-authentication-method=normal \
            </dev/null >"$LAB/log/mariadb-install.log" 2>&1 9>&- || fail "mariadb-install-db"
        cat >"$LAB/etc/init.sql" <<'SQL'
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
SQL
        # Speed, not safety: what is in there is worth nothing tomorrow.
        setsid mariadbd --no-defaults --user=root --datadir="$LAB/database" --socket="$LAB/run/mariadb.sock" \
            --pid-file="$LAB/run/mariadb.pid" --log-error="$LAB/log/mariadb.log" --init-file="$LAB/etc/init.sql" \
            --bind-address=127.0.0.1 --port=$((PORT + 2)) --skip-name-resolve --skip-log-bin --performance-schema=OFF \
            --max-connections=50 --innodb-buffer-pool-size=64M --innodb-buffer-pool-size-max=64M \
            --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
            --innodb-doublewrite=0 --innodb-use-native-aio=0 </dev/null >>"$LAB/log/start.log" 2>&1 9>&- &
        disown
        until_true mariadb mariadb --no-defaults -h127.0.0.1 -P$((PORT + 2)) -uslurm -pslurm -e 'select 1' slurm_acct_db
    fi
    if ! is_running "$LAB/run/slurmdbd.pid" slurmdbd; then
        daemon slurmdbd || fail "slurmdbd"
        until_true slurmdbd sacctmgr -n list cluster
    fi
    listed() { sacctmgr -n -P list "$1" format="$1" | grep -qx lab; }
    listed cluster || sacctmgr -i add cluster lab >/dev/null || fail "sacctmgr add cluster"
    if ! listed account; then
        sacctmgr -i add account lab Cluster=lab Description=lab Organization=lab >/dev/null || fail "sacctmgr add account"
        sacctmgr -i add user root Account=lab Cluster=lab >/dev/null || fail "sacctmgr add user"
        sacctmgr -i modify user root set DefaultAccount=lab where Cluster=lab >/dev/null || fail "sacctmgr modify user"
    fi
fi

# ---- controller and nodes
if ! is_running "$LAB/run/slurmctld.pid" slurmctld; then
    daemon slurmctld -i || fail "slurmctld"
    until_true slurmctld sh -c "scontrol ping | grep -q 'is UP'"
elif [ -n "$changed" ]; then
    scontrol reconfigure || say "the new configuration was not taken over in full"
fi
hide=()
if unshare --mount --propagation private mount -t tmpfs hidden "$LAB/hidden" 2>/dev/null; then
    # shellcheck disable=SC2016
    hide=(unshare --mount --propagation private sh -c 'mount -t tmpfs hidden "$0" && exec "$@"' "$LAB/hidden")
fi
for i in $(seq "$NODES"); do
    on_node=(); [ -z "$ON_NODE" ] || on_node=("$ON_NODE" "$PREFIX$i")
    is_running "$LAB/run/slurmd-$PREFIX$i.pid" slurmd || daemon "${on_node[@]}" "${hide[@]}" slurmd -N "$PREFIX$i" || fail "slurmd $PREFIX$i"
done
all_up() { [ "$(sinfo -h -N -p main -o %T | grep -cE '^(idle|mixed|allocated)$')" = "$NODES" ]; }
until_true "nodes" all_up
say "ready: $NODES nodes, cgroups=$cgroups, accounting=$DATABASE, hidden=$([ ${#hide[@]} = 0 ] && echo no || echo yes)"
