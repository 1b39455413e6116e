# The functions as the cloud runs them, for the tests that deploy them to the emulator; sourced by
# `tests/run`.

function_names=(webhook-intake recurring-pull initial-load apply retry)
# With them each function is a program too.
function_features=$(printf 'syncline-%s/lambda,' "${function_names[@]}")

# Puts the programs into $1, without what is only for debuggers, which is most of them. They are
# built together with all tests, so that nothing is built twice.
functions_build() {
    local name built=${CARGO_TARGET_DIR:-target}/debug
    cargo build --workspace --bins --tests --features "$function_features" || return 1
    mkdir -p "$1" || return 1
    for name in "${function_names[@]}"; do
        strip -o "$1/$name" "$built/$name" 2>/dev/null || cp "$built/$name" "$1/$name" || return 1
    done
}
