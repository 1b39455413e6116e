# Two AWS emulators and a second DynamoDB for a run of the tests; sourced by `tests/run`.
#
#   emulator_start   starts them on free ports and exports SYNCLINE_TEST_AWS, the endpoint of all
#                    services, SYNCLINE_TEST_AWS_ENFORCING, the same with roles and policies
#                    enforced, and SYNCLINE_TEST_DYNAMODB, that of the other DynamoDB
#   emulator_stop    stops them and removes what they hold
#
# To keep them while developing:  bash tests/emulator.sh   (Ctrl-C stops them)
#
# The emulator of all services is ministack. It is one vendor's work and no proof of how AWS
# behaves, so what talks to DynamoDB is held against moto as well. Both are Python packages, which
# are installed once, into .test-env/aws. They need nothing but Python 3.10 or newer with `venv`.

# These go together: a newer aws-sam-translator brings a botocore that ministack does not work with.
emulator_packages=(ministack==1.5.33 aws-sam-translator==1.115.0 botocore==1.43.106 boto3==1.43.106 "moto[dynamodb,server]==5.2.5")

emulator_home=
emulator_processes=()

# Installs the packages into $1, once for each state of the list above.
emulator_install() {
    local wanted="${emulator_packages[*]}"
    if [ "$(cat "$1/.installed" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        echo "the tests need Python 3.10 or newer with venv for the AWS emulator: install it, or see tests/emulator.sh" >&2
        return 1
    fi
    rm -rf "$1" && mkdir -p "$1" &&
        python3 -m venv "$1" &&
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${emulator_packages[@]}" &&
        echo "$wanted" >"$1/.installed"
}

# Prints a port that is free now.
emulator_port() {
    "$emulator_bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts a program with nothing of this environment in its own, so that neither credentials nor
# settings of the user reach it or the functions it runs; its log is $1. It gets a process group of
# its own, with all that it starts.
emulator_spawn() {
    local log=$1 options=$-
    shift
    set -m
    env -i PATH="$emulator_bin:$PATH" HOME="$emulator_home" PYTHONDONTWRITEBYTECODE=1 \
        AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1 \
        "$@" >"$log" 2>&1 </dev/null &
    emulator_pid=$!
    disown "$emulator_pid"
    case $options in *m*) ;; *) set +m ;; esac
    emulator_processes+=("$emulator_pid")
}

# Waits until the process $1 answers at $2.
emulator_wait() {
    "$emulator_bin/python" - "$1" "$2" <<'PYTHON'
import os, sys, time, urllib.request

process, url = int(sys.argv[1]), sys.argv[2]
for _ in range(600):
    try:
        os.kill(process, 0)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)
        sys.exit(0)
    except ProcessLookupError:
        sys.exit(1)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
PYTHON
}

# Starts ministack with what it holds in a folder $1 of its own, and $2 for its environment.
emulator_start_ministack() {
    local part=$1 port
    shift
    port=$(emulator_port) || return 1
    mkdir -p "$emulator_home/$part"
    # MINISTACK_HOST and AWS_ENDPOINT_URL are for what it runs: functions find it by them.
    emulator_spawn "$emulator_home/$part.log" \
        BIND_HOST=127.0.0.1 GATEWAY_PORT="$port" MINISTACK_HOST=127.0.0.1 \
        AWS_ENDPOINT_URL="http://127.0.0.1:$port" \
        STATE_DIR="$emulator_home/$part/state" S3_DATA_DIR="$emulator_home/$part/s3" TMPDIR="$emulator_home/$part" \
        PYTHONPATH="$emulator_home/python" "$@" \
        ministack
    emulator_wait "$emulator_pid" "http://127.0.0.1:$port/_ministack/health" || return 1
    emulator_endpoint="http://127.0.0.1:$port"
}

emulator_start_aws() {
    emulator_start_ministack aws || return 1
    export SYNCLINE_TEST_AWS=$emulator_endpoint
}

emulator_start_enforcing() {
    emulator_start_ministack enforcing AUTH=true || return 1
    export SYNCLINE_TEST_AWS_ENFORCING=$emulator_endpoint
}

emulator_start_dynamodb() {
    local port
    port=$(emulator_port) || return 1
    emulator_spawn "$emulator_home/moto.log" moto_server -H 127.0.0.1 -p "$port"
    emulator_wait "$emulator_pid" "http://127.0.0.1:$port/moto-api/" || return 1
    export SYNCLINE_TEST_DYNAMODB="http://127.0.0.1:$port"
}

# Starts all. $1 is a folder with the packages; without it the one that is filled here.
emulator_start() {
    local here packages part
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    packages=${1:-$here/.test-env/aws}
    emulator_install "$packages" || return 1
    emulator_bin=$packages/bin
    emulator_home=$(mktemp -d "/tmp/syncline-aws.XXXXXX") || return 1
    mkdir "$emulator_home/python"
    # It answers in two writes, which Nagle's algorithm would hold apart by 40 ms.
    echo 'import socketserver; socketserver.StreamRequestHandler.disable_nagle_algorithm = True' \
        >"$emulator_home/python/sitecustomize.py"
    for part in aws enforcing dynamodb; do
        # Another process may have taken the port in between.
        "emulator_start_$part" || "emulator_start_$part" || { tail -n 30 "$emulator_home"/*.log >&2; return 1; }
    done
}

emulator_stop() {
    local process
    [ -n "$emulator_home" ] || return 0
    for process in ${emulator_processes[@]+"${emulator_processes[@]}"}; do
        # There is nothing worth an orderly end.
        kill -KILL -- "-$process" 2>/dev/null
    done
    rm -rf "$emulator_home"
    emulator_home=
    emulator_processes=()
}

# Run by itself it starts them and waits.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    trap emulator_stop EXIT
    trap 'exit 130' INT TERM HUP
    emulator_start || exit 1
    echo "export SYNCLINE_TEST_AWS=$SYNCLINE_TEST_AWS SYNCLINE_TEST_AWS_ENFORCING=$SYNCLINE_TEST_AWS_ENFORCING SYNCLINE_TEST_DYNAMODB=$SYNCLINE_TEST_DYNAMODB"
    while :; do sleep 3600 & wait $!; done
fi
