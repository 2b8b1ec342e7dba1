//! Addresses for processes of this host, which nobody else has.

use super::nonce;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// So many addresses are tried.
const TRIES_MAX: usize = 16;

/// As many addresses that nobody listens on. Where all of 127.0.0.0/8 is this host, as on Linux, they have a host of their own, so that no
/// port is taken between now and the start.
pub fn free_addresses(count: usize) -> io::Result<Vec<String>> {
    for _ in 0..TRIES_MAX {
        let [second, third, fourth] = nonce()?;
        // 127.0.… is what people use.
        let host = Ipv4Addr::new(127, second | 0x80, third, fourth.clamp(1, 254));
        if let Ok(addresses) = free_on(host, count) {
            return Ok(addresses);
        }
    }
    free_on(Ipv4Addr::LOCALHOST, count)
}

fn free_on(host: Ipv4Addr, count: usize) -> io::Result<Vec<String>> {
    // All are held until all are found.
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind((host, 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_differ_and_can_be_listened_on() {
        let addresses = free_addresses(3).unwrap();
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 3);
        assert!(addresses.iter().all(|address| address.starts_with("127.") && TcpListener::bind(address).is_ok()));
    }
}
