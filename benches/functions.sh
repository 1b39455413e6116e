# The functions as they are deployed, for what measures them; sourced by the benches.

source tests/functions.sh

# Builds them for this machine and sets `lambdas` to the folder they are in. A target is named, so
# that their flags are not those of programs that run while they are built.
lambdas_build() {
    local name host flags packages=()
    host=$(rustc -vV | sed -n 's/^host: //p') || return 1
    for name in "${function_names[@]}"; do
        packages+=(--package "syncline-$name" --bin "$name")
    done
    flags=$(make -s -f infra/aws/Makefile flags) || return 1
    (
        eval "$flags"
        cargo build --profile lambda --target "$host" --locked "${packages[@]}" --features "$function_features"
    ) || return 1
    lambdas=${CARGO_TARGET_DIR:-target}/$host/lambda
}
