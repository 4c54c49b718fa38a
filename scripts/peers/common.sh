# What the scripts of all peers share. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${PEERS_CACHE:-${CARGO_TARGET_DIR:-$root/target}/peers}

fail() { echo "error: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "no $1: install $2"; }

# Reads `start|stop FOLDER [--port N] [--cpu N] [--class CLASS]` into $action, $folder, $port, $cpu and $class.
read_arguments() {
  action=${1:-} folder=${2:-} cpu=0 class=memory
  [[ $action =~ ^(start|stop)$ && -n $folder && $folder != -* ]] || { usage >&2; exit 2; }
  shift 2
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    case $1 in
      --port) port=$2 ;;
      --cpu) cpu=$2 ;;
      --class) class=$2 ;;
      *) echo "error: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift 2
  done
  [[ $port =~ ^[0-9]+$ ]] || { echo "error: --port $port: a number is needed" >&2; exit 2; }
  [[ $class =~ ^(memory|flushed)$ ]] || { echo "error: --class $class: memory or flushed" >&2; exit 2; }
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# A peer is always measured on a fresh folder, and on a port that nobody else answers.
make_folder() {
  [ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] || fail "$folder is not empty: a peer starts on a fresh folder"
  ! answers || fail "port $port is taken: give another by --port"
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
}

# Runs a command in the background, on the one CPU, and returns when it listens on $port.
start_pinned() {
  need taskset "your distribution's util-linux"
  setsid taskset -c "$cpu" "$@" >"$folder/log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$folder/pid"
  for _ in $(seq 600); do
    if answers; then
      echo "127.0.0.1:$port"
      return
    fi
    kill -0 "$pid" 2>/dev/null || { tail -20 "$folder/log" >&2; fail "it ended before it listened; see $folder/log"; }
    sleep 0.1
  done
  kill "$pid"
  fail "nothing listens on port $port after 60 seconds; see $folder/log"
}

# Ends the peer that was started on $folder, by its process number.
stop_by_pid() {
  [ -s "$folder/pid" ] || fail "no $folder/pid: nothing was started there"
  local pid
  pid=$(cat "$folder/pid")
  if kill "$pid" 2>/dev/null; then
    for _ in $(seq 200); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  fi
  rm "$folder/pid"
}
