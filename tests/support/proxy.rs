//! A proxy between the program and a server, which can cut the answer to a message.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes bytes on, until a client's message is the one whose answer is to be lost.
pub struct Proxy {
    pub port: u16,
    cut_after: Arc<Mutex<Option<&'static [u8]>>>,
}

impl Proxy {
    /// Starts one in front of a server on this machine. It ends with the test.
    pub fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut_after: Arc<Mutex<Option<&'static [u8]>>> = Arc::default();
        let cut = Arc::clone(&cut_after);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let cut = Arc::clone(&cut);
                let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, to_server, &cut));
                std::thread::spawn(move || pass(server, to_client, &Mutex::default()));
            }
        });
        Proxy { port, cut_after }
    }

    /// The next message with these bytes reaches the server, and its answer is lost with the connection.
    pub fn cut_after(&self, message: &'static [u8]) {
        *self.cut_after.lock().unwrap() = Some(message);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut_after: &Mutex<Option<&'static [u8]>>) {
    let mut block = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut block) {
        let bytes = &block[..length];
        let is_last = cut_after.lock().unwrap().take_if(|message| bytes.windows(message.len()).any(|part| part == *message)).is_some();
        if is_last {
            // The client hears nothing any more; the server gets the message.
            from.shutdown(Shutdown::Both).ok();
        }
        if length == 0 || to.write_all(bytes).is_err() || is_last {
            break;
        }
    }
    // The server ends when it has done what it was told.
    to.shutdown(Shutdown::Write).ok();
}
