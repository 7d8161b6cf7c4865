#!/usr/bin/env bash
# Runs hello.yaml on a scratch directory, breaks what it made, and shows it being put
# right. It ends by itself: mgmt leaves once nothing has changed for two seconds.
#
#   examples/hello/run.sh [MGMT]    (bin/mgmt, as make build makes it)
set -euo pipefail
mgmt=${1:-bin/mgmt}
here=$(dirname "${BASH_SOURCE[0]}")

dir=$(mktemp -d "${TMPDIR:-/tmp}/mgmt-hello.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
sed "s|/tmp/mgmt-hello|$dir/host|g" "$here/hello.yaml" >"$dir/hello.yaml"
host=$dir/host
export MGMT_PREFIX=$dir/prefix

say() { printf '\n%s\n' "$*"; }

# becomes WHAT CONDITION...: waits until the condition holds, and says how long it took.
becomes() {
	local what=$1 start=$EPOCHREALTIME now ms
	shift
	until "$@"; do
		kill -0 "$pid" 2>/dev/null || { echo "mgmt has ended too early"; exit 1; }
		now=$EPOCHREALTIME
		ms=$(((${now/[.,]/} - ${start/[.,]/}) / 1000))
		[ "$ms" -lt 10000 ] || { echo "not $what after ten seconds"; exit 1; }
		sleep 0.001
	done
	now=$EPOCHREALTIME
	echo "   $what, $(((${now/[.,]/} - ${start/[.,]/}) / 1000)) ms later"
}

right() { [ "$(cat "$host/motd" 2>/dev/null)" = "Hello! This file puts itself right." ]; }
same() { cmp -s "$host/motd" "$host/motd.copy"; }
gone() { [ ! -e "$host/unwanted" ]; }
mode() { [ "$(stat -c %a "$host/motd" 2>/dev/null)" = 644 ]; }

say "\$ mgmt run --file hello.yaml --converged-timeout=2   (in $host)"
"$mgmt" run --file "$dir/hello.yaml" --converged-timeout=2 --max-runtime=60 2>&1 &
pid=$!
becomes "motd is there" right
becomes "and its copy" same

say "\$ rm motd"
rm "$host/motd"
becomes "it is back" right

say "\$ echo nonsense > motd"
echo nonsense >"$host/motd"
becomes "it is right again" right

say "\$ chmod 600 motd"
chmod 600 "$host/motd"
becomes "it has its mode again" mode

say "\$ touch unwanted"
touch "$host/unwanted"
becomes "it is gone" gone

say "Now nothing changes any more, so after two seconds mgmt ends:"
wait "$pid"
pid=
echo "   it ended with exit code 0"
