//! The hub for tests as a program: for other clients, and to try commands by hand.

#![forbid(unsafe_code)]

use larql_hub_testing::{ALICE, TestHub};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    // The address of Xet's store.
    let hub = TestHub::start_with_xet(port, arguments.next());
    println!("HF_ENDPOINT={}", hub.endpoint());
    println!("HF_TOKEN={ALICE}");
    // The servers run in threads of their own until the program is ended.
    loop {
        std::thread::park();
    }
}
