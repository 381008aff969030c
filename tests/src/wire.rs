//! One end of a TCP connection, byte for byte: a client or an upstream that does exactly what a test
//! says, also what no client or server would do.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::within;

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Read, and not yet looked at.
    buffer: Vec<u8>,
}

/// The head of an HTTP/1 message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The request line, or the status line.
    pub first: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A whole HTTP/1 message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other end closed it.
    Closed,
    /// It was torn down.
    Reset,
}

/// How the body of a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// As its framing says.
    Whole(Message),
    /// Before its end, after this many bytes of the body.
    Broken(usize),
}

impl Head {
    /// The only value of a header, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands more than once: {self:?}");
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Of a status line.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    fn parse(bytes: &[u8]) -> Head {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        Head { first, headers: lines.filter(|line| !line.is_empty()).map(field).collect() }
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line}"));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        Wire { stream, buffer: Vec::new() }
    }

    pub async fn connect(address: SocketAddr) -> Wire {
        Wire::new(within("a connection", TcpStream::connect(address)).await.unwrap())
    }

    /// As [`Wire::connect`], to an end that may reset at once, or take nobody.
    ///
    /// # Errors
    /// It did.
    pub async fn try_connect(address: SocketAddr) -> Result<Wire, End> {
        match within("a connection", TcpStream::connect(address)).await {
            Ok(stream) => Ok(Wire::new(stream)),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(End::Reset)
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }

    /// How a connection ends that the other side ends at once, be it before this one knows that it stands.
    pub async fn ended_at_once(address: SocketAddr) -> End {
        match Wire::try_connect(address).await {
            Ok(mut wire) => wire.ends().await,
            Err(end) => end,
        }
    }

    /// With small buffers in the kernel, so that a reader that stops is soon felt.
    pub async fn connect_narrow(address: SocketAddr) -> Wire {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        Wire::new(within("a connection", socket.connect(address)).await.unwrap())
    }

    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("bytes to be sent", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// As [`Wire::send`], to an end that may be gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("bytes to be sent", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Writes until nothing more is taken for `pause`, and says how much was taken. `None` where
    /// all of `limit` was.
    pub async fn flood(&mut self, limit: usize, pause: Duration) -> Option<usize> {
        self.try_flood(limit, pause).await.unwrap()
    }

    /// As [`Wire::flood`], to an end that may be gone.
    ///
    /// # Errors
    /// It is gone.
    pub async fn try_flood(&mut self, limit: usize, pause: Duration) -> Result<Option<usize>, End> {
        let block = [b'x'; 16 * 1024];
        let mut sent = 0;
        while sent < limit {
            let room = block.len().min(limit - sent);
            match tokio::time::timeout(pause, self.stream.write(&block[..room])).await {
                Ok(Ok(written)) => sent += written,
                Ok(Err(_)) => return Err(End::Reset),
                Err(_) => return Ok(Some(sent)),
            }
        }
        Ok(None)
    }

    /// All that was sent has left this side.
    pub async fn delivered(&self) {
        socket2::SockRef::from(&self.stream).set_tcp_notsent_lowat(1).unwrap();
        crate::until("what was sent to leave", async || {
            let mut asked = [PollFd::new(&self.stream, PollFlags::OUT)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            (poll(&mut asked, Some(&at_once)).unwrap() > 0).then_some(())
        })
        .await;
    }

    /// No more bytes come from this side; those of the other side are still read.
    pub async fn finish(&mut self) {
        // Where the other side has torn the connection down, none come either.
        let _ = self.stream.shutdown().await;
    }

    /// `CONNECT`, and what is answered.
    pub async fn ask_for_tunnel(&mut self, destination: &str) -> Head {
        self.send(format!("CONNECT {destination} HTTP/1.1\r\nhost: {destination}\r\n\r\n")).await;
        self.head().await
    }

    /// The connection itself, of which nothing must have been read ahead.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&self.buffer));
        self.stream
    }

    /// Tears the connection down: the other side sees a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// More bytes, or how the connection ended.
    async fn more(&mut self) -> Result<(), End> {
        match within("bytes to come", self.stream.read_buf(&mut self.buffer)).await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(_) => Err(End::Reset),
        }
    }

    /// The next head.
    pub async fn head(&mut self) -> Head {
        self.try_head().await.unwrap_or_else(|end| {
            panic!(
                "no head came, the connection was {end:?} after {:?}",
                String::from_utf8_lossy(&self.buffer)
            )
        })
    }

    pub async fn try_head(&mut self) -> Result<Head, End> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Ok(Head::parse(&head));
            }
            self.more().await?;
        }
    }

    /// Exactly these bytes come next.
    pub async fn expect(&mut self, bytes: &[u8]) {
        let found = self.exactly(bytes.len()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(bytes));
    }

    pub async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.more().await?;
        }
    }

    /// The data of the next chunk; empty is the last one, whose trailers are still to be read.
    pub async fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size == 0 {
            return Ok(Vec::new());
        }
        let data = self.exactly(size).await?;
        assert_eq!(self.line().await?, "");
        Ok(data)
    }

    /// What follows the last chunk.
    pub async fn trailers(&mut self) -> Result<Vec<(String, String)>, End> {
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.push(field(&line));
        }
    }

    /// The next request.
    pub async fn request(&mut self) -> Message {
        let head = self.head().await;
        match self.rest(head, false).await {
            Transfer::Whole(message) => message,
            Transfer::Broken(bytes) => panic!("the request broke off after {bytes} bytes"),
        }
    }

    /// The next response, to a request that was not HEAD.
    pub async fn response(&mut self) -> Message {
        match self.transfer().await {
            Transfer::Whole(message) => message,
            Transfer::Broken(bytes) => panic!("the response broke off after {bytes} bytes"),
        }
    }

    /// The next response, whole or not.
    pub async fn transfer(&mut self) -> Transfer {
        let head = self.head().await;
        self.rest(head, true).await
    }

    /// The body of a message whose head is this.
    pub async fn rest(&mut self, head: Head, is_response: bool) -> Transfer {
        let mut message = Message { head, ..Message::default() };
        let is_bodiless = is_response && matches!(message.head.status(), 100..=199 | 204 | 304);
        if is_bodiless {
            return Transfer::Whole(message);
        }
        let result = if message.head.get("transfer-encoding") == Some("chunked") {
            self.chunks(&mut message).await
        } else if let Some(length) = message.head.get("content-length") {
            let length: usize = length.parse().unwrap();
            match self.exactly(length).await {
                Ok(body) => {
                    message.body = body;
                    Ok(())
                }
                Err(end) => {
                    message.body = std::mem::take(&mut self.buffer);
                    Err(end)
                }
            }
        } else if is_response {
            match self.end().await {
                (body, End::Closed) => {
                    message.body = body;
                    Ok(())
                }
                (_, end) => Err(end),
            }
        } else {
            Ok(())
        };
        match result {
            Ok(()) => Transfer::Whole(message),
            Err(_) => Transfer::Broken(message.body.len()),
        }
    }

    async fn chunks(&mut self, message: &mut Message) -> Result<(), End> {
        loop {
            let data = self.chunk().await?;
            if data.is_empty() {
                message.trailers = self.trailers().await?;
                return Ok(());
            }
            message.body.extend(data);
        }
    }

    /// Everything up to the end of the connection, and what end that was.
    pub async fn end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.more().await {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// The other side is gone, and said nothing more.
    pub async fn ends(&mut self) -> End {
        let (rest, end) = self.end().await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
        end
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Where a test waits for the proxy to connect.
#[derive(Debug)]
pub struct WireListener {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl WireListener {
    pub async fn bind() -> WireListener {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        WireListener { listener, address }
    }

    /// With small buffers in the kernel.
    pub fn bind_narrow() -> WireListener {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        WireListener { listener, address }
    }

    pub async fn accept(&self) -> Wire {
        Wire::new(self.accept_stream().await)
    }

    pub async fn accept_stream(&self) -> TcpStream {
        within("a connection to come in", self.listener.accept()).await.unwrap().0
    }

    /// Whether a connection has come in that nobody has taken.
    pub async fn has_more(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.listener.accept()).await.is_ok()
    }
}

/// An address that nobody listens on, nor will: it stays taken until the process ends.
pub fn refusing_address() -> SocketAddr {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// An address where connections are neither taken nor refused, as long as the result is held.
#[derive(Debug)]
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // Once its queue is full, the kernel lets every other connection wait.
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        BlackHole { address, _listener: listener, _queued: queued }
    }
}

impl Default for BlackHole {
    fn default() -> BlackHole {
        BlackHole::new()
    }
}
