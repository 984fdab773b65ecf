//! Free loopback ports.
//!
//! The ports are below those that an operating system gives to outgoing connections, so that none of these
//! takes the port of a server that is being restarted. Each process of the tests has a block of ports to
//! itself, and gives each port of it out in turn.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port of the first block.
const FIRST: u16 = 10_000;

/// How many ports a block has, and how many blocks there are.
const BLOCK: u16 = 1000;
const BLOCKS: u16 = 22;

/// A loopback port that no process listens on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..BLOCK {
        let port = OURS.first + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK;
        if listen(port).is_some() {
            return port;
        }
    }
    panic!("no port from {} to {} is free", OURS.first, OURS.first + BLOCK - 1);
}

/// The block of this process.
static OURS: LazyLock<Block> = LazyLock::new(|| {
    let start = fastrand::u16(..BLOCKS);
    let free = (0..BLOCKS).find_map(|number| Block::take((start + number) % BLOCKS));
    free.unwrap_or_else(|| panic!("{BLOCKS} other processes of these tests are running"))
});

/// A block of ports. A process that listens on the first port has the whole block, until it ends.
struct Block {
    first: u16,
    _listener: TcpListener,
}

impl Block {
    /// Takes a block, unless another process has it.
    fn take(number: u16) -> Option<Self> {
        let first = FIRST + number * BLOCK;
        Some(Self { first, _listener: listen(first)? })
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}
