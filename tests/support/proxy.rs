//! A proxy between the program and a server, which can lose a message or its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is lost, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The message reaches the server, and its answer is lost with the connection.
    Answer,
    /// The same, and nobody can connect any more.
    AnswerAndServer,
    /// The message is lost with the connection.
    Message,
    /// The message is lost, and the connection stays.
    MessageAlone,
}

type Planned = Arc<Mutex<Option<(&'static [u8], Cut)>>>;

/// Passes bytes on, until a client's message is the one where something is to be lost.
pub struct Proxy {
    pub port: u16,
    planned: Planned,
}

impl Proxy {
    /// Starts one in front of a server on this machine. It ends with the test.
    pub fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let planned = Planned::default();
        let (cut, closed) = (Arc::clone(&planned), Arc::new(Mutex::new(false)));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *closed.lock().unwrap() {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let (cut, closed) = (Arc::clone(&cut), Arc::clone(&closed));
                let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, to_server, &cut, &closed));
                std::thread::spawn(move || pass(server, to_client, &Planned::default(), &Mutex::default()));
            }
        });
        Proxy { port, planned }
    }

    /// At the next message with these bytes something is lost.
    pub fn cut(&self, message: &'static [u8], cut: Cut) {
        *self.planned.lock().unwrap() = Some((message, cut));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, planned: &Planned, closed: &Mutex<bool>) {
    let mut block = vec![0; 64 << 10];
    let is_it = |bytes: &[u8], message: &[u8]| bytes.windows(message.len()).any(|part| part == message);
    while let Ok(length) = from.read(&mut block) {
        let bytes = &block[..length];
        let cut = planned.lock().unwrap().take_if(|(message, _)| is_it(bytes, message)).map(|(_, cut)| cut);
        match cut {
            Some(Cut::MessageAlone) => continue,
            Some(_) => {
                *closed.lock().unwrap() = cut == Some(Cut::AnswerAndServer);
                // The client hears nothing any more.
                from.shutdown(Shutdown::Both).ok();
            }
            None => {}
        }
        let is_passed = cut != Some(Cut::Message) && length > 0 && to.write_all(bytes).is_ok();
        if !is_passed || cut.is_some() {
            break;
        }
    }
    // The server ends when it has done what it was told.
    to.shutdown(Shutdown::Write).ok();
}
