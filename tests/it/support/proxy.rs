//! A TCP proxy in front of a server: it passes data on, holds it back, slows it down, refuses connections, or
//! cuts one after a given byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The direction of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Request,
    Answer,
}

/// The treatment of data and of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Nothing is delivered until the mode changes; then everything is.
    Hold,
    /// New connections are closed at once; existing ones still work.
    Refuse,
    /// New connections are closed at once, and existing ones too.
    Down,
    /// Replies arrive one byte at a time, with this pause before each.
    Drip(Duration),
    /// Requests arrive with this pause per kilobyte.
    Slow(Duration),
    /// Replies arrive twice: the copy right behind the reply, or after this pause.
    Twice(Option<Duration>),
}

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    mode: Mutex<Mode>,
    /// The next cut: its direction, and after how many more bytes.
    cut: Mutex<Option<(Way, usize)>>,
    /// The mode from the cut on.
    mode_after_cut: Mutex<Option<Mode>>,
    /// The number of connections so far, and how many of the first of them are held back.
    opened: AtomicUsize,
    held: AtomicUsize,
    /// How many times data came in, whether it was passed on or not.
    requests: AtomicUsize,
    /// How many replies were delivered a second time, after a pause.
    copies: AtomicUsize,
    /// How many connections were attempted, including refused ones; how many are open now, and how many were
    /// at most.
    tried: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    /// The sockets of each open connection.
    ends: Mutex<Vec<(usize, TcpStream)>>,
    ended: AtomicBool,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the address of a socket");
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            cut: Mutex::new(None),
            mode_after_cut: Mutex::new(None),
            opened: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            copies: AtomicUsize::new(0),
            tried: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            ends: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let mine = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if mine.ended.load(Ordering::SeqCst) {
                    return;
                }
                mine.tried.fetch_add(1, Ordering::SeqCst);
                if matches!(mine.mode(), Mode::Refuse | Mode::Down) {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                Pipe::connect_pipes(&client, &server, &mine);
                if mine.mode() == Mode::Down {
                    mine.sever();
                }
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        if mode == Mode::Down {
            self.shared.sever();
        }
    }

    /// Holds back data on the existing connections, and their closing; new connections work.
    pub(crate) fn hold_old(&self) {
        self.shared.held.store(self.shared.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub(crate) fn release_old(&self) {
        self.shared.held.store(0, Ordering::SeqCst);
    }

    /// Cuts, once, the connection on which the next `bytes` bytes in one direction have passed; with 0,
    /// before the first byte. The client sees the cut only after the server has processed the data that was
    /// passed on.
    pub(crate) fn cut(&self, way: Way, bytes: usize) {
        *self.shared.cut() = Some((way, bytes));
    }

    /// Like [`cut`](Self::cut), and changes the mode at the cut.
    pub(crate) fn cut_and_set(&self, way: Way, bytes: usize, mode: Mode) {
        *self.shared.mode_after_cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(mode);
        self.cut(way, bytes);
    }

    /// Whether the cut was made.
    pub(crate) fn is_cut(&self) -> bool {
        self.shared.cut().is_none()
    }

    /// Cancels a cut, and returns whether it was made.
    pub(crate) fn cancel_cut(&self) -> bool {
        self.shared.mode_after_cut.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.cut().take().is_none()
    }

    /// How many replies were delivered a second time, after a pause.
    pub(crate) fn copies(&self) -> usize {
        self.shared.copies.load(Ordering::SeqCst)
    }

    /// How many times something was sent to the server.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many connections were attempted, including refused ones.
    pub(crate) fn tried(&self) -> usize {
        self.shared.tried.load(Ordering::SeqCst)
    }

    /// The largest number of open connections since the last call.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.most.swap(self.shared.open.load(Ordering::SeqCst), Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every existing connection.
    fn sever(&self) {
        for (_, end) in self.ends.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn holds(&self, index: usize) -> bool {
        let held = self.mode() == Mode::Hold || index < self.held.load(Ordering::SeqCst);
        held && !self.ended.load(Ordering::SeqCst)
    }

    fn cut(&self) -> std::sync::MutexGuard<'_, Option<(Way, usize)>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of these bytes pass before the connection is cut, if it is.
    fn last(&self, way: Way, bytes: usize) -> Option<usize> {
        let mut cut = self.cut();
        match *cut {
            Some((cut_way, left)) if cut_way == way => {
                let mode = &mut *self.mode_after_cut.lock().unwrap_or_else(PoisonError::into_inner);
                if bytes >= left
                    && let Some(mode) = mode.take()
                {
                    *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
                }
                *cut = if bytes < left { Some((way, left - bytes)) } else { None };
                (bytes >= left).then_some(left)
            }
            _ => None,
        }
    }
}

/// One direction of a connection.
struct Pipe {
    from: TcpStream,
    to: TcpStream,
    way: Way,
    index: usize,
    /// Nothing more of a reply is passed on.
    severed: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Pipe {
    fn connect_pipes(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) {
        let index = shared.opened.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(open, Ordering::SeqCst);
        let ends = [client, server].map(|end| end.try_clone().expect("another handle of a socket"));
        shared.ends.lock().unwrap_or_else(PoisonError::into_inner).extend(ends.map(|end| (index, end)));
        let severed = Arc::new(AtomicBool::new(false));
        for (way, from, to) in [(Way::Request, client, server), (Way::Answer, server, client)] {
            let pair = to.set_nodelay(true).and_then(|()| Ok((from.try_clone()?, to.try_clone()?)));
            let (from, to) = pair.expect("another handle of a socket");
            let (severed, shared) = (Arc::clone(&severed), Arc::clone(shared));
            let pipe = Self { from, to, way, index, severed, shared };
            thread::spawn(move || pipe.pump());
        }
    }

    fn pump(mut self) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = self.from.read(&mut buffer) {
            if self.way == Way::Request {
                self.shared.requests.fetch_add(1, Ordering::SeqCst);
            }
            self.wait();
            let severed = self.way == Way::Answer && self.severed.load(Ordering::SeqCst);
            if severed {
                continue;
            }
            let last = self.shared.last(self.way, read);
            if last.is_some() {
                self.severed.store(true, Ordering::SeqCst);
            }
            if self.pass(&buffer[..last.unwrap_or(read)]).is_err() || last.is_some() {
                break;
            }
        }
        self.wait();
        match self.way {
            Way::Request => _ = self.shared.open.fetch_sub(1, Ordering::SeqCst),
            Way::Answer => {
                let mut ends = self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.retain(|(index, _)| *index != self.index);
            }
        }
        // Held data is delivered even if the sender has gone, as in a real network.
        let _ = self.to.shutdown(Shutdown::Write);
        if self.severed.load(Ordering::SeqCst) && self.way == Way::Answer {
            let _ = self.to.shutdown(Shutdown::Both);
            let _ = self.from.shutdown(Shutdown::Both);
        }
    }

    /// Waits while data, or the end of the connection, must be held back.
    fn wait(&self) {
        while self.shared.holds(self.index) {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.shared.mode() {
            Mode::Drip(pause) if self.way == Way::Answer => bytes.chunks(1).try_for_each(|byte| {
                thread::sleep(pause);
                self.to.write_all(byte)
            }),
            Mode::Twice(None) if self.way == Way::Answer => self.to.write_all(&[bytes, bytes].concat()),
            Mode::Twice(Some(pause)) if self.way == Way::Answer => {
                self.to.write_all(bytes)?;
                thread::sleep(pause);
                self.to.write_all(bytes)?;
                self.shared.copies.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Mode::Slow(pause) if self.way == Way::Request => {
                thread::sleep(pause * u32::try_from(bytes.len() / 1024).unwrap_or(u32::MAX));
                self.to.write_all(bytes)
            }
            _ => self.to.write_all(bytes),
        }
    }
}
