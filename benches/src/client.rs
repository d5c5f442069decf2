//! A publisher's connection from its first byte to `publish`, with rml_rtmp's handshake and client
//! session. Only [`publish`] uses a socket. Media are sent by `wire`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
        PublishRequestType,
    },
};

use crate::Failure;

/// The application of publishers.
pub const APP: &str = "live";

/// A publisher before its media.
pub struct Client {
    /// The handshake until it is complete.
    handshake: Option<Handshake>,
    /// The chunk and command layer.
    session: ClientSession,
    /// The stream key, sent when `connect` is accepted.
    key: String,
    /// Output of the session for after the handshake.
    later: Vec<u8>,
    /// Bytes to send now.
    output: Vec<u8>,
    /// Whether the server has accepted `publish`.
    publishing: bool,
}

impl Client {
    /// A client that will publish with this stream key.
    ///
    /// # Errors
    /// Those of rml_rtmp, which no key causes.
    pub fn new(key: &str) -> Result<Self, Failure> {
        let mut config = ClientSessionConfig::new();
        // Chunks have the standard's initial size until the preamble changes it.
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
        // C0 and C1 go first. The session's output, `connect` included, follows the handshake (RTMP
        // 1.0 5.2.1).
        client.later = std::mem::replace(&mut client.output, hello);
        Ok(client)
    }

    /// Handles bytes from the server.
    ///
    /// # Errors
    /// The server has refused, or does not speak RTMP.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes.to_vec();
        if let Some(handshake) = &mut self.handshake {
            // The bytes after the handshake are the session's first input.
            match handshake.process_bytes(bytes).map_err(failure)? {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.output.extend(response_bytes);
                    return Ok(());
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
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

    /// The output to send.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether media may be sent.
    pub fn is_publishing(&self) -> bool {
        self.publishing
    }

    /// Handles the session's results: bytes to send, and events that advance the connection.
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
                ClientSessionResult::RaisedEvent(ClientSessionEvent::PublishRequestAccepted) => {
                    self.publishing = true
                }
                ClientSessionResult::RaisedEvent(
                    ClientSessionEvent::ConnectionRequestRejected { description },
                ) => {
                    return Err(format!("connect was refused: {description}").into());
                }
                // Other events, such as acknowledgements, need no response.
                ClientSessionResult::RaisedEvent(_)
                | ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(())
    }
}

/// A connection on which `key` may be published.
///
/// # Errors
/// The server cannot be reached, refuses, or sends nothing for 10 s.
pub fn publish(server: SocketAddr, key: &str) -> Result<TcpStream, Failure> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut client = Client::new(key)?;
    let mut buffer = [0; 4096];
    loop {
        // The output is written before the check, because it may contain the last bytes of the
        // set-up.
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

/// Not all errors of rml_rtmp are [`std::error::Error`] and `Send`.
fn failure(err: impl std::fmt::Debug) -> Failure {
    format!("rml_rtmp: {err:?}").into()
}
