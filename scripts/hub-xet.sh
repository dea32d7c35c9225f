#!/usr/bin/env bash
# Checks Xet: the tests of the feature `xet`, and LARQL beside the official client with Xet on both sides.
#
#   scripts/hub-xet.sh
#
# Xet's store for the loopback interface is a program of the crate that the official client is made of. It is built once, into
# target/xet-store, as is the client's virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
store=target/xet-store
if [ ! -x $store/bin/local_cas_server ]; then
    cargo install xet-client@1.8.0 --features simulation --bin local_cas_server \
        --debug --root $store --target-dir $store/build
    rm -rf $store/build
fi
cargo test --workspace --features larql-hub/xet --test hub
cargo build --workspace --features larql-cli/xet --bin larql --bin larql-test-hub
cp target/debug/larql $store/bin/larql
scripts/hub-clients.sh $store/bin/larql target/debug/larql-test-hub --xet $store/bin/local_cas_server
