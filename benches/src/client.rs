//! The way of a publisher from its first byte to `publish`, by rml_rtmp's handshake and client session. Knows no sockets but in
//! [`publish`]. Media are not its matter: they are `wire`'s, sent as they are.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType},
};

use crate::Failure;

/// The application that publishers name.
pub const APP: &str = "live";

/// A publisher that has not begun to send media.
pub struct Client {
    handshake: Option<Handshake>,
    session: ClientSession,
    key: String,
    /// What the session wants to send once hands are shaken.
    later: Vec<u8>,
    output: Vec<u8>,
    publishing: bool,
}

impl Client {
    /// A client that will publish with this stream key.
    ///
    /// # Errors
    /// rml_rtmp's, which no key leads to.
    pub fn new(key: &str) -> Result<Self, Failure> {
        let mut config = ClientSessionConfig::new();
        // Chunks stay at the standard's first size until the preamble changes it.
        config.chunk_size = 128;
        let (session, results) = ClientSession::new(config).map_err(failure)?;
        let mut handshake = Handshake::new(PeerType::Client);
        let hello = handshake.generate_outbound_p0_and_p1().map_err(failure)?;
        let mut client = Self {
            handshake: Some(handshake),
            session,
            key: key.to_owned(),
            later: Vec::new(),
            output: Vec::new(),
            publishing: false,
        };
        client.take(results)?;
        let connect = client.session.request_connection(APP.into()).map_err(failure)?;
        client.take(vec![connect])?;
        client.later = std::mem::replace(&mut client.output, hello);
        Ok(client)
    }

    /// Takes what the server sent.
    ///
    /// # Errors
    /// The server has refused, or speaks something else.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes.to_vec();
        if let Some(handshake) = &mut self.handshake {
            match handshake.process_bytes(bytes).map_err(failure)? {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.output.extend(response_bytes);
                    return Ok(());
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    self.output.extend(response_bytes);
                    self.output.append(&mut self.later);
                    self.handshake = None;
                    rest = remaining_bytes;
                }
            }
        }
        let results = self.session.handle_input(&rest).map_err(failure)?;
        self.take(results)
    }

    /// What is to be sent.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether media may be sent.
    pub fn is_publishing(&self) -> bool {
        self.publishing
    }

    fn take(&mut self, results: Vec<ClientSessionResult>) -> Result<(), Failure> {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.output.extend(packet.bytes),
                ClientSessionResult::RaisedEvent(ClientSessionEvent::ConnectionRequestAccepted) => {
                    let publish = self
                        .session
                        .request_publishing(self.key.clone(), PublishRequestType::Live)
                        .map_err(failure)?;
                    self.take(vec![publish])?;
                }
                ClientSessionResult::RaisedEvent(ClientSessionEvent::PublishRequestAccepted) => self.publishing = true,
                ClientSessionResult::RaisedEvent(ClientSessionEvent::ConnectionRequestRejected { description }) => {
                    return Err(format!("connect was refused: {description}").into());
                }
                ClientSessionResult::RaisedEvent(_) | ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(())
    }
}

/// A connection on which `key` may be published.
///
/// # Errors
/// The server cannot be reached, refuses, or says nothing for 10 s.
pub fn publish(server: SocketAddr, key: &str) -> Result<TcpStream, Failure> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut client = Client::new(key)?;
    let mut buffer = [0; 4096];
    loop {
        socket.write_all(&client.output())?;
        if client.is_publishing() {
            return Ok(socket);
        }
        match socket.read(&mut buffer)? {
            0 => return Err(format!("{server} has closed the connection of {key}").into()),
            read => client.input(&buffer[..read])?,
        }
    }
}

/// rml_rtmp's errors are not all [`std::error::Error`] and `Send`.
fn failure(err: impl std::fmt::Debug) -> Failure {
    format!("rml_rtmp: {err:?}").into()
}
