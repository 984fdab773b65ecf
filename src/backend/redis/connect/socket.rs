//! Owns what differs between a TCP socket and a Unix socket. Knows nothing of deadlines.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::backend::redis::connect::peer::PeerAddress;

/// How long a connection may be silent before the kernel probes it.
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Connects within `timeout`. `user_timeout`: after this long without an acknowledgement the kernel gives a TCP
    /// connection up.
    pub(crate) fn connect(
        address: &PeerAddress,
        timeout: Duration,
        user_timeout: Duration,
    ) -> io::Result<Self> {
        match address {
            PeerAddress::Tcp(address) => connect_tcp(*address, timeout, user_timeout).map(Self::Tcp),
            #[cfg(unix)]
            PeerAddress::Unix(path) => connect_unix(path, timeout).map(Self::Unix),
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Receives what has arrived, without waiting; with `keep`, it can be received again.
    #[cfg(unix)]
    pub(crate) fn receive_now(&self, buffer: &mut [u8], keep: bool) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let mut flags = RecvFlags::DONTWAIT;
        flags.set(RecvFlags::PEEK, keep);
        loop {
            match recv(self, &mut *buffer, flags).map_err(io::Error::from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome.map(|(_, count)| count),
            }
        }
    }

    /// Receives what has arrived, without waiting; with `keep`, it can be received again.
    #[cfg(not(unix))]
    pub(crate) fn receive_now(&self, buffer: &mut [u8], keep: bool) -> io::Result<usize> {
        let Self::Tcp(stream) = self;
        stream.set_nonblocking(true)?;
        let outcome = if keep { stream.peek(buffer) } else { (&*stream).read(buffer) };
        stream.set_nonblocking(false)?;
        outcome
    }
}

#[cfg(unix)]
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

fn connect_tcp(address: SocketAddr, timeout: Duration, user_timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    let options = SockRef::from(&stream);
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    // Closing resets the connection: bytes that the kernel has not sent yet are not sent later.
    options.set_linger(Some(Duration::ZERO))?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    options.set_tcp_user_timeout(Some(user_timeout))?;
    #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
    let _ = user_timeout;
    Ok(stream)
}

/// Connecting to a Unix socket waits only while the server has too many connections to accept. The timeout of writes
/// limits that wait.
#[cfg(unix)]
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    use std::time::Instant;

    let end = Instant::now() + timeout;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match socket.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map(|()| UnixStream::from(OwnedFd::from(socket))),
        }
    }
}
