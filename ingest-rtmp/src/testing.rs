//! Code shared by tests: a client made of rml_rtmp's session, alone and on a socket, codec
//! configurations and tags.

use std::time::Duration;

use bytes::Bytes;
use hex_literal::hex;
use media_core::{Hub, broadcast::Limits, hub::Settings};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
        PublishRequestType, StreamMetadata,
    },
    time::RtmpTimestamp,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// `AVCDecoderConfigurationRecord`: 640x360, high profile, lengths of 4 bytes.
pub(crate) const AVC: &[u8] = &hex!(
    "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0 \
     fdf8f800"
);
/// Another one with the same codec string: its picture parameter set differs.
pub(crate) const AVC_SAME_STRING: &[u8] = &hex!(
    "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22d0 \
     fdf8f800"
);
/// Another one of level 3.1, with another codec string.
pub(crate) const AVC_OTHER_STRING: &[u8] = &hex!(
    "0164001f ffe1 0019 6764001facd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0 \
     fdf8f800"
);
/// `AudioSpecificConfig`: AAC-LC, 48 kHz, stereo.
pub(crate) const AAC: &[u8] = &hex!("1190");
/// An IDR slice and another, in AVCC form.
pub(crate) const IDR: &[u8] = &hex!("00000004 65888400");
pub(crate) const SLICE: &[u8] = &hex!("00000004 419a2000");

/// A hub for a few broadcasts.
pub(crate) fn hub() -> Hub {
    let segment = Duration::from_secs(2);
    let broadcast =
        Limits { bytes: 64 << 20, age: Duration::from_secs(10), segment, stall: segment };
    Hub::new(Settings { broadcast, reconnect: Duration::from_secs(10), max_channels: 8 })
}

pub(crate) fn video_config(record: &[u8]) -> Bytes {
    [&hex!("17 00 000000"), record].concat().into()
}

pub(crate) fn audio_config() -> Bytes {
    [&hex!("af 00"), AAC].concat().into()
}

pub(crate) fn video_frame(payload: &[u8]) -> Bytes {
    let first = if payload == IDR { 0x17 } else { 0x27 };
    [&[first, 1, 0, 0, 0], payload].concat().into()
}

pub(crate) fn audio_frame() -> Bytes {
    Bytes::from_static(&hex!("af 01 21004990021900238080"))
}

/// A client: rml_rtmp's handshake and session, without sockets.
pub(crate) struct Client {
    session: ClientSession,
    handshake: Option<Handshake>,
    /// Output of the session, sent after the handshake.
    later: Vec<u8>,
    /// Output to the server.
    pub(crate) output: Vec<u8>,
    pub(crate) events: Vec<ClientSessionEvent>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let (session, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        let output = handshake.generate_outbound_p0_and_p1().unwrap();
        let mut client = Self {
            session,
            handshake: None,
            later: Vec::new(),
            output: Vec::new(),
            events: Vec::new(),
        };
        client.take(results);
        client.later = std::mem::replace(&mut client.output, output);
        client.handshake = Some(handshake);
        client
    }

    /// Handles bytes from the server.
    pub(crate) fn input(&mut self, bytes: &[u8]) {
        let mut rest = bytes.to_vec();
        if let Some(handshake) = &mut self.handshake {
            match handshake.process_bytes(bytes).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.output.extend(response_bytes);
                    return;
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.output.extend(response_bytes);
                    self.output.append(&mut self.later);
                    self.handshake = None;
                    rest = remaining_bytes;
                }
            }
        }
        let results = self.session.handle_input(&rest).unwrap();
        self.take(results);
    }

    pub(crate) fn is_shaken(&self) -> bool {
        self.handshake.is_none()
    }

    fn take(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.output.extend(packet.bytes),
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    pub(crate) fn connect(&mut self, app: &str) {
        let result = self.session.request_connection(app.into()).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn publish(&mut self, key: &str) {
        let result = self.session.request_publishing(key.into(), PublishRequestType::Live).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn play(&mut self, name: &str) {
        let result = self.session.request_playback(name.into()).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn metadata(&mut self) {
        let metadata = StreamMetadata {
            video_width: Some(640),
            video_codec_id: Some(7),
            ..StreamMetadata::new()
        };
        let result = self.session.publish_metadata(&metadata).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn video(&mut self, ms: u32, body: Bytes) {
        let result = self.session.publish_video_data(body, RtmpTimestamp::new(ms), false).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn audio(&mut self, ms: u32, body: Bytes) {
        let result = self.session.publish_audio_data(body, RtmpTimestamp::new(ms), false).unwrap();
        self.take(vec![result]);
    }

    pub(crate) fn stop_publishing(&mut self) {
        let results = self.session.stop_publishing().unwrap();
        self.take(results);
    }
}

/// rml_rtmp's client on a socket.
pub(crate) struct Peer<S> {
    pub(crate) socket: S,
    pub(crate) client: Client,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) async fn flush(&mut self) {
        self.socket.write_all(&std::mem::take(&mut self.client.output)).await.unwrap();
    }

    /// Reads once; false at the end.
    pub(crate) async fn read(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        let read = timeout(Duration::from_secs(20), self.socket.read(&mut buffer))
            .await
            .expect("no response")
            .unwrap();
        if read > 0 {
            self.client.input(&buffer[..read]);
        }
        read > 0
    }

    pub(crate) async fn until(&mut self, done: impl Fn(&ClientSessionEvent) -> bool) {
        self.flush().await;
        while !self.client.events.iter().any(&done) {
            assert!(self.read().await, "closed; seen: {:?}", self.client.events);
            self.flush().await;
        }
    }

    pub(crate) async fn open(&mut self) {
        self.flush().await;
        while !self.client.is_shaken() {
            assert!(self.read().await);
        }
        self.client.connect("live");
        self.until(|seen| *seen == ClientSessionEvent::ConnectionRequestAccepted).await;
    }

    /// Reads to the end. Returns the codes of all statuses.
    pub(crate) async fn codes(mut self) -> Vec<String> {
        self.flush().await;
        while self.read().await {
            // It may be closed for writing already.
            let _ = self.socket.write_all(&std::mem::take(&mut self.client.output)).await;
        }
        let codes = self.client.events.into_iter().filter_map(|seen| match seen {
            ClientSessionEvent::UnhandleableOnStatusCode { code } => Some(code),
            _ => None,
        });
        codes.collect()
    }
}
